"""The processes of one scenario: partyline, one or more; a sender; and what the stream of their namespace holds."""

import asyncio
import contextlib
import json
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson

from tests.chaos import ledger
from tests.chaos.judge import Letter, Seen, Verdict, judge
from tests.chaos.sender import Plan
from tests.farm import free_port
from tests.processes import (
    PROGRAM,
    Kin,
    Process,
    Space,
    client_of,
    drained,
    ready,
    space_at,
    started,
    until,
    write_config,
)

NAMESPACE = "chaos"
#: Beyond this, what is over is not going to settle.
PATIENCE_SECONDS = 120.0
_READ = 1000
_NAME = re.compile(rb"fact-\d+")
#: The target is above the rate that must be reached, so that an uneven tick is made up for.
_AIM = 1.12

Counts = dict[str, Any]


class Program:
    """`partyline serve`, as often as it is started; always on the same port, as behind a service manager."""

    def __init__(
        self, stack: ExitStack, folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._name = name
        self._command = command
        self._environment = environment
        self._starts = 0
        self.port = free_port()
        self.process: Process

    @property
    def base(self) -> str:
        """What its routes stand under."""
        return f"http://127.0.0.1:{self.port}"

    def configure(self, **sections: Any) -> Path:
        """Write its configuration; it has two workers unless told otherwise."""
        server = {"port": self.port, "workers": 2, **sections.pop("server", {})}
        return write_config(self._folder, NAMESPACE, server=server, **sections)

    def start(self) -> None:
        """Start it, and do not wait for it."""
        self._starts += 1
        command = [*self._command, "serve", "--config", str(self._folder / "partyline.toml")]
        name = f"{self._name}-{self._starts}"
        self.process = self._stack.enter_context(started(command, self._folder, name, self._environment))

    async def ready(self) -> None:
        """Wait until it could store a callback."""
        async with client_of(self.base) as client:
            await ready(client, self.process, PATIENCE_SECONDS)
        self.process.family()

    def children(self, kind: str) -> list[Kin]:
        """Those of its processes that are of a kind that run now: `http` or `pipeline`."""
        return [kin for kin in self.process.family()[1:] if f"-m receiver {kind}" in kin.command]

    async def child(self, kind: str) -> Kin:
        """One of them, as soon as there is one."""
        await until(lambda: bool(self.children(kind)), f"{self._name} has a child {kind}", PATIENCE_SECONDS)
        return self.children(kind)[0]

    async def metrics(self) -> dict[str, float]:
        """What /metrics says, by series."""
        async with client_of(self.base) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("partyline_"))
        return {name: float(value) for name, _, value in pairs}

    async def is_settled(self) -> None:
        """Wait until nothing waits in its spool."""
        async with client_of(self.base) as client:
            await ready(client, self.process, PATIENCE_SECONDS)
            with contextlib.suppress(httpx.TransportError):
                await drained(client, PATIENCE_SECONDS)


class Traffic:
    """A sender at work, as the scenario talks to it."""

    def __init__(
        self, process: Process, file: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._file = file
        self._reader = reader
        self._writer = writer
        self._calm_posted, self._calm_seconds = 0, 0.0
        self._began: Counts = {}

    async def tell(self, **request: Any) -> Counts:
        """Have it do something, and hear its counts so far."""
        self._writer.write(json.dumps(request).encode() + b"\n")
        return dict(orjson.loads(await self._reader.readline()))

    async def calm(self, seconds: float) -> None:
        """Go on without a fault: here the rate must be reached."""
        before = await self.tell()
        await asyncio.sleep(seconds)
        after = await self.tell()
        self._began = self._began or before
        self._calm_posted += after.get("200", 0) - before.get("200", 0)
        self._calm_seconds += after["at"] - before["at"]

    @property
    def calm_rate(self) -> float:
        """Callbacks answered 200 a second while there was no fault."""
        return self._calm_posted / self._calm_seconds if self._calm_seconds else 0.0

    async def finish(self) -> None:
        """No new facts; wait until the last redeliveries are answered or given up."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.tell(finish=True)

    def ledger(self) -> ledger.Ledger:
        """What it did so far."""
        return ledger.read(self._file)


class World:
    """A folder with everything in it that one scenario starts; all of it ends with the context."""

    def __init__(self, folder: Path, stack: ExitStack, *, rate: float, seed: int) -> None:
        self.folder = folder
        self.stack = stack
        self.rate = rate
        self.random = random.Random(seed)
        self.seed = seed
        self.traffic: Traffic

    async def serve(
        self,
        redis: Mapping[str, Any],
        name: str = "one",
        *,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (PROGRAM,),
        **sections: Any,
    ) -> Program:
        """A running service with an own folder, once it is ready."""
        folder = self.folder / name
        folder.mkdir()
        program = Program(self.stack, folder, name, command, environment or {})
        program.configure(redis=dict(redis), **sections)
        program.start()
        await program.ready()
        return program

    @asynccontextmanager
    async def sending(
        self, program: Program, *, rate: float | None = None, spoilt: float = 0.0, redelivered: float = 0.1
    ) -> AsyncIterator[Traffic]:
        """A sender that posts to a service."""
        folder = self.folder / "sender"
        folder.mkdir()
        aim = (self.rate if rate is None else rate) * _AIM
        plan = Plan(
            port=program.port,
            rate=aim,
            redelivered=redelivered,
            seed=self.seed,
            folder=str(folder),
            tag="fact",
            spoilt=spoilt,
        )
        command = [sys.executable, "-m", "tests.chaos.sender", msgspec.json.encode(plan).decode()]
        here = {"PYTHONPATH": str(Path.cwd())}
        with started(command, folder, "sender", here) as process:
            await process.says("ready")
            reader, writer = await asyncio.open_unix_connection(str(folder / "sender.sock"))
            try:
                self.traffic = Traffic(process, folder / "ledger", reader, writer)
                yield self.traffic
            finally:
                writer.close()

    async def outcome(self, url: str, *programs: Program, letters: bool = True) -> Verdict:
        """No new facts; once all is settled at these services, hold the stream against what the sender was answered.

        `letters`: and the dead letters; not where they cannot be told, since captures are gone.
        """
        await self.traffic.finish()
        for program in programs:
            await program.is_settled()
        await worked_off(url)
        return await _verdict(url, self.traffic, with_letters=letters)


# --- what came of it ---


async def worked_off(url: str) -> None:
    """Wait until every capture of the namespace is committed."""
    async with space_at(url, NAMESPACE) as space:
        await space.worked_off(PATIENCE_SECONDS)


async def _verdict(url: str, traffic: Traffic, *, with_letters: bool) -> Verdict:
    async with space_at(url, NAMESPACE) as space:
        return judge(traffic.ledger(), await stream(space), await letters(space) if with_letters else ())


async def stream(space: Space) -> list[Seen]:
    """Every event, oldest first."""
    decode = msgspec.json.Decoder(Seen).decode
    return [decode(fields[b"event"]) async for _, fields in _entries(space, space.keys.events)]


async def letters(space: Space) -> list[Letter]:
    """Every dead letter, with whose callback it is of."""
    wanted = {fields[b"capture"]: fields async for _, fields in _entries(space, space.keys.dead)}
    if not wanted:
        return []
    names = {
        fields[b"id"]: _name_in(fields[b"body"])
        async for _, fields in _entries(space, space.keys.captures)
        if fields[b"id"] in wanted
    }
    return [
        Letter(names.get(capture, capture.decode()), fields[b"reason"].decode()) for capture, fields in wanted.items()
    ]


def _name_in(body: bytes) -> str:
    found = _NAME.search(body)
    return found[0].decode() if found else "?"


async def _entries(space: Space, stream: str) -> AsyncIterator[tuple[bytes, dict[bytes, bytes]]]:
    after = "-"
    while found := await space.redis.xrange(stream, after, "+", count=_READ):
        for position, fields in found:
            yield position, fields
        after = f"({found[-1][0].decode()}"


def clock() -> float:
    """The machine's monotonic clock, as the ledger has it."""
    return time.monotonic()

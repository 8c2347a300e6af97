"""A process that posts callbacks at a rate, redelivers as the providers do, and notes everything in a ledger.

`python -m tests.chaos.sender <plan as JSON>`; it is told what to do over a unix socket, one JSON line a request.
"""

import asyncio
import heapq
import random
import sys
import time
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import uvloop

from tests.chaos.connection import Callback, Connection
from tests.chaos.facts import CONVERSATIONS, DEADLY, PROVIDERS, SPOILT, Fact, posted
from tests.chaos.habits import HABITS, pause_before
from tests.chaos.ledger import OK, Attempt, Told, Writer

_TICK_SECONDS = 0.004
_CONNECTIONS = 256
#: New facts wait while so many callbacks have no connection free: the senders of a provider are not endless either.
_WAITING = 512
#: For how long a redelivery of what was answered 200 waits, on average. A quarter are sent at once.
_REDELIVERY_SECONDS = 0.5
_AT_ONCE = 0.25
_SOON = 0.05
#: No pause is longer once a run is to end.
_LAST_SECONDS = 0.5
_SPOILT = [how for how in SPOILT if how != DEADLY]


class Plan(msgspec.Struct, frozen=True):
    """What a sender is to do."""

    port: int
    #: Callbacks a second, redeliveries of what was answered included.
    rate: float
    #: The share of answered callbacks that are redelivered all the same.
    redelivered: float
    seed: int
    #: Where its ledger and its socket are.
    folder: str
    #: What the names of its facts begin with.
    tag: str
    #: The share of callbacks that cannot be read.
    spoilt: float = 0.0


class Sender:
    """All providers at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._ledger = Writer(Path(plan.folder) / "ledger")
        self.rate = plan.rate
        self.clock_seconds = 0.0
        self.spoilt = plan.spoilt
        self._numbers = 0
        self._owed = 0.0
        self._later: list[tuple[float, int, Callback]] = []
        self._waiting: deque[Callback] = deque()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[tuple[str, int]] = set()
        self._finishing = False
        self._unread: deque[str] = deque()
        self.callbacks: list[Callback] = []
        self.counts: Counter[str] = Counter()

    # --- going on ---

    async def run(self) -> None:
        """Post until ended."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            self._invent(now - before)
            before = now
            self._recall(now)
            self._post()
            self._lose_patience(now)

    def _invent(self, seconds: float) -> None:
        """New facts, as many as are due."""
        while self._unread:
            self._new(self._unread.popleft())
        self._owed = min(self._owed + seconds * self.rate / (1 + self._plan.redelivered), self.rate)
        while self._owed >= 1 and len(self._waiting) < _WAITING:
            self._owed -= 1
            spoilt = self._random.choice(_SPOILT) if self._random.random() < self.spoilt else ""
            self._new(spoilt)

    def _new(self, spoilt: str) -> None:
        self._numbers += 1
        provider = PROVIDERS[self._numbers % len(PROVIDERS)]
        if spoilt == DEADLY:
            provider = PROVIDERS[0]
        happened_at = self.now().replace(microsecond=0)
        fact = Fact(f"{self._plan.tag}-{self._numbers}", provider, self._conversation(provider), happened_at, spoilt)
        self._busy.add((provider, fact.conversation))
        self._ledger.note(Told(self._numbers, fact.event_id, fact.name, provider, fact.conversation, spoilt))
        callback = Callback(self._numbers, fact)
        self.callbacks.append(callback)
        self._waiting.append(callback)

    def _conversation(self, provider: str) -> int:
        """One in which nothing is under way, if there is one: so most facts of a conversation have a known order."""
        for _ in range(4):
            number = self._random.randrange(CONVERSATIONS)
            if (provider, number) not in self._busy:
                break
        return number

    def now(self) -> datetime:
        """The providers' time."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_seconds)

    def _recall(self, now: float) -> None:
        """What is to be posted again by now."""
        while self._later and self._later[0][0] <= now:
            self._waiting.append(heapq.heappop(self._later)[2])

    def _post(self) -> None:
        while self._waiting and self._idle:
            callback = self._waiting.popleft()
            callback.attempts += 1
            self.counts["posted"] += 1
            request = posted(callback.fact, callback.attempts, self.now())
            self._idle.pop().post(callback, request, HABITS[callback.fact.provider].patience)
        wanted = min(len(self._waiting), _CONNECTIONS - len(self._all)) - self._opening
        for _ in range(min(wanted, 16)):
            self._opening += 1
            task = asyncio.ensure_future(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        """One more connection. Where nobody listens, what waits for it has failed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(2):
                _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._plan.port)
        except (OSError, TimeoutError):
            self._opening -= 1
            if self._waiting:
                callback = self._waiting.popleft()
                callback.attempts += 1
                self.counts["posted"] += 1
                self.answered(callback, time.monotonic(), 0, "no connection")
            return
        self._opening -= 1
        self._all.add(connection)
        self._idle.append(connection)
        self._post()

    def _lose_patience(self, now: float) -> None:
        for connection in [each for each in self._all if each.callback is not None and each.deadline < now]:
            connection.time_out()

    # --- what comes of it ---

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """A connection is free, or gone."""
        if reusable:
            self._idle.append(connection)
            return
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def answered(self, callback: Callback, sent_at: float, status: int, reason: str) -> None:
        """Note an answer, or that there was none, and do as the provider does."""
        self._ledger.note(Attempt(callback.number, sent_at, time.monotonic(), status, reason))
        self.counts[str(status)] += 1
        self._busy.discard((callback.fact.provider, callback.fact.conversation))
        if status == OK:
            again = callback.done is False and self._random.random() < self._plan.redelivered
            callback.done = True
            if again and not self._finishing:
                at_once = self._random.random() < _AT_ONCE
                self.again(callback, 0.0 if at_once else self._random.expovariate(1 / _REDELIVERY_SECONDS))
        elif not callback.done:
            pause = pause_before(callback.fact.provider, callback.attempts, status)
            if pause is None:
                self.counts["given_up"] += 1
            else:
                self.again(callback, pause)

    def again(self, callback: Callback, seconds: float) -> None:
        """Post it again after a while."""
        seconds = min(seconds, _LAST_SECONDS) if self._finishing else seconds
        heapq.heappush(self._later, (time.monotonic() + seconds, random.getrandbits(32), callback))

    # --- what it is told ---

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while line := await reader.readline():
            writer.write(orjson.dumps(await self._do(orjson.loads(line))) + b"\n")
            await writer.drain()
        writer.close()

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        self.rate = request.get("rate", self.rate)
        self.clock_seconds = request.get("clock_seconds", self.clock_seconds)
        self.spoilt = request.get("spoilt", self.spoilt)
        self._unread.extend(request.get("post", []))
        if "again" in request:
            self._redeliver(**request["again"])
        if request.get("finish"):
            await self._finish()
        self._ledger.flush()
        waiting = len(self._waiting) + len(self._later) + sum(1 for each in self._all if each.callback is not None)
        return {**self.counts, "facts": self._numbers, "waiting": waiting, "at": time.monotonic()}

    def _redeliver(self, seconds: float, every: int, since: int) -> None:
        """Within some seconds, post again what was answered 200: each `every`th fact, beginning with number `since`."""
        for callback in self.callbacks[since::every]:
            if callback.done:
                self.again(callback, self._random.random() * seconds)

    async def _finish(self) -> None:
        """No new facts; the last redeliveries, without their pauses, until each is answered or given up."""
        self.rate, self._finishing = 0.0, True
        self._owed = 0.0
        self._waiting.extend(callback for _, _, callback in self._later)
        self._later.clear()
        while self._later or self._waiting or any(each.callback is not None for each in self._all):  # noqa: ASYNC110
            await asyncio.sleep(_SOON)
        self._finishing = False


async def _main(plan: Plan) -> None:
    sender = Sender(plan)
    # The socket's name is short whatever the folder's: it is bound from within.
    server = await asyncio.start_unix_server(sender.obey, "sender.sock")
    print("ready", flush=True)
    async with server:
        await sender.run()


def main() -> None:
    """Do as the command line says, until killed."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(plan))


if __name__ == "__main__":
    main()

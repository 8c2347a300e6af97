"""Faults of receiving: a receiver that is away, slow or flooded, and callbacks that are refused or cannot be read."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson

from receiver.embedded import EmbeddedRedis
from tests.alarms.scene import Fault, Faults, Scene, again_and_again, at, meanwhile
from tests.processes import Service, frozen
from tests.service import ACCOUNTS, SECRETS, connection, head, proof
from tests.traffic import telnyx

#: A callback that comes as Redis is held up waits for more than a second, within the deadline.
_HELD_UP_SECONDS, _BETWEEN_SECONDS = 1.4, 0.3
_PATIENT = "5s"
_LIMIT = 64 * 1024
#: Signatures are taken that are 300 s old.
_STALE = timedelta(minutes=10)


async def nothing(scene: Scene) -> None:
    """Nothing: a receiver with traffic."""
    async with scene.receiver() as receiver, meanwhile(posting(scene, receiver)):
        await scene.calm()
        await scene.alarm()
        await scene.over()


async def killed(scene: Scene) -> None:
    """A receiver is killed; started again later."""
    async with scene.receiver() as receiver:
        await scene.calm()
        receiver.process.signal(signal.SIGKILL)
        await scene.alarm()
    async with scene.receiver(port=receiver.port):
        await scene.over()


async def overloaded(scene: Scene) -> None:
    """Somebody is slow with a large callback, so that others would be more than `server.max_in_flight`."""
    limits = {"max_body": _LIMIT, "max_in_flight": _LIMIT, "body_timeout": "1h"}
    async with scene.receiver(server=limits) as receiver:
        await scene.calm()
        async with connection(receiver.client) as (_, writer):
            held = b"x" * (_LIMIT - 1024)
            writer.write(head("POST", "/webhooks/telnyx/main-telnyx", [], b"content-length: %d" % _LIMIT) + held)
            await writer.drain()

            async def post(number: int) -> None:
                assert (await receiver.post("telnyx", large(f"large-{number}", 4096))).status_code == 503

            await asyncio.sleep(0.5)
            async with meanwhile(again_and_again(post, scene.pace.post_seconds)):
                await scene.alarm()
        await scene.over()


async def held_up(scene: Scene) -> None:
    """Redis is held up for more than a second at a time, as behind a disk that is far too slow."""
    with EmbeddedRedis(scene.folder / "r") as server:
        async with scene.receiver(redis=at(server.url, _PATIENT)) as receiver:

            async def hold_up(number: int) -> None:
                with frozen(server):
                    answering = asyncio.create_task(receiver.post("telnyx", telnyx(f"{number}")))
                    await asyncio.sleep(_HELD_UP_SECONDS)
                assert (await answering).status_code == 200

            await scene.calm()
            async with meanwhile(again_and_again(hold_up, _BETWEEN_SECONDS)):
                await scene.alarm()
            await scene.over()


async def refused(scene: Scene) -> None:
    """Callbacks that are unreadable, wrongly signed (kept aside or not), stale, from elsewhere, or to nobody."""
    usual = ACCOUNTS["main-telnyx"]
    changes: dict[str, dict[str, Any]] = {
        "garbled": {},
        "aside": {"on_unauthentic": "quarantine"},
        "altered": {},
        "late": {},
        "elsewhere": {"sources": ["192.0.2.0/24"]},
    }
    accounts = {name: {**usual, **change} for name, change in changes.items()}
    async with scene.receiver(accounts=accounts) as receiver:

        async def post(number: int) -> None:
            body, stranger = telnyx(f"{number}"), SECRETS["telnyx"][2]
            for account, content, secret, age in (
                ("garbled", b"no JSON, number %d" % number, None, timedelta()),
                ("altered", body, stranger, timedelta()),
                ("late", body, None, _STALE),
                ("elsewhere", body, None, timedelta()),
                ("nobody", body, None, timedelta()),
            ):
                await _post(receiver.client, account, content, secret, age)

        await scene.calm()
        for number in range(3):  # fewer than would look like a wrong secret
            await _post(receiver.client, "aside", telnyx(f"{number}"), SECRETS["telnyx"][2], timedelta())
        async with meanwhile(again_and_again(post, scene.pace.post_seconds)):
            await scene.alarm()
        await scene.over()


async def _post(client: httpx.AsyncClient, account: str, body: bytes, secret: str | None, age: timedelta) -> None:
    headers = proof("telnyx", body, secret, now=datetime.now(UTC) - age)
    await client.post(f"/webhooks/telnyx/{account}", content=body, headers=headers)


async def posting(scene: Scene, receiver: Service, size: int = 0, most: int | None = None) -> None:
    """Post one good callback after the other until cancelled, of so many bytes; no more than so many."""

    async def post(number: int) -> None:
        if most is not None and number >= most:
            return
        assert (await receiver.post("telnyx", large(f"{number}", size))).status_code == 200

    await again_and_again(post, scene.pace.post_seconds)


def large(name: str, size: int) -> bytes:
    """A callback with a text of so many bytes, or the usual one."""
    callback = orjson.loads(telnyx(name))
    if size:
        callback["data"]["payload"]["text"] = "x" * size
    return orjson.dumps(callback)


RECEIVING: Faults = {
    "nothing": Fault(nothing),
    "killed": Fault(killed, frozenset({'PartylineDown{instance="one"}'})),
    "overloaded": Fault(overloaded, frozenset({'PartylineAnswers503{outcome="overloaded"}'})),
    "held-up": Fault(held_up, frozenset({'PartylineAnswersSlow{provider="telnyx"}'}), scrape_seconds=3.5),
    "refused": Fault(
        refused,
        frozenset(
            {
                'PartylineDeadLetters{account="garbled",provider="telnyx",reason="unreadable"}',
                'PartylineQuarantineGrowing{account="aside",outcome="quarantined_signature_mismatch",provider="telnyx"}',
                'PartylineSignatureMismatches{account="altered",provider="telnyx"}',
                'PartylineStaleSignatures{account="late",provider="telnyx"}',
                'PartylineSourcesRefused{account="elsewhere",provider="telnyx"}',
                'PartylineRefusalsJumped{outcome="unknown_account"}',
            }
        ),
    ),
}

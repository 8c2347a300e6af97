"""Builds captures, facts and evidence by hand, and commits them to a real Redis as a pipeline does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from redis.asyncio import Redis

from correlator.conversation import Conversation
from correlator.gathering import Entry
from correlator.lease import Lease
from correlator.records import decode, encode
from correlator.store import Store
from schemas.address import Address
from schemas.callback import AccountFacts, Capture, Headers
from schemas.envelope import SEQUENCE_DIGITS
from schemas.events import (
    AccountNotice,
    Event,
    EventBody,
    Evidence,
    Identity,
    Kind,
    Message,
    MessageReceived,
    Notice,
    Parsed,
    Pointer,
    Typing,
    TypingState,
    Unreadable,
    group_identity,
    pair_identity,
    set_identity,
)
from schemas.ids import CaptureId, Scope, event_id
from schemas.keyspace import Keyspace

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ID_KEY = b"a secret of ours"
MESSAGES_SECONDS = 30 * 86400
DAY = 86400

LINE, LINE_2 = Address("+15555550100"), Address("+15555550109")
ANN, BOB, CAT = Address("+15555550111"), Address("+15555550112"), Address("+15555550113")


# --- what is committed ---


def capture(
    number: int = 1,
    *,
    provider: str = "telnyx",
    account: str = "main",
    after_seconds: float = 0,
    lines: tuple[str, ...] = (),
    dedupe_seconds: int = 8 * DAY,
    headers: Headers = (),
    body: bytes = b"{}",
) -> Capture:
    """A capture received some time after NOW."""
    return Capture(
        id=CaptureId(f"cp_{number}"),
        kind="callback",
        provider=provider,
        account=account,
        received_at=NOW + timedelta(seconds=after_seconds),
        assurance="signed",
        headers=headers,
        body=body,
        facts=AccountFacts(lines=lines, dedupe_seconds=dedupe_seconds),
    )


def event(
    name: str,
    evidence: Evidence | None,
    *,
    body: EventBody | None = None,
    provider: str = "telnyx",
    account: str = "main",
    at_seconds: float | None = 0,
) -> Event:
    """One fact named `name`, a message received unless `body` says otherwise, some time after NOW."""
    return Event(
        id=event_id(provider, account, name),
        body=body or MessageReceived(message(name)),
        occurred_at=None if at_seconds is None else NOW + timedelta(seconds=at_seconds),
        evidence=evidence,
        provider_type="message.received",
        provider_ids={},
    )


def message(name: str) -> Message:
    """A text by Ann."""
    return Message(id=name, direction="inbound", sender=ANN, text="Seven it is", media=(), channel="mms")


def notice(name: str, *, account: str = "main") -> Event:
    """A fact about the account as a whole."""
    return event(name, None, body=AccountNotice(Notice("10dlc.brand.update", {"brand": name})), account=account)


def typing(name: str, evidence: Evidence) -> Event:
    """Ann starts typing."""
    return event(name, evidence, body=Typing(TypingState(ANN, is_typing=True)))


def unreadable(path: str = "$.data") -> Unreadable:
    """An element that could not be read."""
    return Unreadable("unreadable", path, "missing, or not an object")


# --- evidence ---


def pair(contact: Address = ANN, line: Address = LINE, **more: Any) -> Evidence:
    """A direct conversation of a line of ours."""
    return Evidence(pair_identity(line, contact), lines=(line,), **more)


def everyone(*addresses: Address, lines: tuple[Address, ...] = (LINE,)) -> Evidence:
    """A complete set of addresses."""
    return Evidence(set_identity(frozenset(addresses)), lines=lines)


def group(name: str = "sb_group_1", **more: Any) -> Evidence:
    """A group with an id of its own."""
    return Evidence(group_identity("", name), **more)


def pointed(word: str, kind: Kind = "unknown") -> Evidence:
    """A fact of which only a message id is known."""
    return Evidence(pointers=(Pointer("message", (word,)),), kind=kind)


def key(
    identity: Identity, keyspace: Keyspace, *, provider: str = "telnyx", account: str = "main", id_key: bytes = ID_KEY
) -> str:
    """The conversation key of an identity."""
    return Scope(id_key, keyspace.namespace, provider, account).conversation(identity.kind, identity.parts)


# --- committing ---


async def conversation_record(redis: Any, keyspace: Keyspace, key: str) -> Conversation | None:
    """The record under a conversation's key."""
    stored: bytes | None = await redis.get(keyspace.conversation(key))
    return None if stored is None else decode(Conversation, stored[SEQUENCE_DIGITS:])


def stored_conversation(record: Conversation, sequence: int = 0) -> bytes:
    """What stands under its key: the number of its last event, then the record."""
    return f"{sequence:0{SEQUENCE_DIGITS}}".encode() + encode(record)


class Engine:
    """A store with the lease in hand, that numbers the log positions itself."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        #: Untyped: what a command answers depends on how the client was made.
        self.redis: Any = redis
        self.keyspace = keyspace
        self.store = Store(redis, keyspace, ID_KEY, MESSAGES_SECONDS)
        self.lease = Lease(redis, keyspace, 60)
        self._position = 0

    def entry(self, *parsed: Parsed, replayed: bool = False, **about: Any) -> Entry:
        """The next entry of the log: a capture, as `capture` makes it, with what was read from it."""
        self._position += 1
        return Entry(f"{self._position}-0", capture(self._position, **about), parsed, replayed)

    async def commit(self, *entries: Entry) -> list[int | None]:
        """Commit entries in one batch; the sequences, or what stands for them."""
        outcomes = await self.store.commit(self.lease.token, await self.store.cursor(), entries)
        return [outcome.sequence for outcome in outcomes]

    async def feed(self, *parsed: Parsed, **about: Any) -> list[int | None]:
        """Commit one capture by itself."""
        return await self.commit(self.entry(*parsed, **about))

    async def raw_events(self) -> list[bytes]:
        """The stream, oldest first, as bytes."""
        return [fields[b"event"] for _, fields in await self.redis.xrange(self.keyspace.events)]

    async def events(self) -> list[dict[str, Any]]:
        """The stream, oldest first."""
        return [orjson.loads(raw) for raw in await self.raw_events()]

    async def subjects(self) -> list[str]:
        """The subject of each event in the stream."""
        return [item["subject"] for item in await self.events()]

    async def shown(self) -> dict[str, Any]:
        """`data.conversation` of the last event in the stream."""
        conversation: dict[str, Any] = (await self.events())[-1]["data"]["conversation"]
        return conversation

    async def dead(self) -> list[tuple[str, str, str]]:
        """Capture, reason and detail of each dead letter, oldest first."""
        return [
            (fields[b"capture"].decode(), fields[b"reason"].decode(), fields[b"detail"].decode())
            for _, fields in await self.redis.xrange(self.keyspace.dead)
        ]

    async def dump(self) -> dict[bytes, tuple[bytes, bool]]:
        """Every key of the namespace: its whole value as Redis serialises it, and whether it expires."""
        keys = sorted(await self.redis.keys(f"{self.keyspace.prefix}*"))
        return {name: (await self.redis.dump(name), await self.redis.pttl(name) > 0) for name in keys}


async def started(redis: Redis, keyspace: Keyspace) -> Engine:
    """An engine that holds the lease."""
    engine = Engine(redis, keyspace)
    assert await engine.lease.take()
    return engine


@asynccontextmanager
async def overhearing(redis: Redis, keyspace: Keyspace) -> AsyncIterator[list[tuple[str, bytes]]]:
    """A list that holds, once the context is left, everything published within it: channel and bytes."""
    heard: list[tuple[str, bytes]] = []
    pubsub: Any = redis.pubsub()
    last = f"{keyspace.channels}last"
    try:
        await pubsub.psubscribe(keyspace.every_channel)
        await pubsub.get_message(timeout=5.0)
        yield heard
        await redis.publish(last, b"")
        async with asyncio.timeout(5):
            async for said in pubsub.listen():
                if said["channel"].decode() == last:
                    break
                heard.append((said["channel"].decode(), said["data"]))
    finally:
        await pubsub.aclose()

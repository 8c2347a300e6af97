"""Forgets a person: captures, events, dead letters, quarantined requests and records that name them.

Looking and removing are two steps, so that a person can be asked between them. What is removed is looked for again
under the lease, when no pipeline works; receivers go on capturing. Captures that no pipeline has read yet stay, for
what was answered 200 is published: forgetting again, once they were read, finds them.

A capture is kept or removed whole, since it is kept byte by byte. One that also tells of others goes too; their events
stay in the stream.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import msgspec
import orjson
from redis.asyncio import Redis

from correlator.forget import Forgetting, Noted, Survey, Work
from correlator.index import message_term
from correlator.lease import leased
from correlator.scripts import answer
from receiver.captures import LogEntry
from receiver.naming import Naming
from receiver.parsing import read
from receiver.provider import Provider
from schemas.address import Address
from schemas.callback import Capture
from schemas.clock import parse_time
from schemas.errors import PartylineError
from schemas.events import Unreadable
from schemas.keyspace import Keyspace

_PAGE = 200

#: What is counted, in the order of being shown.
CAPTURES, EVENTS, DEAD, QUARANTINE = "captures", "events", "dead letters", "quarantined requests"
KINDS: Final = (
    *(CAPTURES, EVENTS, DEAD, QUARANTINE),
    *("conversations", "memberships", "identities", "message ids", "roll-ups", "references"),
)


class OwnLine(PartylineError):
    """A line of ours is nobody to be forgotten."""

    reason = "own_line"


class OtherPerson(PartylineError):
    """Between asking and doing it was learned that further addresses are the same person's."""

    reason = "other_person"


class Request(msgspec.Struct, frozen=True):
    """Whom to forget, and where."""

    address: Address
    #: The accounts that are configured, as `telnyx/main`, and the lines of each.
    accounts: dict[str, frozenset[Address]]
    #: Only at this provider, only at this account; None: anywhere.
    provider: str | None = None
    account: str | None = None

    def means(self, path: str) -> bool:
        """Whether an account (`telnyx/main`) is meant."""
        provider, _, account = path.partition("/")
        return self.provider in {None, provider} and self.account in {None, account}


class Found(msgspec.Struct):
    """What names a person."""

    addresses: tuple[Address, ...] = ()
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    #: Captures among those found that tell of others too.
    shared: int = 0
    #: Captures that name the person and that no pipeline has read yet.
    waiting: int = 0
    #: Captures and events of others with an address of the person in a text.
    mentions: int = 0


def together(found: Sequence[Found]) -> Found:
    """What several partitions hold of one person."""
    return Found(
        addresses=tuple(dict.fromkeys(address for each in found for address in each.addresses)),
        counts=Counter[str]() + sum((each.counts for each in found), Counter()),
        shared=sum(each.shared for each in found),
        waiting=sum(each.waiting for each in found),
        mentions=sum(each.mentions for each in found),
    )


class _Streams(msgspec.Struct):
    """Which entries of each stream go."""

    captures: list[str] = msgspec.field(default_factory=list)
    events: list[str] = msgspec.field(default_factory=list)
    dead: list[str] = msgspec.field(default_factory=list)
    quarantine: list[str] = msgspec.field(default_factory=list)
    #: By stream: what groups of subscribers gave up on.
    given_up: dict[bytes, list[bytes]] = msgspec.field(default_factory=dict)
    #: The ids of those captures, and of those whose events are in a conversation that goes.
    ids: set[str] = msgspec.field(default_factory=set)
    noted: list[Noted] = msgspec.field(default_factory=list)


class Search:
    """One request at one namespace. All calls raise StoreError."""

    def __init__(
        self, redis: Redis, keyspace: Keyspace, id_key: bytes, providers: dict[str, Provider], request: Request
    ) -> None:
        self._redis = redis
        self._keys = keyspace
        self._id_key = id_key
        self._providers = providers
        self._request = request

    async def look(self) -> Found:
        """What there is to be forgotten, as far as that can be told while a pipeline works."""
        found, *_ = await self._look(self._records())
        return found

    async def forget(self, expected: Iterable[Address]) -> Found:
        """Forget it, and say what was removed.

        `expected`: the addresses that whoever asked has agreed to. Raises OtherPerson, having done nothing, if the
        person has others by now; LeaseLost if it has to be run again.
        """
        async with leased(self._redis, self._keys) as lease:
            records = self._records()
            found, streams, work = await self._look(records)
            if not frozenset(found.addresses) <= frozenset(expected):
                raise OtherPerson("further addresses turned out to be the same person's: run it again")
            # In an order that can be broken off: what tells of the rest goes after it.
            for stream, positions in streams.given_up.items():
                await answer(self._redis.xdel(stream, *positions))
            await records.withdraw(lease.token, self._keys.dead, streams.dead)
            await records.withdraw(lease.token, self._keys.captures, streams.captures)
            await records.unnote(lease.token, streams.noted)
            await records.withdraw(lease.token, self._keys.events, streams.events)
            await records.withdraw(lease.token, self._keys.quarantine, streams.quarantine)
            await records.carry_out(lease.token, work)
        return found

    # --- looking ---

    def _records(self) -> Forgetting:
        return Forgetting(self._redis, self._keys, self._id_key, self._request.means)

    async def _look(self, records: Forgetting) -> tuple[Found, _Streams, Work]:
        survey = await records.survey(self._request.address, self._request.accounts)
        await self._refuse_own_lines(records, survey)
        naming = Naming(survey.erasure.addresses, survey.erasure.keys)
        found, streams = Found(tuple(sorted(survey.erasure.addresses))), _Streams()
        await self._look_at_events(naming, found, streams)
        await self._look_at_captures(naming, found, streams)
        await self._look_at_the_rest(naming, streams)
        await self._look_at_subscribers(naming, streams)
        work = await records.work(survey)
        found.counts = work.counted()
        found.counts["message ids"] += len(streams.noted)
        for kind, positions in (
            (CAPTURES, streams.captures),
            (EVENTS, streams.events),
            (DEAD, streams.dead),
            (QUARANTINE, streams.quarantine),
        ):
            found.counts[kind] = len(positions)
        found.counts[DEAD] += sum(map(len, streams.given_up.values()))
        return found, streams, work

    async def _refuse_own_lines(self, records: Forgetting, survey: Survey) -> None:
        ours = {line for lines in self._request.accounts.values() for line in lines}
        if not survey.erasure.addresses.isdisjoint(ours | await records.lines(survey.places)):
            raise OwnLine("that is a line of your own, and in every conversation that it has: it cannot be forgotten")

    async def _look_at_events(self, naming: Naming, found: Found, streams: _Streams) -> None:
        async for entry in self._entries(self._keys.events):
            raw = entry.fields.get(b"event", b"")
            envelope = orjson.loads(raw)
            provider = envelope["data"]["provider"]
            path = f"{provider['name']}/{provider['account']}"
            if not self._request.means(path):
                continue
            if naming.is_in_event(envelope):
                streams.events.append(entry.position)
                if naming.is_in_conversation_that_goes(envelope):
                    streams.ids.add(envelope["data"]["capture"])
                streams.noted += self._noted(path, envelope["data"])
            else:
                found.mentions += naming.is_mentioned(raw, provider["name"])

    def _noted(self, path: str, data: dict[str, Any]) -> list[Noted]:
        """Where the message of an event can be looked up by its id."""
        message, received_at = data.get("message"), parse_time(data["received_at"])
        if not message or message["direction"] == "outbound" or message["id"] is None or received_at is None:
            return []
        place, field = self._keys.identifiers(message_term(path, message["id"]), int(received_at.timestamp()))[0]
        return [Noted(place, field)]

    async def _look_at_captures(self, naming: Naming, found: Found, streams: _Streams) -> None:
        """Those that were read by a pipeline, and how many more there are."""
        cursor = _place((await answer(self._redis.get(self._keys.cursor)) or b"0-0").decode())
        async for entry in self._entries(self._keys.captures):
            parsed = read(entry, self._providers)
            capture = parsed.capture
            damaged = any(isinstance(item, Unreadable) and item.reason == "damaged" for item in parsed.parsed)
            if not (damaged or self._request.means(f"{capture.provider}/{capture.account}")):
                continue
            named = _is_in_any(naming, entry) if damaged else naming.is_in_capture(capture, parsed.parsed)
            if not (named or capture.id in streams.ids):
                found.mentions += naming.is_mentioned(capture.body, capture.provider)
            elif _place(entry.position) > cursor:
                found.waiting += 1
            else:
                streams.captures.append(entry.position)
                streams.ids.add(capture.id)
                found.shared += _tells_of_others(naming, capture, parsed.parsed)

    async def _look_at_the_rest(self, naming: Naming, streams: _Streams) -> None:
        async for entry in self._entries(self._keys.dead):
            if entry.fields.get(b"capture", b"").decode(errors="replace") in streams.ids:
                streams.dead.append(entry.position)
        async for entry in self._entries(self._keys.quarantine):
            provider, account = (entry.fields.get(name, b"").decode() for name in (b"provider", b"account"))
            if self._request.means(f"{provider}/{account}") and _is_in_any(naming, entry):
                streams.quarantine.append(entry.position)

    async def _look_at_subscribers(self, naming: Naming, streams: _Streams) -> None:
        """Dead letters of groups: of events that go, and of those gone before whose id holds an address."""
        going = set(streams.events)
        async for stream in self._redis.scan_iter(self._keys.undeliverable("*"), count=1000):
            async for entry in self._entries(stream):
                event = entry.fields.get(b"event", b"").decode(errors="replace")
                provider, account, *_ = [*event.split(":"), "", ""]
                is_named = self._request.means(f"{provider}/{account}") and naming.is_in_id(event, provider)
                if is_named or entry.fields.get(b"position", b"").decode(errors="replace") in going:
                    streams.given_up.setdefault(stream, []).append(entry.position.encode())

    async def _entries(self, stream: str | bytes) -> AsyncIterator[LogEntry]:
        """Every entry of a stream, oldest first, a page at a time."""
        begin = "-"
        while page := await answer(self._redis.xrange(stream, begin, "+", count=_PAGE)):
            for position, fields in page:
                yield LogEntry(position.decode(), fields)
            begin = f"({page[-1][0].decode()}"


def _place(position: str) -> tuple[int, int]:
    milliseconds, _, counter = position.partition("-")
    return int(milliseconds), int(counter)


def _is_in_any(naming: Naming, entry: LogEntry) -> bool:
    """Whether the person is mentioned in any field: for what nobody has read, or can read."""
    provider = entry.fields.get(b"provider", b"").decode(errors="replace")
    return any(naming.is_mentioned(value, provider) for value in entry.fields.values())


def _tells_of_others(naming: Naming, capture: Capture, items: Iterable[Any]) -> bool:
    return not all(naming.is_in_item(item, capture) for item in items)

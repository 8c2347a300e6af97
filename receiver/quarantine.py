"""The quarantine: what was refused and kept aside, judged again after the configuration was corrected."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import msgspec
from redis.asyncio import Redis

from correlator.scripts import Scripts, answer
from receiver import streams
from receiver.captures import LogEntry
from receiver.provider import Provider
from receiver.settings import Account
from receiver.veil import Veil
from receiver.verification import NotJudged, judge
from schemas.callback import Callback
from schemas.errors import AuthenticationError, ParseError
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, Quarantined, decode_quarantined, encode_capture


class Kept(msgspec.Struct, frozen=True):
    """An entry at its place; `entry` is None for one that cannot be decoded."""

    position: str
    id: str
    size: int
    entry: Quarantined | None
    #: The facts of the account as they stand in it.
    facts: bytes = b""


class Judged(msgspec.Struct, frozen=True):
    """What became of an entry: `captured` under the credential that proved it, or why it stays."""

    id: str
    captured: bool
    #: The credential, as in `secrets[0]`; or the reason.
    word: str
    detail: str


class Quarantine:
    """The stream of a namespace that keeps unauthentic requests, and the only way out of it."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self._redis = redis
        self._keys = keyspace
        self._scripts = Scripts(redis)

    async def entries(self) -> AsyncIterator[Kept]:
        """Everything in it, oldest first. Raises StoreError."""
        async for found in streams.scan(self._redis, self._keys.quarantine):
            yield _kept(found)

    async def drop(self, kept: Sequence[Kept]) -> int:
        """Remove entries for good; how many there were."""
        return await streams.remove(self._redis, self._keys, self._keys.quarantine, [each.position for each in kept])

    async def judge(
        self,
        kept: Kept,
        accounts: Mapping[str, Account],
        providers: Mapping[str, Provider],
        veil: Veil,
        now: datetime,
    ) -> Judged:
        """Judge an entry at its time of receipt with the present configuration; what proves authentic is captured."""
        entry = kept.entry
        if entry is None:
            return Judged(kept.id, captured=False, word="damaged", detail="the entry cannot be read")
        account = accounts.get(entry.account)
        if account is None:
            return Judged(
                kept.id, captured=False, word="unknown_account", detail=f"no account {entry.account} any more"
            )
        try:
            callback = judge(entry, account, providers[account.provider], veil, now)
        except (AuthenticationError, NotJudged) as error:
            return Judged(kept.id, captured=False, word=error.reason, detail=str(error))
        if not await self._release(kept, entry, callback):
            return Judged(kept.id, captured=False, word="gone", detail="somebody else took it out meanwhile")
        return Judged(kept.id, captured=True, word=callback.credential, detail=callback.assurance)

    async def _release(self, kept: Kept, entry: Quarantined, callback: Callback) -> bool:
        """Move an entry into the capture log in one step, under its own id and its facts of then."""
        keys = [self._keys.captures, self._keys.bytes_of(self._keys.captures)]
        keys += [self._keys.quarantine, self._keys.bytes_of(self._keys.quarantine)]
        args: list[str | bytes] = [kept.position]
        for pair in zip(CAPTURE_FIELDS, encode_capture(entry.id, callback, kept.facts), strict=True):
            args += pair
        return bool(await answer(self._scripts.release(keys=keys, args=args)))


def _kept(found: LogEntry) -> Kept:
    identifier = found.fields.get(b"id", found.position.encode()).decode(errors="replace")
    size = len(found.fields.get(b"body", b""))
    try:
        entry = decode_quarantined(found.fields)
    except ParseError:
        return Kept(found.position, identifier, size, None)
    return Kept(found.position, identifier, size, entry, found.fields[b"facts"])

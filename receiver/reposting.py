"""Posts captures to another receiver: over HTTP, in their order, with the original bytes and a replay token.

One request at a time, so that the order of the other's log is the order here. A request may be repeated when its answer
got lost: the same capture twice does no harm there, since its events have the same ids. Everything that would not get
better by itself ends it, with the setting to look at; what is told then is where to go on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx
import msgspec

from receiver.authentication import ORIGINAL_HEADERS, ReplayMalformed, repost_headers
from receiver.captures import LogEntry
from schemas.callback import Capture
from schemas.errors import (
    AuthenticationError,
    BodyTooLarge,
    ConfigError,
    ParseError,
    PartylineError,
    SignatureMissing,
    UnknownAccount,
)
from schemas.wire import decode_capture

PATIENCE_SECONDS = 300.0
#: What `on_done` is told of an entry that is damaged here, and so is not posted.
UNREADABLE = 0

_TIMEOUT_SECONDS = 30.0
#: How long a receiver is waited for that has not answered once: its URL is more likely wrong than it is away.
_FIRST_PATIENCE_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 30.0
#: Worth another attempt: ours for the time being (408, 503), or what proxies answer meanwhile.
_PASSING = frozenset({408, 429, 502, 503, 504})
_SHOWN_DETAIL = 300
_MAX_PORT = 65535

#: Refusals for a wrong credential, which `on_unauthentic = "defer"` there answers with a 503.
_UNPROVED = {AuthenticationError.reason, *(error.reason for error in AuthenticationError.__subclasses__())}
#: What to look at there, by the reason of a refusal.
_LOOK_AT = {
    **dict.fromkeys(_UNPROVED, "server.replay_tokens"),
    SignatureMissing.reason: "its version, which knows no replay tokens yet",
    UnknownAccount.reason: "[accounts.*]",
    "not_found": "server.port and server.admin_port",
    BodyTooLarge.reason: "server.max_body",
    ReplayMalformed.reason: "its version, which should be no older than this one",
}

Done = Callable[[LogEntry, int], None]


class Tally(msgspec.Struct, kw_only=True):
    """What became of the entries so far."""

    #: On the other's disk.
    captured: int = 0
    #: Damaged in the log here, where they are dead letters as well; not posted.
    unreadable: int = 0
    #: Captured, but without the original headers, which were too long to come along; no decision reads them.
    without_headers: int = 0
    #: Attempts that were repeated.
    repeated: int = 0


class NotTaken(PartylineError):
    """The other receiver did not take an entry, and what came after it was not posted.

    `entry` is the one to go on with, `status` the HTTP status (0: nothing answered), `tally` what went before.
    """

    reason = "not_taken"

    def __init__(self, message: str, entry: LogEntry, status: int, tally: Tally) -> None:
        super().__init__(message)
        self.entry = entry
        self.status = status
        self.tally = tally


async def repost(
    entries: AsyncIterator[LogEntry],
    url: str,
    token: str,
    *,
    rate: float | None = None,
    on_done: Done = lambda _entry, _status: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Tally:
    """Post entries of the capture log to another receiver, each once it has the one before on disk.

    Args:
        entries: in the order of the log.
        url: where the other receiver is; `/webhooks/…` is added.
        token: one of its `server.replay_tokens`.
        rate: at most so many a second; None: as fast as it takes them.
        on_done: told each entry that is through, with 200, or with UNREADABLE.
        patience_seconds: how long an entry is tried again while the other is away or overloaded.

    Raises ConfigError for a URL or token that cannot be used, NotTaken when an entry is refused or patience ends.
    """
    base = _base(url)
    _check_token(token)
    tally, pace = Tally(), _Pace(rate)
    async with httpx.AsyncClient(base_url=base, timeout=_TIMEOUT_SECONDS) as client:
        poster = _Poster(client, token, patience_seconds, tally)
        async for entry in entries:
            try:
                capture = decode_capture(entry.fields)
            except ParseError:
                tally.unreadable += 1
                on_done(entry, UNREADABLE)
                continue
            await pace.wait()
            await poster.post(entry, capture)
            on_done(entry, 200)
    return tally


# --- what is asked for ---


def _base(url: str) -> httpx.URL:
    """The other's URL; the mistakes do not repeat it, as a password may be in it."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        raise ConfigError(["the other receiver's URL: is not one"]) from None
    if base.scheme not in {"http", "https"} or not base.host or (base.port or 0) > _MAX_PORT:
        raise ConfigError(["the other receiver's URL: does not begin with http:// or https://, a host and its port"])
    if base.userinfo:
        raise ConfigError(["the other receiver's URL: holds a user; the replay token alone is the proof there"])
    if base.query or base.fragment:
        raise ConfigError(["the other receiver's URL: goes on after the path; /webhooks/… is added to it"])
    return base


def _check_token(token: str) -> None:
    if not token or not all("!" <= character <= "~" for character in token):
        wrong = "is empty, or holds a space or a character beyond ASCII, which no header can hold"
        raise ConfigError([f"the replay token: {wrong}"])


class _Pace:
    """Lets at most so many pass a second, evenly; what was missed is not made up for."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise ConfigError(["the rate: is not more than zero"])
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now) + self._interval


# --- posting ---


class _Answer(msgspec.Struct):
    """As much of any answer as counts here: `captured`, or a problem."""

    status: str | int = ""
    capture: str = ""
    reason: str = ""
    detail: str = ""


class _Miss(msgspec.Struct, frozen=True):
    """An attempt that did not end in a 200, and may be repeated."""

    status: int
    what: str
    #: What Retry-After asks for.
    pause: float | None = None


class _Poster:
    """One connection to the other receiver."""

    def __init__(self, client: httpx.AsyncClient, token: str, patience_seconds: float, tally: Tally) -> None:
        self._client = client
        self._token = token
        self._patience = patience_seconds
        self._tally = tally
        self._answered = False

    async def post(self, entry: LogEntry, capture: Capture) -> None:
        """Return once the other has it on disk, after as many attempts as patience allows."""
        clock = asyncio.get_running_loop().time
        began, pause = clock(), _FIRST_PAUSE_SECONDS
        while miss := await self._attempt(entry, capture):
            wait = pause if miss.pause is None else miss.pause
            patience = self._patience if self._answered else min(self._patience, _FIRST_PATIENCE_SECONDS)
            if clock() - began + wait > patience:
                raise self._not_taken(entry, capture, miss.status, f"{miss.what}, for {clock() - began:.0f} s")
            self._tally.repeated += 1
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attempt(self, entry: LogEntry, capture: Capture) -> _Miss | None:
        """None: it is on the other's disk. Raises NotTaken for what another attempt would not change."""
        path = f"/webhooks/{quote(capture.provider, safe='')}/{quote(capture.account, safe='')}"
        headers = repost_headers(capture, self._token)
        try:
            response = await self._client.post(path, content=capture.body, headers=headers)
        except httpx.TransportError as error:
            return _Miss(0, f"{self._client.base_url} does not answer ({type(error).__name__})")
        self._answered = True
        said = _read(response)
        if response.status_code == httpx.codes.OK and said.status == "captured" and said.capture == capture.id:
            self._tally.captured += 1
            self._tally.without_headers += ORIGINAL_HEADERS not in dict(headers)
            return None
        if response.status_code in _PASSING and said.reason not in _UNPROVED:
            return _Miss(response.status_code, f"HTTP {response.status_code} {said.reason}".rstrip(), _pause(response))
        raise self._not_taken(entry, capture, response.status_code, _refusal(response.status_code, said, capture))

    def _not_taken(self, entry: LogEntry, capture: Capture, status: int, why: str) -> NotTaken:
        return NotTaken(f"{capture.id} was not taken: {why}", entry, status, self._tally)


# --- reading answers ---


def _read(response: httpx.Response) -> _Answer:
    """What an answer says; nothing where it is none of partyline's."""
    try:
        return msgspec.json.decode(response.content, type=_Answer)
    except msgspec.DecodeError:
        return _Answer()


def _refusal(status: int, said: _Answer, capture: Capture) -> str:
    """Why an entry was not taken, and what to look at."""
    if said.status == "quarantined":
        aside = f'accounts.{capture.account}.on_unauthentic = "quarantine" there has put it aside'
        return f"the replay token is wrong and {aside}; look at server.replay_tokens there"
    if said.reason in _LOOK_AT:
        return f"HTTP {status} {said.reason}: {_shown(said.detail)}; look there at {_LOOK_AT[said.reason]}"
    if said.reason:
        return f"HTTP {status} {_shown(said.reason)}: {_shown(said.detail)}"
    if status == httpx.codes.OK:
        return "it was answered 200 by something that takes no captures: not partyline, or too old a version of it"
    return f"HTTP {status}, from something that is not partyline; look at the URL, and at what is in front of it"


def _shown(text: str) -> str:
    """A text from elsewhere as it can be shown."""
    return "".join(character if character.isprintable() else " " for character in text[:_SHOWN_DETAIL])


def _pause(response: httpx.Response) -> float | None:
    """What Retry-After asks for, in seconds or as a date; None where it says nothing usable."""
    said = response.headers.get("retry-after", "")
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

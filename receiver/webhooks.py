"""The webhook route: receive, authenticate, capture, answer. Plain ASGI, since it is the hot path.

In this order, and none of them earlier: the account from the path, whether it comes from where that account's come
from, the body within its limits, the proof over the raw bytes, the write, the 200. Nothing is parsed here at all.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from os import urandom
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from receiver import metrics
from receiver.answers import (
    METHOD_NOT_ALLOWED,
    UNFORESEEN,
    Header,
    answer,
    answer_error,
    answer_problem,
    answer_unavailable,
)
from receiver.authentication import Repost, authenticate, handshake, quarantined_headers, reposted
from receiver.partitions import CaptureLogs
from receiver.probing import Probed, described, is_probe
from receiver.provider import Provider
from receiver.reception import Reception
from receiver.settings import Account
from receiver.sources import check_source
from receiver.veil import Veil
from receiver.writer import Writer
from schemas.callback import UNKNOWN, Arrival
from schemas.clock import unix_milliseconds
from schemas.errors import (
    AuthenticationError,
    BodyTooLarge,
    BodyTooSlow,
    HandshakeRefused,
    PartylineError,
    UnknownAccount,
)
from schemas.ids import CaptureId, capture_id
from schemas.wire import Quarantined, encode_capture, encode_facts, encode_quarantined

_CAPTURED = b'{"status":"captured"}'
_DEFERRED = "the callback is not accepted now, and nothing was kept; send it again"
_QUARANTINED = b'{"status":"quarantined"}'
_JSON = b"application/json"
_PLAIN = b"text/plain; charset=utf-8"

log = structlog.get_logger()

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of a running service."""
    return datetime.now(UTC)


class Endpoint:
    """One configured account, with what each of its requests needs."""

    __slots__ = ("account", "answer_seconds", "credentials", "facts", "outcomes", "provider", "realm", "veil")

    def __init__(self, account: Account, provider: Provider, veil: Veil) -> None:
        self.account = account
        self.provider = provider
        self.veil = veil
        self.facts = encode_facts(account.facts)
        #: Metrics with their labels looked up once.
        self.outcomes = metrics.Children(metrics.CALLBACKS, provider.name, account.name)
        self.credentials = metrics.Children(metrics.CREDENTIALS, provider.name, account.name)
        self.answer_seconds = metrics.ANSWER_SECONDS.labels(provider.name)
        #: Senders that wait for a challenge before they present basic credentials get one.
        self.realm = ((b"www-authenticate", b'Basic realm="partyline"'),) if "basic_auth" in account.credentials else ()


class Webhooks:
    """The ASGI application behind `/webhooks/{provider}/{account}` and `…/{url_token}`."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        reception: Reception,
        writer: Writer,
        captures: CaptureLogs,
        clock: Clock = utc_now,
        *,
        replay_tokens: tuple[str, ...] = (),
    ) -> None:
        """`replay_tokens`: whoever presents one posts captures of another receiver's."""
        self._endpoints = endpoints
        self._reception = reception
        self._writer = writer
        self._captures = captures
        self._clock = clock
        self._replay_tokens = replay_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to a webhook route."""
        began = time.perf_counter()
        path = scope["path_params"]
        endpoint = self._endpoints.get(path["account"])
        if endpoint is None or endpoint.provider.name != path["provider"]:
            metrics.CALLBACKS.labels(UNKNOWN, UNKNOWN, UnknownAccount.reason).inc()
            # Not the name that was asked for: it is anybody's text, and may be a token in the wrong place.
            await answer_error(send, UnknownAccount("no such account at this provider: see [accounts.*]"))
            _log(UNKNOWN, UNKNOWN, UnknownAccount.reason, None, time.perf_counter() - began)
            return
        try:
            outcome, identifier = await self._handle(endpoint, scope, receive, send)
        except PartylineError as error:
            outcome, identifier = error.reason, None
            await answer_error(send, error, *_headers_of(error, endpoint))
        except Exception:
            log.exception("a request failed in a way nobody foresaw", account=endpoint.account.name)
            outcome, identifier = UNFORESEEN.reason, None
            await answer_unavailable(send, outcome)
        seconds = time.perf_counter() - began
        endpoint.outcomes[outcome].inc()
        endpoint.answer_seconds.observe(seconds)
        _log(endpoint.provider.name, endpoint.account.name, outcome, identifier, seconds)

    async def _handle(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send
    ) -> tuple[str, CaptureId | None]:
        """The outcome in a word, and the capture's id where there is one."""
        shaking = scope["method"] == "GET" and endpoint.provider.handshake_setting
        if scope["method"] != "POST" and not shaking:
            allowed = b"GET, POST" if endpoint.provider.handshake_setting else b"POST"
            await answer_problem(send, *METHOD_NOT_ALLOWED, f"use {allowed.decode()}", (b"allow", allowed))
            return METHOD_NOT_ALLOWED.reason, None
        check_source(scope.get("client"), endpoint.account)
        if shaking:
            return await self._handshake(endpoint, scope, send), None
        with self._reception.admit(scope) as body:
            arrival = arrival_of(endpoint, scope, await body.read(receive))
            return await self._judge(endpoint, arrival, send)

    async def _judge(self, endpoint: Endpoint, arrival: Arrival, send: Send) -> tuple[str, CaptureId | None]:
        now = self._clock()
        try:
            repost = reposted(arrival, endpoint.account, endpoint.provider, now, self._replay_tokens)
            callback = repost.callback if repost else authenticate(arrival, endpoint.account, endpoint.provider, now)
        except AuthenticationError as error:
            if is_probe(arrival):
                raise Probed(described(arrival.body)) from error
            return await self._refuse(endpoint, arrival, error, now, send)
        identifier = repost.id if repost else mint(now)
        kind = repost.kind if repost else "callback"
        await self._writer.write(encode_capture(identifier, callback, endpoint.facts, kind))
        await answer(send, 200, _captured(repost), _JSON)
        endpoint.credentials[callback.credential].inc()
        return "captured", identifier

    async def _refuse(
        self, endpoint: Endpoint, arrival: Arrival, error: AuthenticationError, now: datetime, send: Send
    ) -> tuple[str, CaptureId | None]:
        """What `on_unauthentic` says: 401; 503, so that it comes again; or aside and 200."""
        policy = endpoint.account.on_unauthentic
        if policy == "reject":
            raise error
        if policy == "defer":
            await answer_unavailable(send, error.reason, _DEFERRED)
            return f"deferred_{error.reason}", None
        identifier = mint(now)
        entry = _quarantined(identifier, endpoint, arrival, error, now)
        await self._captures.quarantine(encode_quarantined(entry, endpoint.facts))
        await answer(send, 200, _QUARANTINED, _JSON)
        return f"quarantined_{error.reason}", identifier

    async def _handshake(self, endpoint: Endpoint, scope: Scope, send: Send) -> str:
        tokens = endpoint.account.credentials.get(endpoint.provider.handshake_setting or "", ())
        try:
            query = parse_qsl(
                scope["query_string"].decode("ascii"),
                keep_blank_values=True,
                errors="surrogateescape",
                max_num_fields=20,
            )
        except ValueError:
            raise HandshakeRefused("the query cannot be read") from None
        challenge = handshake(query, tokens)
        await answer(
            send, 200, challenge.encode(errors="surrogateescape"), _PLAIN, (b"x-content-type-options", b"nosniff")
        )
        return "handshake"


def _log(provider: str, account: str, outcome: str, capture: CaptureId | None, seconds: float) -> None:
    """The one line of each request; what it said stands in the capture alone."""
    milliseconds = round(seconds * 1000, 2)
    log.info(
        "callback", provider=provider, account=account, outcome=outcome, capture=capture, milliseconds=milliseconds
    )


def _headers_of(error: PartylineError, endpoint: Endpoint) -> tuple[Header, ...]:
    """What an answer needs besides its body: a challenge, or the end of a connection whose body is not read."""
    if isinstance(error, AuthenticationError):
        return endpoint.realm
    if isinstance(error, BodyTooLarge | BodyTooSlow):
        return ((b"connection", b"close"),)
    return ()


def arrival_of(endpoint: Endpoint, scope: Scope, body: bytes) -> Arrival:
    """A request for an account, as it came."""
    headers = tuple(scope["headers"])
    host = next((value for name, value in headers if name == b"host"), b"")
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    url = b"".join((scope["scheme"].encode(), b"://", host, scope.get("raw_path", b""), query))
    return Arrival(
        provider=endpoint.provider.name,
        account=endpoint.account.name,
        method=scope["method"],
        url=url.decode("latin-1"),
        headers=headers,
        url_token=scope["path_params"].get("url_token"),
        body=body,
    )


def _captured(repost: Repost | None) -> bytes:
    """The answer; who reposts is told the id, so that no other 200 can be taken for ours."""
    return _CAPTURED if repost is None else b'{"status":"captured","capture":"%b"}' % repost.id.encode()


def mint(now: datetime) -> CaptureId:
    """A new capture's id."""
    return capture_id(unix_milliseconds(now), urandom(10))


def _quarantined(
    identifier: CaptureId, endpoint: Endpoint, arrival: Arrival, error: AuthenticationError, now: datetime
) -> Quarantined:
    """A quarantine entry: as a capture, with why it was not accepted, and with its secrets as digests."""
    kept, withheld = quarantined_headers(arrival, endpoint.provider)
    return Quarantined(
        id=identifier,
        provider=endpoint.provider.name,
        account=endpoint.account.name,
        received_at=now,
        reason=error.reason,
        headers=kept,
        presented=endpoint.veil.presented(arrival, endpoint.provider, withheld),
        facts=endpoint.account.facts,
        body=arrival.body,
    )

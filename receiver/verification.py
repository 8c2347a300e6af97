"""Why a request was refused, or would be: what fits instead, and what to do about it. Pure.

For people who hold the configuration. What is said names headers, settings and accounts; never a secret, a part of one,
or a signature that would have been right.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from receiver.alterations import Alteration, undone
from receiver.authentication import Account, authenticate
from receiver.provider import Provider, Scheme
from receiver.schemes import BasicAuth, Ed25519, HubSignature, SinchHmac, UrlToken
from receiver.veil import Veil, kept_whole
from schemas.callback import Arrival, Callback, Capture
from schemas.clock import format_time
from schemas.errors import (
    AuthenticationError,
    PartylineError,
    SignatureMalformed,
    SignatureMismatch,
    TimestampOutsideTolerance,
)
from schemas.wire import Quarantined

Verdict = Literal["authentic", "refused", "unknown"]

_AGED = TimestampOutsideTolerance.reason
_SIGNATURES = (Ed25519, SinchHmac, HubSignature)


class Check(msgspec.Struct, frozen=True):
    """What one way of proving comes to for a request."""

    setting: str
    #: `right`, `not presented`, or the reason of a refusal.
    outcome: str
    detail: str


class Finding(msgspec.Struct, frozen=True):
    """What a request proves, or why it proves nothing."""

    verdict: Verdict
    #: The refusal's stable word, as answers, logs and metrics have it; empty when nothing is refused.
    reason: str
    because: str
    #: What was done to the request on its way, when undoing it makes the signature fit.
    alteration: Alteration | None = None
    advice: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    #: What would be answered if it came now, where that differs.
    now: str = ""


class NotJudged(PartylineError):
    """What is kept of a request does not allow to judge it again."""

    reason = "not_judged"


class _Bench(msgspec.Struct, frozen=True):
    """A request with everything that it is held against."""

    arrival: Arrival
    account: Account
    #: The account as the request can be held against it.
    held: Account
    provider: Provider
    at: datetime
    #: The provider's other accounts: a request may have been meant for one of them.
    others: tuple[Account, ...]
    #: With which the secrets in the request are hidden; None: they stand as they were sent.
    veil: Veil | None

    def credentials(self, scheme: Scheme, values: Iterable[str]) -> tuple[str, ...]:
        """Configured values as the request can be held against them."""
        return tuple(values) if self.veil is None else self.veil.credentials(scheme, values)

    def error(self, scheme: Scheme, arrival: Arrival, credentials: tuple[str, ...]) -> AuthenticationError | None:
        """What a scheme says against a request."""
        try:
            scheme.verify(arrival, credentials, self.at)
        except AuthenticationError as error:
            return error
        return None

    def fits(self, scheme: Scheme, arrival: Arrival, credentials: tuple[str, ...]) -> bool:
        """Whether the proof as such is right, whatever its age."""
        return isinstance(self.error(scheme, arrival, credentials), TimestampOutsideTolerance | None)

    def configured(self, scheme: Scheme) -> tuple[str, ...]:
        """The account's own credentials for a scheme."""
        return self.held.credentials.get(scheme.setting, ())


def explain(
    arrival: Arrival,
    account: Account,
    provider: Provider,
    received_at: datetime | None,
    now: datetime,
    *,
    others: Iterable[Account] = (),
    veil: Veil | None = None,
) -> Finding:
    """Why a request would be refused, or what proves it.

    Args:
        arrival: the request as it came; with digests for its secrets when there is a veil.
        account: the one it was sent to.
        provider: the account's.
        received_at: when it came, by which its age is judged; None: nobody knows, and it is judged as if it came now.
        now: the present.
        others: further accounts of this provider, in case it was meant for one of them.
        veil: what hid the secrets in the arrival.
    """
    held = account if veil is None else veil.account(account, provider)
    bench = _Bench(arrival, account, held, provider, received_at or now, tuple(others), veil)
    checks = tuple(_check(bench, scheme) for scheme in provider.schemes)
    later = _later(bench, now)
    try:
        callback = authenticate(arrival, held, provider, bench.at)
    except AuthenticationError as error:
        found = _diagnosed(bench, error)
        undated = _UNDATED if received_at is None and error.reason == _AGED else ()
        return msgspec.structs.replace(found, advice=found.advice + undated, checks=checks, now=later)
    if callback.credential == "none":
        return Finding("authentic", "", "the account takes anything from anybody (unsafe_no_auth)", checks=checks)
    return Finding(
        "authentic", "", f"{callback.credential} of account {account.name} proves it", None, (), checks, later
    )


_UNDATED = ("its time of receipt is not known, so it was judged as if it came now; say when it came to judge it then",)


def _later(bench: _Bench, now: datetime) -> str:
    """What would be answered now, where it is something else than at the time of receipt."""
    then, today = (_outcome(bench, moment) for moment in (bench.at, now))
    if then == today:
        return ""
    return f"if it came now, {today or 'it would be accepted'}"


def _outcome(bench: _Bench, moment: datetime) -> str:
    try:
        authenticate(bench.arrival, bench.held, bench.provider, moment)
    except TimestampOutsideTolerance as error:
        return f"it would be refused as {error.reason}: it is {_span(error.age_seconds)} by its signed time"
    except AuthenticationError as error:
        return f"it would be refused as {error.reason}"
    return ""


def _span(seconds: float) -> str:
    apart = timedelta(seconds=round(abs(seconds)))
    return f"{apart} old" if seconds > 0 else f"{apart} ahead"


def _check(bench: _Bench, scheme: Scheme) -> Check:
    if not scheme.presented(bench.arrival):
        there = "" if bench.configured(scheme) else f"; the account has no {scheme.setting}"
        return Check(scheme.setting, "not presented", f"the request has no proof of this kind{there}")
    error = bench.error(scheme, bench.arrival, bench.configured(scheme))
    return (
        Check(scheme.setting, "right", "it fits") if error is None else Check(scheme.setting, error.reason, str(error))
    )


# --- what is wrong, and what would fit ---


def _diagnosed(bench: _Bench, error: AuthenticationError) -> Finding:
    """The first thing that is wrong with a request, with what explains it."""
    wrong = [
        scheme
        for scheme in bench.provider.schemes
        if scheme.presented(bench.arrival) and bench.error(scheme, bench.arrival, bench.configured(scheme))
    ]
    scheme = wrong[0] if wrong else None
    alteration, advice = _explained(bench, scheme, error)
    if len(bench.provider.schemes) > 1 and scheme is not None and _any_right(bench):
        advice += ("another proof in it is right, yet every one that a request presents must be",)
    return Finding("refused", error.reason, str(error), alteration, advice)


def _any_right(bench: _Bench) -> bool:
    schemes = [scheme for scheme in bench.provider.schemes if scheme.presented(bench.arrival)]
    return any(bench.error(scheme, bench.arrival, bench.configured(scheme)) is None for scheme in schemes)


def _explained(
    bench: _Bench, scheme: Scheme | None, error: AuthenticationError
) -> tuple[Alteration | None, tuple[str, ...]]:
    if isinstance(error, TimestampOutsideTolerance):
        return None, _of_age(error)
    schemes = bench.provider.schemes if scheme is None else (scheme,)
    for alteration, earlier in undone(bench.arrival):
        if any(_fits_now(bench, each, earlier) for each in schemes):
            return alteration, (_LEAVE_ALONE,)
    if scheme is None:
        return None, tuple(_of_absence(bench))
    if isinstance(error, SignatureMismatch):
        return None, tuple(_of_mismatch(bench, scheme))
    return None, (_MALFORMED if isinstance(error, SignatureMalformed) else _INCOMPLETE,)


_LEAVE_ALONE = (
    "look at what stands between the provider and partyline (proxy, gateway, framework, editor of this file), and have "
    "it pass on body and headers byte for byte"
)
_MALFORMED = "the header was cut or rewritten on its way, or somebody else than the provider made it"
_INCOMPLETE = "headers that belong together were not all passed on: look at which ones the proxy lets through"


def _fits_now(bench: _Bench, scheme: Scheme, arrival: Arrival) -> bool:
    return scheme.presented(arrival) and bench.fits(scheme, arrival, bench.configured(scheme))


def _of_age(error: TimestampOutsideTolerance) -> tuple[str, ...]:
    if error.age_seconds < 0:
        return ("its time is ahead of ours: set this machine's clock (NTP)",)
    return ("it was held up, sent again by somebody else, or this machine's clock is ahead: compare clocks (NTP)",)


# --- a proof that fits nothing ---


def _of_mismatch(bench: _Bench, scheme: Scheme) -> Iterator[str]:
    elsewhere = list(_elsewhere(bench, scheme))
    yield from elsewhere
    if elsewhere:
        return
    if not bench.configured(scheme):
        yield f"set accounts.{bench.account.name}.{scheme.setting}, or have the provider not send this proof"
    elif isinstance(scheme, _SIGNATURES):
        yield from _hints(bench.arrival)
        yield (
            f"no usual alteration fits, so the {scheme.setting} of the account are most likely not what the provider "
            "signs with: compare them there; or somebody else sent this"
        )
    else:
        yield from _of_secret(bench, scheme)


def _elsewhere(bench: _Bench, scheme: Scheme) -> Iterator[str]:
    """Where else in the configuration the very credential stands."""
    for setting, values in bench.account.credentials.items():
        if setting != scheme.setting and _fits_values(bench, scheme, values):
            yield f"it fits accounts.{bench.account.name}.{setting}: that value belongs into {scheme.setting}"
    for other in bench.others:
        for setting, values in other.credentials.items():
            if _fits_values(bench, scheme, values):
                yield (
                    f"it fits accounts.{other.name}.{setting}: the provider posts to the wrong URL, or the account "
                    f"{bench.account.name} lacks this value"
                )


def _fits_values(bench: _Bench, scheme: Scheme, values: Iterable[str]) -> bool:
    return bench.fits(scheme, bench.arrival, bench.credentials(scheme, values))


def _of_secret(bench: _Bench, scheme: Scheme) -> Iterator[str]:
    match scheme:
        case BasicAuth():
            sent = "user and password that were sent are"
        case UrlToken():
            sent = "last segment of the URL is"
        case _:
            sent = "secret in the header is"
    yield (
        f"the {sent} none of accounts.{bench.account.name}.{scheme.setting}: compare with what is set at the provider; "
        "during a rotation list both, the old and the new one"
    )


def _hints(arrival: Arrival) -> Iterator[str]:
    """What can be seen of a body that was altered beyond what can be undone."""
    length = arrival.header(b"content-length")
    if not arrival.body:
        yield "the body is empty: something may have read it before it got here"
    elif length and length[0].isdigit() and int(length[0]) != len(arrival.body):
        yield f"content-length says {int(length[0])} bytes and the body has {len(arrival.body)}: it was altered"
    if "\ufffd".encode() in arrival.body:
        yield "the body holds U+FFFD: it was decoded with a wrong encoding, and cannot be restored"
    if _sorted_throughout(arrival.body):
        yield "the members of every object are in alphabetical order: something may have sorted them, for good"


def _sorted_throughout(body: bytes) -> bool:
    """Whether there are objects with several members, and all of those stand in order."""
    orders: list[bool] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        orders.extend([names == sorted(names)] if len(names) > 1 else [])

    try:
        json.loads(body, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return False
    return len(orders) > 1 and all(orders)


# --- no proof at all ---


def _of_absence(bench: _Bench) -> Iterator[str]:
    names = {name for name, _ in bench.arrival.headers}
    yield from (
        f"it has {name.decode()}, which {whose}: was it meant for another account?"
        for name, whose in _TELLING.items()
        if name in names and name not in _ours(bench.provider)
    )
    if b"x-hub-signature" in names:
        yield "it has the older x-hub-signature (SHA-1) alone; x-hub-signature-256 is the one that proves anything"
    settings = " or ".join(dict.fromkeys(scheme.setting for scheme in bench.provider.schemes))
    if not any(bench.configured(scheme) for scheme in bench.provider.schemes):
        yield f"the account has no credential: set {settings}"
    else:
        yield "set the credential at the provider, see that the proxy passes headers on, or somebody else sent this"


#: Headers by which other providers are known.
_TELLING: Mapping[bytes, str] = {
    b"telnyx-signature-ed25519": "is Telnyx's",
    b"sb-signing-secret": "is Sendblue's",
    b"x-sinch-webhook-signature": "is Sinch's",
    b"x-sinch-signature": "is of a Sinch API that partyline does not know the proof of",
    b"x-hub-signature-256": "is WhatsApp's (Meta's)",
    b"authorization": "proves nothing at this provider, or is not of the Basic kind",
}


def _ours(provider: Provider) -> frozenset[bytes]:
    return frozenset().union(*(scheme.secret_headers for scheme in provider.schemes)) - {b"authorization"}


# --- what is stored ---


def judge(entry: Quarantined, account: Account, provider: Provider, veil: Veil, now: datetime) -> Callback:
    """The callback that a quarantined request proves to be under the present configuration.

    Raises AuthenticationError when it still proves nothing; NotJudged when that cannot be told.
    """
    if provider.name != entry.provider:
        raise NotJudged(f"account {account.name} is {provider.name}'s by now, and this came for {entry.provider}")
    if not kept_whole(entry.presented):
        raise NotJudged("without an id_key the secret that it presented was not kept in any form")
    if now - entry.received_at > timedelta(seconds=entry.facts.dedupe_seconds):
        raise NotJudged("older than retention.dedupe, so nobody can tell whether its events were published since")
    return authenticate(of_entry(entry, provider, veil), veil.account(account, provider), provider, entry.received_at)


def of_entry(entry: Quarantined, provider: Provider, veil: Veil) -> Arrival:
    """A quarantined request as it can be judged again: with digests for its secrets."""
    headers, token = veil.unveiled(entry.headers, entry.presented, provider)
    return _stored(entry, headers, token)


def explain_entry(
    entry: Quarantined,
    account: Account,
    provider: Provider,
    veil: Veil,
    now: datetime,
    *,
    others: Iterable[Account] = (),
) -> Finding:
    """Why a quarantined request was refused, judged with the present configuration at its time of receipt."""
    if not kept_whole(entry.presented):
        settings = ", ".join(entry.presented.proofs)
        because = f"it presented something for {settings}, which was not kept in any form since there is no id_key"
        return Finding("unknown", entry.reason, because, None, (f"it was refused as {entry.reason}",))
    arrival = of_entry(entry, provider, veil)
    found = explain(arrival, account, provider, entry.received_at, now, others=others, veil=veil)
    if found.verdict == "authentic":
        return msgspec.structs.replace(found, advice=("`partyline quarantine judge` captures it",))
    withheld = ", ".join(entry.presented.withheld)
    more = (f"these headers hold credentials and were not kept: {withheld}",) if withheld else ()
    return msgspec.structs.replace(found, advice=found.advice + more)


_PROOFS = {
    "signed": "its signature",
    "shared_secret": "its shared secret",
    "basic_auth": "its user and password",
    "url_token": "the token of its URL",
}


def explain_capture(
    capture: Capture, account: Account, provider: Provider, now: datetime, *, others: Iterable[Account] = ()
) -> Finding:
    """What can still be said of a capture, whose headers were stored without credentials."""
    accepted = f"it was accepted at {format_time(capture.received_at)} for {_PROOFS.get(capture.assurance, 'nothing')}"
    if capture.kind != "callback":
        return Finding("unknown", "", f"it is no callback: one of us handed it in, as a capture of kind {capture.kind}")
    if capture.assurance == "none":
        return Finding("unknown", "", "it was accepted without any proof, since the account was unsafe_no_auth")
    if capture.assurance != "signed":
        because = f"{accepted}; that proof is a secret and was not kept, so it cannot be checked again"
        return Finding(
            "unknown", "", because, None, ("body and time of receipt are as they came; the proof held then",)
        )
    arrival = _stored(capture, capture.headers, None)
    found = explain(arrival, account, provider, capture.received_at, now, others=others)
    kept = f"{accepted}; signatures are kept, further proofs that it presented are not"
    if found.verdict == "refused":
        kept += ": since then the account's credentials were changed, or the capture was"
    return msgspec.structs.replace(found, advice=(*found.advice, kept))


def _stored(entry: Capture | Quarantined, headers: tuple[tuple[bytes, bytes], ...], token: str | None) -> Arrival:
    return Arrival(
        provider=entry.provider,
        account=entry.account,
        method="POST",
        url="",
        headers=headers,
        url_token=token,
        body=entry.body,
    )

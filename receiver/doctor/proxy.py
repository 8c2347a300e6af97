"""What stands between the providers and the receiver, by what it does to requests. Pure."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from receiver.doctor.findings import Finding, Level, about
from receiver.probing import Probed, described
from receiver.sources import SourceRefused
from schemas.errors import HandshakeRefused, UnknownAccount

TOPIC = "url"

#: JSON that nobody's encoder writes: reading it and writing it anew changes it, and so does any change of encoding.
ODD_BODY = '{ "probe" :"caf\\u00e9 \\/ caf\u00e9",\r\n\t"number":1.0, "number": 1e2 }\n'.encode()

#: `account`: GET, no body. `body`: an odd one. `large`: one within server.max_body. `inside`: what no provider needs.
Purpose = Literal["account", "body", "large", "inside"]

_METHOD_NOT_ALLOWED = "method_not_allowed"
_TOO_LARGE, _OK, _REDIRECTS = 413, 200, range(300, 400)
#: What says only that we are there.
_HARMLESS = frozenset({"/healthz", "/readyz"})
#: Telnyx gives up after two seconds.
_SLOW_SECONDS = 1.5
_MEANT = {
    UnknownAccount.reason: ("A receiver answers that does not know the account", "is it another one's configuration?"),
    "not_found": ("A receiver answers, at another path", "the proxy must pass the path on as it is"),
    "head_too_large": ("The receiver finds the headers too large", "see which headers the proxy adds"),
}


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One request through the public URL, and its answer."""

    purpose: Purpose
    #: The account's key path, or the path that was asked for.
    subject: str
    body: bytes = b""
    #: None: no answer came, and `error` says why.
    status: int | None = None
    error: str = ""
    #: `reason` and `detail` of a problem of ours; empty where it is none.
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


def judge(probe: Probe) -> Iterator[Finding]:
    """What there is to say about one probe."""
    if probe.status is None:
        todo = "see DNS, the certificate, the firewall, and whether the proxy runs"
        yield Finding("mistake", TOPIC, probe.subject, f"No answer: {probe.error}", todo)
        return
    match probe.purpose:
        case "inside":
            yield _inside(probe)
        case "account":
            yield _account(probe)
        case "body":
            yield _body(probe)
        case "large":
            yield _large(probe)
    if probe.purpose != "large" and probe.seconds > _SLOW_SECONDS:
        slow = f"The answer took {probe.seconds:.1f} s; Telnyx gives up after 2 s"
        yield Finding("warning", TOPIC, probe.subject, slow, "see where the time goes, at the proxy or here")


def _inside(probe: Probe) -> Finding:
    """What is for us alone: /metrics, /v1 and the like."""
    answered = bool(probe.reason) and probe.reason != "not_found"
    if probe.status == _OK or answered:
        level: Level = "note" if probe.subject in _HARMLESS else "warning"
        seen = f"It can be reached from outside (answered {probe.status})"
        todo = "have the proxy pass on /webhooks/ only, or set server.admin_port"
        return Finding(level, TOPIC, probe.subject, seen, todo)
    return Finding("ok", TOPIC, probe.subject, f"Not to be had from outside (answered {probe.status})")


def _account(probe: Probe) -> Finding:
    if probe.reason in {_METHOD_NOT_ALLOWED, HandshakeRefused.reason}:
        return Finding("ok", TOPIC, probe.subject, f"The account's URL reaches a receiver ({probe.seconds:.2f} s)")
    return _other(probe)


def _other(probe: Probe) -> Finding:
    """An answer that is not the one that is due."""
    if probe.status in _REDIRECTS:
        moved = f"It is redirected ({probe.status}): providers do not follow, and a POST would become a GET"
        return Finding("mistake", TOPIC, probe.subject, moved, "give the provider the URL that it is redirected to")
    if probe.reason == SourceRefused.reason:
        inside = "It reaches a receiver, which lets in the account's `sources` only, and this host is none of them"
        return Finding("note", TOPIC, probe.subject, inside, "run this from one of them to have bodies looked at too")
    if probe.reason:
        sentence, todo = _MEANT.get(probe.reason, (f"It is answered {probe.status}, {probe.reason}", probe.detail))
        return Finding("mistake", TOPIC, probe.subject, sentence, todo)
    who = f"Something else answers, {probe.status} and no problem of ours: the proxy, or another service"
    return Finding("mistake", TOPIC, probe.subject, who, "see the proxy's log, and where it passes /webhooks/ on to")


def _body(probe: Probe) -> Finding:
    if probe.reason != Probed.reason:
        return _other(probe)
    if probe.detail == described(probe.body):
        return Finding(
            "ok", TOPIC, probe.subject, "A body arrives byte for byte, and one that proves nothing is refused"
        )
    size = probe.detail.partition(" ")[0]
    changed = f"A body of {len(probe.body)} bytes arrives changed ({size} bytes): no signature will ever fit"
    todo = "have the proxy or gateway pass bodies on as they are: no mapping, no re-encoding, no inspection that edits"
    return Finding("mistake", TOPIC, probe.subject, changed, todo)


def _large(probe: Probe) -> Finding:
    size = about(len(probe.body))
    if probe.reason == Probed.reason and probe.detail == described(probe.body):
        return Finding("ok", TOPIC, "server.max_body", f"A body of {size} arrives; server.max_body allows it")
    if probe.status == _TOO_LARGE and not probe.reason:
        less = f"The proxy refuses a body of {size}, which server.max_body allows"
        todo = "raise its limit (nginx: client_max_body_size), or lower server.max_body to what it takes"
        return Finding("warning", TOPIC, "server.max_body", less, todo)
    if probe.reason == SourceRefused.reason:
        return _other(probe)
    lost = f"A body of {size} is answered {probe.status}{f', {probe.reason}' if probe.reason else ''}"
    return Finding(
        "warning", TOPIC, "server.max_body", lost, "see the proxy's limits on size and time, and server.body_timeout"
    )

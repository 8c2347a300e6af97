"""Every HTTP route: what may be done at which path, what it takes, and every answer that it gives. Pure.

The application makes its routes of this table, and the OpenAPI document says it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from receiver.answers import (
    HEAD_TOO_LARGE,
    HEAD_TOO_SLOW,
    MALFORMED_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNFORESEEN,
    Refusal,
)
from receiver.authentication import ReplayMalformed
from receiver.links import KindsDiffer, Linking, PartitionsDiffer, SameTwice, UnknownLinked
from receiver.probing import Probed
from receiver.queries import Parameters, UnknownConversation, UnreadableAddress
from receiver.resources import Alive, Conversation, Found, Handshake, Linked, NotReady, Ready, Received, Registration
from receiver.sources import SourceRefused
from schemas.errors import (
    AuthenticationError,
    BodyTooLarge,
    BodyTooSlow,
    CallbackError,
    HandshakeRefused,
    Overloaded,
    ParseError,
    PartylineError,
    SignatureMalformed,
    SignatureMismatch,
    SignatureMissing,
    StoreError,
    TimestampOutsideTolerance,
    UnknownAccount,
)

TEXT = "text/plain"

_T = TypeVar("_T")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may be done at one path."""

    name: str
    method: str
    path: str
    summary: str
    #: What is answered with 200: a class as JSON, `Any` for other JSON, or TEXT.
    answer: Any
    #: The same for other statuses, where the answer is no problem.
    answers: Mapping[int, Any] = {}
    #: Why a problem is answered.
    refusals: tuple[Refusal, ...] = ()
    #: The class of the query's parameters, and that of the body; `Any` for the provider's own JSON.
    query: type[msgspec.Struct] | None = None
    body: Any = None
    #: It is for bearers of one of `server.api_tokens`.
    guarded: bool = False


def _refusal(error: type[PartylineError]) -> Refusal:
    """How an error is answered."""
    if issubclass(error, CallbackError):
        return Refusal(error.status, error.reason)
    return Refusal(422 if issubclass(error, ParseError) else 503, error.reason)


def _refusals(*errors: type[PartylineError]) -> tuple[Refusal, ...]:
    return tuple(map(_refusal, errors))


#: No request, at whatever path, and no such path on this port.
_EVERYWHERE = (MALFORMED_REQUEST, HEAD_TOO_SLOW, HEAD_TOO_LARGE, NOT_FOUND)
_STORED = (*_refusals(StoreError), UNFORESEEN)
_BODY = _refusals(BodyTooLarge, BodyTooSlow, Overloaded)
_UNAUTHENTIC = _refusals(SignatureMissing, SignatureMalformed, SignatureMismatch, TimestampOutsideTolerance)
#: At accounts with `on_unauthentic = "defer"`, so that it comes again.
_DEFERRED = tuple(refusal._replace(status=503) for refusal in _UNAUTHENTIC)
_GUARDED = (*_EVERYWHERE, *_refusals(AuthenticationError), *_STORED)

CALLBACK_PATHS = ("/webhooks/{provider}/{account}", "/webhooks/{provider}/{account}/{url_token}")


def _callbacks(path: str, suffix: str) -> list[Operation]:
    """What a provider may do at a path of an account."""
    return [
        Operation(
            name=f"receive{suffix}",
            method="POST",
            path=path,
            summary="A provider's callback, or one that another receiver posts again; 200 once it is on disk.",
            body=Any,
            answer=Received,
            refusals=(
                *_EVERYWHERE,
                *_STORED,
                *_BODY,
                *_UNAUTHENTIC,
                *_DEFERRED,
                *_refusals(UnknownAccount, SourceRefused, ReplayMalformed, Probed),
            ),
        ),
        Operation(
            name=f"shake_hands{suffix}",
            method="GET",
            path=path,
            summary="The handshake of a provider that has one (WhatsApp); the challenge comes back as it is.",
            query=Handshake,
            answer=TEXT,
            refusals=(
                *_EVERYWHERE,
                METHOD_NOT_ALLOWED,
                UNFORESEEN,
                *_refusals(UnknownAccount, SourceRefused, HandshakeRefused),
            ),
        ),
    ]


OPERATIONS = (
    *_callbacks(CALLBACK_PATHS[0], ""),
    *_callbacks(CALLBACK_PATHS[1], "_with_token"),
    Operation(
        name="register",
        method="POST",
        path="/v1/outbound/{provider}/{account}",
        summary="A send of yours: the provider's response to it, unchanged, or `{response, request}`.",
        body=Any,
        answer=Registration,
        refusals=(*_GUARDED, *_BODY, *_refusals(UnknownAccount, ParseError)),
        guarded=True,
    ),
    *(
        Operation(
            name=name,
            method=method,
            path="/v1/links",
            summary=summary,
            body=Linking,
            answer=Linked,
            refusals=(
                *_GUARDED,
                *_BODY,
                *_refusals(
                    UnknownAccount,
                    ParseError,
                    UnreadableAddress,
                    UnknownLinked,
                    SameTwice,
                    KindsDiffer,
                    PartitionsDiffer,
                ),
            ),
            guarded=True,
        )
        for name, method, summary in (
            ("link", "POST", "Two conversations, or two addresses of an account, are one."),
            ("unlink", "DELETE", "That is taken back."),
        )
    ),
    Operation(
        name="find",
        method="GET",
        path="/v1/conversations",
        summary="Conversations by any id of the provider's, or by participant; page by page.",
        query=Parameters,
        answer=Found,
        refusals=(*_GUARDED, *_refusals(CallbackError, UnknownAccount, UnreadableAddress)),
        guarded=True,
    ),
    Operation(
        name="show",
        method="GET",
        path="/v1/conversations/{key}",
        summary="One conversation; of a merged key, its survivor.",
        answer=Conversation,
        refusals=(*_GUARDED, *_refusals(UnknownConversation)),
        guarded=True,
    ),
    Operation(
        name="alive",
        method="GET",
        path="/healthz",
        summary="200 while the process lives.",
        answer=Alive,
        refusals=_EVERYWHERE,
    ),
    Operation(
        name="ready",
        method="GET",
        path="/readyz",
        summary="200 exactly when a callback can be stored.",
        answer=Ready,
        answers={503: NotReady},
        refusals=_EVERYWHERE,
    ),
    Operation(
        name="measure",
        method="GET",
        path="/metrics",
        summary="Metrics in Prometheus' text format.",
        answer=TEXT,
        refusals=_EVERYWHERE,
    ),
    Operation(
        name="describe",
        method="GET",
        path="/openapi.json",
        summary="This document.",
        answer=Any,
        refusals=_EVERYWHERE,
    ),
)


def by_path(handlers: Mapping[str, _T], operations: Iterable[Operation] = OPERATIONS) -> dict[str, dict[str, _T]]:
    """What handles which method at which path, of handlers by the name of their operation."""
    named = {operation.name: operation for operation in operations}
    found: dict[str, dict[str, _T]] = {}
    for name, handler in handlers.items():
        found.setdefault(named[name].path, {})[named[name].method] = handler
    return found

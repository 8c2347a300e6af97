"""Answers over plain ASGI: small, prebuilt where they can be, problems as RFC 9457.

A problem says what is wrong and what to look at, with a stable `reason`; never a secret or an expected signature.
"""

from http import HTTPStatus
from typing import NamedTuple

import orjson
from starlette.types import Send

from schemas.errors import CallbackError, PartylineError, StoreError

RETRY_AFTER_SECONDS = 5
PROBLEM = b"application/problem+json"

Header = tuple[bytes, bytes]


class Refusal(NamedTuple):
    """Why a request is answered with a problem, where no error is raised for it."""

    status: int
    reason: str


NOT_FOUND = Refusal(404, "not_found")
METHOD_NOT_ALLOWED = Refusal(405, "method_not_allowed")
#: What never became a request.
MALFORMED_REQUEST = Refusal(400, "malformed_request")
HEAD_TOO_SLOW = Refusal(408, "head_too_slow")
HEAD_TOO_LARGE = Refusal(431, "head_too_large")
#: A mistake of ours that nobody foresaw.
UNFORESEEN = Refusal(503, PartylineError.reason)


async def answer(send: Send, status: int, body: bytes, content_type: bytes, *more: Header) -> None:
    """Send one whole answer."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem(status: int, reason: str, detail: str) -> bytes:
    """A problem as JSON."""
    return orjson.dumps(
        {
            "type": f"urn:partyline:problem:{reason}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "reason": reason,
            "detail": detail,
        }
    )


async def answer_problem(send: Send, status: int, reason: str, detail: str, *more: Header) -> None:
    """Send a problem."""
    await answer(send, status, problem(status, reason, detail), PROBLEM, *more)


async def answer_error(send: Send, error: PartylineError, *more: Header) -> None:
    """Send what an error means: the request's fault as its own status, our trouble as 503, never as a 4xx."""
    if isinstance(error, CallbackError):
        await answer_problem(send, error.status, error.reason, str(error), *more)
    else:
        await answer_unavailable(send, error.reason if isinstance(error, StoreError) else UNFORESEEN.reason)


async def answer_unavailable(
    send: Send, reason: str, detail: str = "the callback cannot be stored right now; send it again"
) -> None:
    """Send 503: nothing was kept, please send it again."""
    await answer_problem(send, 503, reason, detail, (b"retry-after", str(RETRY_AFTER_SECONDS).encode()))

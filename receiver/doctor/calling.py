"""Requests to the public URL, as the providers would make them, that prove nothing and leave nothing behind."""

import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import orjson

from receiver.answers import PROBLEM
from receiver.doctor.proxy import ODD_BODY, Probe, Purpose
from receiver.probing import PROBE
from receiver.settings import Account, Settings
from schemas.errors import PartylineError

_SECONDS = 30.0
#: Beyond this, a limit on bodies is nobody's trouble.
_LARGEST = 32 * 1024 * 1024
#: What no provider needs.
_INSIDE = ("/metrics", "/v1/conversations", "/readyz")
_HEADERS = {"content-type": "application/json", PROBE.decode(): "1"}


def refuse_unless_url(url: str) -> str:
    """The URL without a slash at its end. PartylineError where it cannot be what stands before /webhooks."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or parts.username or "/webhooks" in parts.path:
        raise PartylineError("--url: give what stands before /webhooks/…, as in https://hooks.example.com")
    return url.rstrip("/")


async def call(url: str, settings: Settings) -> AsyncIterator[Probe]:
    """Probe a URL: each account, what is for us alone, and one body as large as bodies may be."""
    async with httpx.AsyncClient(base_url=url, timeout=_SECONDS, follow_redirects=False) as client:
        for path in _INSIDE:
            yield await _asked(client, "inside", path, path)
        checked = [account for account in settings.accounts.values() if not account.unsafe_no_auth]
        for account in settings.accounts.values():
            yield await _asked(client, "account", f"accounts.{account.name}", _path(account))
        for account in checked:
            yield await _asked(client, "body", f"accounts.{account.name}", _path(account), ODD_BODY)
        for account in checked[:1]:
            large = b" " * min(settings.server.max_body_bytes, _LARGEST)
            yield await _asked(client, "large", f"accounts.{account.name}", _path(account), large)


def _path(account: Account) -> str:
    return f"/webhooks/{account.provider}/{account.name}"


async def _asked(client: httpx.AsyncClient, purpose: Purpose, subject: str, path: str, body: bytes = b"") -> Probe:
    began = time.perf_counter()
    try:
        said = await (client.post(path, content=body, headers=_HEADERS) if body else client.get(path))
    except httpx.HTTPError as error:
        words = f"{type(error).__name__}: {str(error)[:200]}"
        return Probe(purpose=purpose, subject=subject, body=body, error=words)
    reason, detail = _problem(said)
    return Probe(
        purpose=purpose,
        subject=subject,
        body=body,
        status=said.status_code,
        reason=reason,
        detail=detail,
        seconds=time.perf_counter() - began,
    )


def _problem(said: httpx.Response) -> tuple[str, str]:
    """Reason and detail of a problem of ours; empty for any other answer."""
    if said.headers.get("content-type", "").partition(";")[0] != PROBLEM.decode():
        return "", ""
    try:
        problem = orjson.loads(said.content)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(problem, dict) or not str(problem.get("type", "")).startswith("urn:partyline:problem:"):
        return "", ""
    return str(problem.get("reason", "")), str(problem.get("detail", ""))

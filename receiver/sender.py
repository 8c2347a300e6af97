"""Posts callbacks as a provider would: signed with an account's own credentials. For trying out and for tests."""

from collections.abc import Callable
from datetime import datetime
from secrets import token_hex

import httpx

from receiver.schemes import BasicAuth, Ed25519, HubSignature, SharedSecret, SinchHmac
from receiver.settings import Account
from schemas.errors import ConfigError

Headers = list[tuple[bytes, bytes]]
Sign = Callable[[bytes, datetime], Headers]


def webhook_path(account: Account) -> str:
    """Where this account's callbacks are posted to, with a URL token only where nothing else proves them."""
    path = f"/webhooks/{account.provider}/{account.name}"
    others = account.credentials.keys() - {"url_tokens", "verify_tokens"}
    tokens = account.credentials.get("url_tokens", ())
    return f"{path}/{tokens[0]}" if tokens and not others else path


def signer(account: Account, telnyx_seed: str | None) -> Sign:
    """How to sign for an account.

    Args:
        account: with its credentials.
        telnyx_seed: the base64 private key that goes with a configured public key; the configuration of a receiver
            holds public keys only, so real Telnyx keys cannot be used, as it should be.

    Raises ConfigError when the account has nothing to sign with.
    """
    credentials = account.credentials
    if account.provider == "telnyx" and credentials:
        if telnyx_seed is None:
            raise ConfigError(
                [f"accounts.{account.name}: Telnyx signs with a private key: name its file (--telnyx-key)"]
            )
        return lambda body, now: Ed25519().sign(body, telnyx_seed, now)
    if account.provider == "whatsapp" and credentials:
        return lambda body, _: HubSignature().sign(body, credentials["app_secrets"][0])
    if account.provider == "sinch" and "secrets" in credentials:
        return lambda body, now: SinchHmac().sign(body, credentials["secrets"][0], token_hex(13), now)
    if account.provider == "sendblue" and "secrets" in credentials:
        return lambda _body, _now: SharedSecret(b"sb-signing-secret").sign(credentials["secrets"][0])
    if "basic_auth" in credentials:
        return lambda _body, _now: BasicAuth().sign(credentials["basic_auth"][0])
    return lambda _body, _now: []


async def post(client: httpx.AsyncClient, account: Account, sign: Sign, body: bytes, now: datetime) -> httpx.Response:
    """Post one callback."""
    headers = [(b"content-type", b"application/json"), *sign(body, now)]
    return await client.post(webhook_path(account), content=body, headers=headers)

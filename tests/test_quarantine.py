"""What is kept of refused requests, and how they get out again: judged as they came, and never read meanwhile."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from receiver.providers import PROVIDERS
from receiver.quarantine import Judged, Kept, Quarantine
from receiver.schemes import Signed
from receiver.veil import Veil
from receiver.verification import explain_entry
from schemas.errors import ParseError
from schemas.keyspace import Keyspace
from schemas.wire import CAPTURE_FIELDS, decode_quarantined
from tests.service import (
    ACCOUNTS,
    BASIC,
    NOW,
    SECRETS,
    URL_TOKENS,
    basic,
    captures,
    document,
    entries,
    events,
    everything,
    path,
    proof,
    public_key,
    running_app,
    settings_of,
    work_off,
)

KEY = "an id_key for tests of the quarantine"
BODY = b'{"text": "caf\xc3\xa9", "list": [1,  2]}'
Configuration = dict[str, Any]

#: Accounts with none of the credentials that requests present here.
WRONG: dict[str, Any] = {
    "main-telnyx": {"public_keys": [public_key(SECRETS["telnyx"][2])]},
    "main-sendblue": {"secrets": ["quite another"], "url_tokens": ["quite_another_token"]},
    "main-sinch": {
        "secrets": ["quite another"],
        "basic_auth": ["quite:another"],
        "url_tokens": ["quite_another_token"],
    },
    "main-whatsapp": {"app_secrets": ["quite another"]},
}


def configured(namespace: str, credentials: dict[str, Any] | None = None, **more: Any) -> Configuration:
    """A configuration that keeps refused requests aside."""
    accounts = {
        name: {**account, **(credentials or {}).get(name, {}), "on_unauthentic": "quarantine"}
        for name, account in ACCOUNTS.items()
    }
    return document(namespace, id_key=KEY, accounts=accounts, **more)


class Request(msgspec.Struct, frozen=True):
    """A right request, and what its capture says proved it."""

    provider: str
    headers: Signed
    proved_by: str
    assurance: bytes
    token: str | None = None


REQUESTS = {
    "ed25519": Request("telnyx", proof("telnyx", BODY), "public_keys[0]", b"signed"),
    "hub": Request("whatsapp", proof("whatsapp", BODY, SECRETS["whatsapp"][1]), "app_secrets[1]", b"signed"),
    "sinch": Request("sinch", proof("sinch", BODY), "secrets[0]", b"signed"),
    "secret": Request("sendblue", proof("sendblue", BODY), "secrets[0]", b"shared_secret"),
    "basic": Request("sinch", basic(BASIC[1]), "basic_auth[1]", b"basic_auth"),
    "token": Request("sinch", [], "url_tokens[0]", b"url_token", URL_TOKENS["sinch"][0]),
    "several": Request(
        "sinch", [*proof("sinch", BODY), *basic(BASIC[0])], "secrets[0]", b"signed", URL_TOKENS["sinch"][1]
    ),
}


async def put(redis_url: str, configuration: Configuration, *requests: Request) -> None:
    """Send requests to a receiver that refuses them."""
    async with running_app(configuration, redis_url) as client:
        for request in requests:
            target = path(request.provider, request.token)
            answer = await client.post(target, content=BODY, headers=request.headers)
            assert answer.content == b'{"status":"quarantined"}'


async def kept_in(redis: Redis, keyspace: Keyspace) -> list[Kept]:
    """Everything in quarantine."""
    return [kept async for kept in Quarantine(redis, keyspace).entries()]


async def judge(
    redis: Redis, keyspace: Keyspace, configuration: Configuration, after: timedelta = timedelta(hours=1)
) -> list[Judged]:
    """Judge all of it with a configuration, some time after it came."""
    settings, quarantine = settings_of(configuration), Quarantine(redis, keyspace)
    veil = Veil(settings.id_key)
    return [
        await quarantine.judge(kept, settings.accounts, PROVIDERS, veil, NOW + after)
        for kept in await kept_in(redis, keyspace)
    ]


# --- getting out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_what_proves_authentic_by_now_is_captured(
    redis_url: str, redis: Redis, keyspace: Keyspace, request_: Request
) -> None:
    """Once the credential is corrected, an entry is the capture that it would have been, under its id and time."""
    await put(redis_url, configured(keyspace.namespace, WRONG), request_)
    [kept] = await kept_in(redis, keyspace)

    wrong = await judge(redis, keyspace, configured(keyspace.namespace, WRONG))
    stored_before = await captures(redis, keyspace)
    right = await judge(redis, keyspace, configured(keyspace.namespace))

    [capture] = await captures(redis, keyspace)
    assert [(each.captured, each.word) for each in wrong] == [(False, "signature_mismatch")]
    assert stored_before == []
    assert [(each.captured, each.word) for each in right] == [(True, request_.proved_by)]
    assert tuple(capture) == CAPTURE_FIELDS
    assert kept.entry is not None
    assert (capture[b"id"].decode(), capture[b"received_at"]) == (kept.id, b"2026-11-21T12:00:00.000Z")
    assert (capture[b"assurance"], capture[b"kind"], capture[b"body"]) == (request_.assurance, b"callback", BODY)
    assert capture[b"facts"] == kept.facts
    assert await kept_in(redis, keyspace) == []


async def test_bytes_are_counted_in_both_streams(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """What leaves the quarantine is counted off there and added where it goes, so that trimming stays right."""
    await put(redis_url, configured(keyspace.namespace, WRONG), *REQUESTS.values())
    await judge(redis, keyspace, configured(keyspace.namespace))

    held = sum(len(value) for entry in await captures(redis, keyspace) for value in entry.values())
    assert int(await redis.get(keyspace.bytes_of(keyspace.captures)) or 0) == held
    assert int(await redis.get(keyspace.bytes_of(keyspace.quarantine)) or 0) == 0


async def test_an_entry_gets_out_once(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Of two people who judge at once only one captures it."""
    await put(redis_url, configured(keyspace.namespace, WRONG), REQUESTS["secret"])
    [kept] = await kept_in(redis, keyspace)
    settings, quarantine = settings_of(configured(keyspace.namespace)), Quarantine(redis, keyspace)

    twice = [await quarantine.judge(kept, settings.accounts, PROVIDERS, Veil(settings.id_key), NOW) for _ in range(2)]

    assert [(each.captured, each.word) for each in twice] == [(True, "secrets[0]"), (False, "gone")]
    assert await redis.xlen(keyspace.captures) == 1


async def test_a_rescued_request_is_published(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """The pipeline reads it like any other capture, once."""
    body = b'{"type": "mo_text", "id": "01RESCUED", "from": "15555550111", "to": "15555550100", "body": "Ahoy"}'
    configuration = configured(keyspace.namespace)
    async with running_app(configured(keyspace.namespace, WRONG), redis_url) as client:
        await client.post(path("sinch"), content=body, headers=proof("sinch", body))

    await judge(redis, keyspace, configuration)
    await work_off(configuration, redis_url)

    [event] = await events(redis, keyspace)
    assert (event["data"]["message"]["text"], event["data"]["assurance"]) == ("Ahoy", "signed")


# --- staying ----------------------------------------------------------------------------------------------

STAYING: dict[str, tuple[str, Signed, str | None, str]] = {
    "wrong_secret": ("sendblue", [(b"sb-signing-secret", b"wrong")], None, "signature_mismatch"),
    "empty_secret": ("sendblue", [(b"sb-signing-secret", b"")], None, "signature_malformed"),
    "differing_secrets": (
        "sendblue",
        [(b"sb-signing-secret", SECRETS["sendblue"][0].encode()), (b"sb-signing-secret", b"x")],
        None,
        "signature_malformed",
    ),
    "unreadable_basic": ("sinch", [(b"authorization", b"Basic ???")], None, "signature_malformed"),
    "basic_and_bearer": ("sinch", [*basic(BASIC[0]), (b"authorization", b"Bearer x")], None, "signature_malformed"),
    "right_signature_wrong_basic": ("sinch", [*proof("sinch", BODY), *basic("a:b")], None, "signature_mismatch"),
    "right_secret_wrong_token": ("sendblue", proof("sendblue", BODY), "wrong", "signature_mismatch"),
    "basic_as_token": ("sinch", [], BASIC[0], "signature_mismatch"),
    "bearer": ("sinch", [(b"authorization", b"Bearer x")], None, "signature_missing"),
    "nothing": ("telnyx", [], None, "signature_missing"),
    "late": ("telnyx", proof("telnyx", BODY, now=NOW - timedelta(minutes=6)), None, "timestamp_outside_tolerance"),
}


@pytest.mark.parametrize(("provider", "headers", "token", "reason"), STAYING.values(), ids=STAYING)
async def test_what_is_wrong_stays_wrong(
    redis_url: str,
    redis: Redis,
    keyspace: Keyspace,
    *,
    provider: str,
    headers: Signed,
    token: str | None,
    reason: str,
) -> None:
    """Judging again comes to the very refusal that the request was answered with, and moves nothing."""
    configuration = configured(keyspace.namespace)
    await put(redis_url, configuration, Request(provider, headers, "", b"", token))
    before = await everything(redis, keyspace)

    [judged] = await judge(redis, keyspace, configuration)

    assert before[keyspace.quarantine][0][b"reason"].decode() == reason
    assert (judged.captured, judged.word) == (False, reason)
    assert await everything(redis, keyspace) == before


async def test_without_an_id_key_a_secret_is_not_kept_in_any_form(
    redis_url: str, redis: Redis, keyspace: Keyspace
) -> None:
    """A digest without a key could be guessed, so there is none; signatures need none and can be judged."""
    without, wrong = configured(keyspace.namespace), configured(keyspace.namespace, WRONG)
    del without["id_key"], wrong["id_key"]
    await put(redis_url, wrong, REQUESTS["secret"], REQUESTS["hub"])

    judged = await judge(redis, keyspace, without)

    assert [(each.captured, each.word) for each in judged] == [(False, "not_judged"), (True, "app_secrets[1]")]
    [kept] = await kept_in(redis, keyspace)
    account = settings_of(without).accounts["main-sendblue"]
    assert kept.entry is not None
    assert explain_entry(kept.entry, account, PROVIDERS["sendblue"], Veil(b""), NOW).verdict == "unknown"


async def test_what_is_older_than_deduplication_stays(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """When nobody can tell any more whether its facts were published, it is not published again."""
    await put(redis_url, configured(keyspace.namespace, WRONG), REQUESTS["hub"])
    late = await judge(redis, keyspace, configured(keyspace.namespace), timedelta(days=8, seconds=1))
    in_time = await judge(redis, keyspace, configured(keyspace.namespace), timedelta(days=8))

    assert [(each.captured, each.word) for each in (*late, *in_time)] == [
        (False, "not_judged"),
        (True, "app_secrets[1]"),
    ]


CHANGED: dict[str, tuple[Callable[[Configuration], None], str]] = {
    "gone": (lambda accounts: accounts.pop("main-sinch"), "unknown_account"),
    "another_providers": (
        lambda accounts: accounts.update({"main-sinch": ACCOUNTS["main-whatsapp"]}),
        "not_judged",
    ),
}


@pytest.mark.parametrize(("change", "word"), CHANGED.values(), ids=CHANGED)
async def test_an_account_that_is_not_what_it_was_judges_nothing(
    redis_url: str, redis: Redis, keyspace: Keyspace, change: Callable[[Configuration], None], word: str
) -> None:
    """An entry whose account is gone, or of another provider by now, stays."""
    await put(redis_url, configured(keyspace.namespace, WRONG), REQUESTS["sinch"])
    configuration = configured(keyspace.namespace)
    change(configuration["accounts"])

    [judged] = await judge(redis, keyspace, configuration)

    assert (judged.captured, judged.word) == (False, word)


async def test_a_damaged_entry_harms_no_neighbour(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """What cannot be decoded stays, can be dropped, and the entry behind it is judged."""
    await redis.xadd(keyspace.quarantine, {"id": "cp_x", "body": "b"})
    await put(redis_url, configured(keyspace.namespace, WRONG), REQUESTS["hub"])

    judged = await judge(redis, keyspace, configured(keyspace.namespace))
    dropped = await Quarantine(redis, keyspace).drop(await kept_in(redis, keyspace))

    assert [(each.captured, each.word) for each in judged] == [(False, "damaged"), (True, "app_secrets[1]")]
    assert dropped == 1
    assert await redis.xlen(keyspace.quarantine) == 0


@pytest.mark.parametrize("field", [b"presented", b"headers", b"received_at", b"facts"])
async def test_a_field_that_is_missing_is_named(redis_url: str, redis: Redis, keyspace: Keyspace, field: bytes) -> None:
    """An entry without what it takes to judge it is damaged, and never judged by what is left of it."""
    await put(redis_url, configured(keyspace.namespace, WRONG), REQUESTS["secret"])
    [entry] = await entries(redis, keyspace.quarantine)
    del entry[field]

    with pytest.raises(ParseError, match=f"quarantine.{field.decode()}: missing"):
        decode_quarantined(entry)


# --- what is kept -----------------------------------------------------------------------------------------


async def test_no_secret_is_kept_whatever_presents_it(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Right or wrong, in the header it belongs in, in another provider's or in one of a proxy: it is not stored."""
    strays = [
        (b"sb-signing-secret", b"stray-Ghost"),
        (b"x-api-key", b"key-Ghost"),
        (b"x-auth-token", b"token-Ghost"),
        (b"x-forwarded-authorization", b"Basic Ghost"),
        (b"x-kept", b"kept"),
    ]
    wrong = configured(keyspace.namespace, WRONG)
    requests = [REQUESTS["secret"], REQUESTS["several"], Request("telnyx", [*strays, *basic(BASIC[0])], "", b"")]
    await put(redis_url, wrong, *requests)

    stored = repr(await everything(redis, keyspace))

    ghosts = ["Ghost", SECRETS["sendblue"][0], BASIC[0], basic(BASIC[0])[0][1].decode(), URL_TOKENS["sinch"][1]]
    assert [ghost for ghost in ghosts if ghost in stored] == []
    assert "x-kept" in stored
    assert "x-hub" not in stored


async def test_a_digest_is_of_its_setting_and_its_key(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """One value presented for two settings, or hidden with two id_keys, has two digests."""
    await put(
        redis_url,
        configured(keyspace.namespace, WRONG),
        Request("sendblue", [(b"sb-signing-secret", b"same")], "", b"", "same"),
    )
    [kept] = await kept_in(redis, keyspace)
    assert kept.entry is not None
    of_settings = {digest for digests in kept.entry.presented.proofs.values() for digest in digests}
    [scheme, _] = PROVIDERS["sendblue"].schemes
    of_keys = {Veil(key).credentials(scheme, ["same"]) for key in (KEY.encode(), b"another")}

    assert len(of_settings) == 2
    assert len(of_keys) == 2
    assert {len(digest or "") for digest in of_settings} == {64}

"""Where an account takes requests from: its networks alone, and no header makes a stranger somebody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from receiver.schemes import Signed
from receiver.settings import Account
from receiver.sources import Peer, SourceRefused, check_source
from schemas.callback import AccountFacts
from schemas.keyspace import Keyspace
from tests.library import running_api
from tests.service import (
    ACCOUNTS,
    VERIFY_TOKENS,
    captures,
    document,
    events,
    everything,
    exchange,
    head,
    path,
    port_of,
    problem,
    proof,
    running_app,
    work_off,
)

BODY = b'{"id": "ev-1"}'
REFUSED = (403, "source_refused")
#: The provider's networks in these tests, all set aside for documentation.
SOURCES = ["203.0.113.0/24", "2001:db8:7::/48"]


def account(*networks: str) -> Account:
    """An account with `sources`."""
    sources = tuple(map(ip_network, networks))
    return Account(name="main", provider="telnyx", credentials={}, facts=AccountFacts(), sources=sources)


# --- alone ------------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[Peer, bool]] = {
    "within": (("203.0.113.7", 50_000), True),
    "first_of_the_network": (("203.0.113.0", 1), True),
    "last_of_the_network": (("203.0.113.255", 1), True),
    "next_to_it": (("203.0.114.0", 1), False),
    "elsewhere": (("198.51.100.7", 1), False),
    "six_within": (("2001:db8:7::1", 1), True),
    "six_in_full": (("2001:0DB8:0007:0000:0000:0000:0000:0001", 1), True),
    "six_elsewhere": (("2001:db8:8::1", 1), False),
    "mapped_within": (("::ffff:203.0.113.7", 1), True),
    "mapped_in_hexadecimal": (("::ffff:cb00:7107", 1), True),
    "mapped_elsewhere": (("::ffff:198.51.100.7", 1), False),
    "compatible_is_not_mapped": (("::203.0.113.7", 1), False),
    "zone": (("2001:db8:7::1%eth0", 1), True),
    "obfuscated": (("unknown", 0), False),
    "a_name": (("hooks.example.com", 0), False),
    "empty": (("", 0), False),
    "octal": (("0313.0.113.7", 0), False),
    "a_number": (("3405803783", 0), False),
    "nobody": (None, False),
}


@pytest.mark.parametrize(("peer", "taken"), PEERS.values(), ids=PEERS)
def test_a_peer_is_in_a_network_or_is_refused(peer: Peer, *, taken: bool) -> None:
    """An address counts in each of its spellings; what is no address is in no network."""
    if taken:
        check_source(peer, account(*SOURCES))
    else:
        with pytest.raises(SourceRefused, match=r"accounts\.main\.sources"):
            check_source(peer, account(*SOURCES))


def test_a_network_of_mapped_addresses_means_the_same() -> None:
    """Whoever writes IPv4 networks as IPv6 sees them is understood."""
    check_source(("::ffff:203.0.113.7", 1), account("::ffff:203.0.113.0/120"))
    with pytest.raises(SourceRefused):
        check_source(("::ffff:203.0.114.1", 1), account("::ffff:203.0.113.0/120"))


@pytest.mark.parametrize("peer", [("198.51.100.7", 1), ("unknown", 0), None])
def test_without_sources_requests_come_from_anywhere(peer: Peer) -> None:
    """The default asks nobody where they are."""
    check_source(peer, account())


# --- over HTTP --------------------------------------------------------------------------------------------


def guarded(namespace: str, sources: list[str] = SOURCES, **sections: Any) -> Any:
    """The four accounts, each with `sources`."""
    accounts = {name: {**each, "sources": sources} for name, each in ACCOUNTS.items()}
    return document(namespace, accounts=accounts, **sections)


@asynccontextmanager
async def from_address(client: httpx.AsyncClient, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the same server that connects from another address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_of(client)}", transport=transport) as other:
        yield other


async def post(client: httpx.AsyncClient, *more: tuple[bytes, bytes], provider: str = "sinch") -> httpx.Response:
    """A callback that proves itself, with more headers."""
    return await client.post(path(provider), content=BODY, headers=[*proof(provider, BODY), *more])


async def test_who_opens_the_connection_is_who_sends_it(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Without a proxy that is trusted, the other end of the connection decides, for every provider."""
    async with (
        running_app(guarded(keyspace.namespace, ["127.0.0.2/31"]), redis_url) as client,
        from_address(client, "127.0.0.3") as listed,
        from_address(client, "127.0.0.4") as next_to_it,
    ):
        taken = [(await post(listed, provider=name)).status_code for name in ("telnyx", "sendblue", "sinch")]
        refused = [problem(await post(next_to_it, provider=name)) for name in ("telnyx", "sendblue", "sinch")]

    assert taken == [200, 200, 200]
    assert refused == [REFUSED] * 3
    assert len(await captures(redis, keyspace)) == 3


CLAIMS: dict[str, Signed] = {
    "forwarded_for": [(b"x-forwarded-for", b"203.0.113.7")],
    "a_chain": [(b"x-forwarded-for", b"203.0.113.7, 127.0.0.1")],
    "several": [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-for", b"203.0.113.8")],
    "real_ip": [(b"x-real-ip", b"203.0.113.7")],
    "standard": [(b"forwarded", b"for=203.0.113.7")],
    "vendors": [(b"cf-connecting-ip", b"203.0.113.7"), (b"true-client-ip", b"203.0.113.7")],
}


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
async def test_nobody_is_believed_to_speak_for_another(
    redis_url: str, redis: Redis, keyspace: Keyspace, claim: Signed, trusted: list[str]
) -> None:
    """Whatever a peer claims that is no trusted proxy, it is itself."""
    configuration = guarded(keyspace.namespace, server={"trusted_proxies": trusted})
    async with running_app(configuration, redis_url) as client:
        answer = await post(client, *claim)

    assert problem(answer) == REFUSED
    assert await everything(redis, keyspace) == {}


def forwarded(*values: str) -> Signed:
    """The headers that proxies write."""
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


CHAINS: dict[str, tuple[Signed, bool]] = {
    "provider": (forwarded("203.0.113.7"), True),
    "provider_six": (forwarded("2001:db8:7::9"), True),
    "provider_with_port": (forwarded("203.0.113.7:41022"), True),
    "provider_six_with_port": (forwarded("[2001:db8:7::9]:41022"), True),
    "provider_mapped": (forwarded("::ffff:203.0.113.7"), True),
    "through_another_proxy": (forwarded("203.0.113.7, 10.1.2.3"), True),
    "through_another_in_a_header_of_its_own": (forwarded("203.0.113.7", "10.1.2.3"), True),
    "what_the_provider_claims_is_passed_over": (forwarded("198.51.100.9, 203.0.113.7"), True),
    "stranger": (forwarded("198.51.100.9"), False),
    "stranger_claiming_to_be_the_provider": (forwarded("203.0.113.7, 198.51.100.9"), False),
    "stranger_claiming_it_in_a_header_of_its_own": (forwarded("203.0.113.7", "198.51.100.9"), False),
    "stranger_claiming_to_come_by_a_proxy": (forwarded("203.0.113.7, 10.1.2.3, 198.51.100.9"), False),
    "stranger_behind_the_other_proxy": (forwarded("203.0.113.7, 198.51.100.9, 10.1.2.3"), False),
    "garbage_last": (forwarded("203.0.113.7, unknown"), False),
    "comma_last": (forwarded("203.0.113.7,"), False),
    "garbage": (forwarded("\xff\xfe"), False),
    "nothing_but_proxies": (forwarded("10.9.9.9, 10.1.2.3"), False),
    "empty": (forwarded(""), False),
    "none": ([], False),
    "another_header": ([(b"x-real-ip", b"203.0.113.7"), (b"forwarded", b"for=203.0.113.7")], False),
}


@pytest.fixture(scope="module")
async def behind(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An application that trusts this machine, and a second network, to pass on requests."""
    trusting = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}
    async with running_app(guarded("t-behind-proxies", server=trusting), redis_url) as client:
        yield client


@pytest.mark.parametrize(("chain", "taken"), CHAINS.values(), ids=CHAINS)
async def test_the_last_one_of_a_chain_that_is_no_proxy_counts(
    behind: httpx.AsyncClient, chain: Signed, *, taken: bool
) -> None:
    """A trusted proxy says who it speaks for; what that one wrote into the header before is hearsay."""
    answer = await post(behind, *chain)

    if taken:
        assert answer.status_code == 200
    else:
        assert problem(answer) == REFUSED


async def test_the_body_of_a_refused_request_is_not_read(redis_url: str, keyspace: Keyspace) -> None:
    """403 comes before the body does, and room in flight is not taken."""
    async with running_app(guarded(keyspace.namespace), redis_url) as client:
        request = head("POST", path("telnyx"), proof("telnyx", BODY), b"content-length: 16000000")
        answer = await exchange(client, request)

    assert problem(answer) == REFUSED


async def test_the_handshake_has_to_come_from_there_too(redis_url: str, keyspace: Keyspace) -> None:
    """A right verify token from elsewhere gets no challenge back."""
    query = f"?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={VERIFY_TOKENS[0]}"
    async with (
        running_app(guarded(keyspace.namespace, ["127.0.0.3"]), redis_url) as client,
        from_address(client, "127.0.0.3") as listed,
    ):
        refused = await client.get(path("whatsapp") + query)
        taken = await listed.get(path("whatsapp") + query)

    assert problem(refused) == REFUSED
    assert "1158201444" not in refused.text
    assert (taken.status_code, taken.text) == (200, "1158201444")


@pytest.mark.parametrize("policy", ["reject", "defer", "quarantine"])
async def test_a_stranger_is_refused_whatever_becomes_of_the_unauthentic(
    redis_url: str, redis: Redis, keyspace: Keyspace, policy: str
) -> None:
    """Nobody elsewhere fills the quarantine; the refusal is counted, and names no address."""
    configuration = guarded(keyspace.namespace)
    configuration["accounts"]["main-sinch"]["on_unauthentic"] = policy
    counted = 'partyline_callbacks_total{account="main-sinch",outcome="source_refused",provider="sinch"}'
    async with running_app(configuration, redis_url) as client:
        before = (await client.get("/metrics")).text
        answers = [await client.post(path("sinch"), content=BODY), await post(client)]
        after = (await client.get("/metrics")).text

    assert [problem(answer) for answer in answers] == [REFUSED, REFUSED]
    assert not any("127.0.0.1" in answer.text for answer in answers)
    assert count_of(counted, after) - count_of(counted, before) == 2
    assert await everything(redis, keyspace) == {}


def count_of(series: str, page: str) -> float:
    """The value of one series; 0 before it is there."""
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(series)), 0.0)


async def test_an_account_is_closed_alone(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Neighbours without `sources` go on taking callbacks from anywhere."""
    accounts = {**ACCOUNTS, "main-telnyx": {**ACCOUNTS["main-telnyx"], "sources": SOURCES}}
    async with running_app(document(keyspace.namespace, accounts=accounts), redis_url) as client:
        refused, taken = await post(client, provider="telnyx"), await post(client)

    assert (problem(refused), taken.status_code) == (REFUSED, 200)
    assert [entry[b"account"] for entry in await captures(redis, keyspace)] == [b"main-sinch"]


async def test_sends_of_ours_are_registered_from_anywhere(
    redis_url: str, redis: Redis, keyspace: Keyspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sources` is about providers: /v1 has its tokens."""
    configuration = guarded(keyspace.namespace)
    sections = {"accounts": configuration["accounts"]}
    sent = {"id": "m1", "to": ["+15555550111"]}
    async with running_api(keyspace.namespace, redis_url, monkeypatch, sections=sections) as client:
        answer = await client.post("/v1/outbound/telnyx/main-telnyx", json=sent)

    assert answer.status_code == 200
    assert [entry[b"kind"] for entry in await captures(redis, keyspace)] == [b"outbound"]


async def test_what_comes_from_there_is_published_as_ever(redis_url: str, redis: Redis, keyspace: Keyspace) -> None:
    """Where a callback came from is no part of what it says."""
    said = b'{"type": "mo_text", "id": "01SRC", "from": "15555550111", "to": "15555550100", "body": "Ahoy"}'
    configuration = guarded(keyspace.namespace, ["127.0.0.0/8"])
    async with running_app(configuration, redis_url) as client:
        await client.post(path("sinch"), content=said, headers=proof("sinch", said))
    await work_off(configuration, redis_url)

    assert [event["data"]["message"]["text"] for event in await events(redis, keyspace)] == ["Ahoy"]

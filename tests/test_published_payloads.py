"""Callbacks that providers and others published, sent over HTTP and worked off, where a copy of them is at hand.

They are not ours to carry along. `PARTYLINE_SHARED` names the folder that has them as
`providers/<name>/payloads/*.json`, each folder with an INDEX.md that says what is odd about which; without it this
module holds no test. Each file goes to an account of its own, so that equal ids in two files are no duplicates.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from redis.asyncio import Redis

from correlator.hints import following
from schemas.keyspace import Keyspace
from tests.service import ACCOUNTS, LINE, captures, document, entries, events, proof, running_app, work_off

SHARED = os.environ.get("PARTYLINE_SHARED")
PROVIDERS = ["telnyx", "sendblue", "sinch", "whatsapp"]
#: What the INDEX.md files say of names: answers of an API, frames of an event stream, arrays of deliveries, envelopes.
NO_WEBHOOKS = re.compile(r"api_response_.*|api_list_.*|api_object\..*|sse_.*")
SEVERAL = re.compile(r".*(_pair|_out_of_order)(\.|$)")
ENVELOPE = re.compile(r".*_envelope_with_headers\.")


class Published(msgspec.Struct, frozen=True):
    """One published file: the bodies in it, and whether its publisher means it to be unreadable."""

    provider: str
    name: str
    account: str
    bodies: tuple[bytes, ...]
    negative: bool


class Result(msgspec.Struct):
    """What became of one file."""

    statuses: list[int] = []
    #: Types of the events, as published.
    types: list[str] = []
    dead: int = 0


def published() -> Iterator[Published]:
    """Every webhook of every provider."""
    for provider in PROVIDERS if SHARED else ():
        folder = Path(SHARED or "", "providers", provider, "payloads")
        index = (folder / "INDEX.md").read_text(encoding="utf-8")
        negative = {line.split("|")[1].strip() for line in index.splitlines() if "negative test" in line}
        files = [path for path in sorted(folder.glob("*.json")) if not NO_WEBHOOKS.fullmatch(path.name)]
        for number, path in enumerate(files):
            yield Published(
                provider=provider,
                name=path.name,
                account=f"{provider}-{number:03}",
                bodies=tuple(bodies(path)),
                negative=path.name in negative,
            )


def bodies(path: Path) -> Iterator[bytes]:
    """The webhook bodies in a file: itself, as a rule to the byte."""
    raw = path.read_bytes()
    if SEVERAL.match(path.name):
        yield from (orjson.dumps(delivery) for delivery in orjson.loads(raw))
    elif ENVELOPE.match(path.name):
        yield orjson.dumps(orjson.loads(raw)["body"])
    else:
        yield raw


FILES = list(published())


def configuration(namespace: str, accounts: dict[str, Any]) -> dict[str, Any]:
    """Accounts that take callbacks of any age."""
    return document(namespace, accounts=accounts, retention={"dedupe": "36500d"})


async def post(client: httpx.AsyncClient, provider: str, account: str, body: bytes) -> int:
    """The status of a properly proved callback."""
    target = f"/webhooks/{provider}/{account}"
    return (await client.post(target, content=body, headers=proof(provider, body))).status_code


@pytest.fixture(scope="module")
async def results(redis_url: str) -> dict[str, Result]:
    """What became of all files, by account: sent once, worked off once."""
    keyspace = Keyspace(f"t-{token_hex(6)}")
    accounts = {file.account: ACCOUNTS[f"main-{file.provider}"] for file in FILES}
    settings = configuration(keyspace.namespace, accounts)
    found = {file.account: Result() for file in FILES}
    redis: Redis = Redis.from_url(redis_url, protocol=2)
    async with following(redis, [keyspace]) as envelopes:
        async with running_app(settings, redis_url) as client:
            for file in FILES:
                for body in file.bodies:
                    found[file.account].statuses.append(await post(client, file.provider, file.account, body))
        await work_off(settings, redis_url)
        await redis.publish(f"{keyspace.channels}end", b"")
        async for envelope in envelopes:
            if not envelope:
                break
            event = orjson.loads(envelope)
            found[event["data"]["provider"]["account"]].types.append(event["type"])
    owners = {fields[b"id"]: fields[b"account"] for fields in await captures(redis, keyspace)}
    for letter in await entries(redis, keyspace.dead):
        found[owners[letter[b"capture"]].decode()].dead += 1
    await redis.aclose()
    return found


if SHARED:

    @pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.provider}/{file.name}")
    async def test_a_published_callback_is_never_met_with_an_error_or_with_silence(
        results: dict[str, Result], file: Published
    ) -> None:
        """Each is answered 200 and becomes events; if meant to be unreadable, a dead letter or `unrecognised`."""
        result = results[file.account]

        assert result.statuses == [200] * len(file.bodies)
        if file.negative:
            assert result.dead or result.types
            assert set(result.types) <= {"unrecognised"}
        else:
            assert len(result.types) >= len(set(file.bodies))

    def test_there_are_files_of_every_provider() -> None:
        """The folder is the right one: each provider has callbacks there, and two of them unreadable ones."""
        assert {file.provider for file in FILES} == set(PROVIDERS)
        assert {file.provider for file in FILES if file.negative} == {"sinch", "whatsapp"}

    LINE_OF_THE_SAMPLE = "+15551234567"

    # --- the group of the Telnyx documentation ---

    def telnyx_file(name: str) -> Any:
        """A published Telnyx callback, decoded."""
        [file] = [file for file in FILES if (file.provider, file.name) == ("telnyx", name)]
        return orjson.loads(file.bodies[0])

    def changed(callback: Any, number: int, **payload: Any) -> Any:
        """A copy of a callback as another one of the same kind: other ids, and these members of its payload."""
        data = callback["data"]
        made = {**data["payload"], "id": f"made-{number}", **payload}
        return {**callback, "data": {**data, "id": f"made-event-{number}", "payload": made}}

    async def keys_of(redis_url: str, redis: Redis, keyspace: Keyspace, callbacks: list[Any]) -> list[str]:
        """The conversation key of each callback, sent in this order to one account."""
        account = {**ACCOUNTS["main-telnyx"], "lines": [LINE]}
        settings = configuration(keyspace.namespace, {"group": account})
        async with running_app(settings, redis_url) as client:
            for callback in callbacks:
                assert await post(client, "telnyx", "group", orjson.dumps(callback)) == 200
        await work_off(settings, redis_url)
        published = await events(redis, keyspace)
        assert [event["type"] for event in published] == ["message.received"] * len(callbacks)
        return [event["subject"] for event in published]

    async def test_one_group_in_all_its_spellings_is_one_conversation(
        redis_url: str, redis: Redis, keyspace: Keyspace
    ) -> None:
        """The sample, another member's reply, cc as objects and odd spellings meet; without one member, not."""
        sample = telnyx_file("group_message_received_cc_bare_strings_incl_own_number.json")
        reply = telnyx_file("composed_group_received_reply_other_sender_same_thread.json")
        cc = sample["data"]["payload"]["cc"]
        objects = changed(sample, 1, cc=[{"phone_number": number, "carrier": "Tide Mobile"} for number in cc])
        spelled = [f"{number[1]} ({number[2:5]}) {number[5:8]}-{number[8:]}" for number in reversed(cc)]
        unnormalised = changed(sample, 2, cc=[*spelled, cc[0].removeprefix("+1"), f"\u202a{cc[1]}\u202c"])
        without_own = changed(sample, 3, cc=[number for number in cc if number != LINE_OF_THE_SAMPLE])
        smaller = changed(sample, 4, cc=cc[1:])

        *one_group, other = await keys_of(
            redis_url, redis, keyspace, [sample, reply, objects, unnormalised, without_own, smaller]
        )

        assert len(set(one_group)) == 1
        assert other != one_group[0]

    LINE_OF_THE_SAMPLE = "+15551234567"

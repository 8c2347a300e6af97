"""Forgetting a person, over a real Redis: nothing that is stored names that person, and all else works as before."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis

from correlator import lease
from correlator.circles import Circle
from correlator.forget import Forgetting
from correlator.lookup import Lookup
from correlator.records import decode
from correlator.redis_client import connect
from correlator.rollup import Rollup
from correlator.scripts import Scripts
from correlator.store import Store
from correlator.subscribe import Published, Retry, Subscription
from receiver.captures import CaptureLog
from receiver.embedded import EmbeddedRedis
from receiver.forgetting import KINDS, Found, OtherPerson, OwnLine, Request, Search
from receiver.namespace import claim_namespace
from receiver.naming import Naming
from receiver.parsing import read
from receiver.providers import PROVIDERS
from receiver.samples import SAMPLES
from receiver.settings import Settings
from receiver.settings.values import SecretBytes
from schemas.address import Address
from schemas.callback import AccountFacts, Callback, Capture, CaptureKind
from schemas.errors import LeaseLost, StoreError
from schemas.events import (
    Evidence,
    Link,
    Linked,
    Message,
    MessageOutbound,
    MessageStatus,
    Parsed,
    Pointer,
    Sent,
    Status,
    Tie,
)
from schemas.ids import CaptureId, ConversationKey, EventId
from schemas.keyspace import Keyspace
from schemas.wire import QUARANTINE_FIELDS, encode_capture, encode_facts
from tests.command_line import Run, command_line
from tests.engine import BOB, CAT, ID_KEY, LINE, NOW, Engine, conversation_record, event, everyone, group, pair, pointed
from tests.test_history import NAMESPACE, RUNNER, Histories, Said, account_of, as_parsed

ANN = Address("+15555550111")
ANN_ID, LATER_ID = Address("whatsapp:US.1001"), Address("whatsapp:US.1002")
#: A message of ours; who it went to is for the evidence to say.
SENT = MessageOutbound(Message(id="out", direction="outbound", sender=LINE, text="Seven?", media=(), channel="mms"))
ACCOUNTS = {f"{name}/main-{name}": frozenset({LINE}) for name in PROVIDERS}
CONFIGURED_KEY = b"a key for tests only"


class Space:
    """A namespace with a capture log that is worked off as a pipeline does."""

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self.engine = Engine(redis, keyspace)
        self.engine.store = Store(redis, keyspace, CONFIGURED_KEY, 30 * 86400)
        self.log = CaptureLog(redis, keyspace)
        self.redis: Any = redis
        self.keys = keyspace
        self.number = 0

    async def receive(self, provider: str, *bodies: bytes, kind: CaptureKind = "callback") -> None:
        """Append captures of an account to the log."""
        facts = AccountFacts(lines=(LINE,))
        for body in bodies:
            self.number += 1
            callback = Callback(provider, f"main-{provider}", NOW, "signed", "secrets[0]", (), body, facts)
            await self.log.append([encode_capture(CaptureId(f"cp_{self.number}"), callback, encode_facts(facts), kind)])

    async def work_off(self) -> None:
        """Commit what is in the log."""
        assert await self.engine.lease.take()
        after = await self.engine.store.cursor()
        entries = [read(entry, PROVIDERS) for entry in await self.log.read(after, 1000, 1)]
        await self.engine.store.commit(self.engine.lease.token, after, entries)
        await self.engine.lease.give_up()

    async def samples(self, tag: str = "s") -> None:
        """The sample conversation of each provider, worked off."""
        for provider, bodies in SAMPLES.items():
            await self.receive(provider, *bodies(NOW, tag))
        await self.work_off()

    def search(self, address: str = ANN, **where: str) -> Search:
        """A request to forget somebody."""
        request = Request(Address(address), ACCOUNTS, **where)
        return Search(self.redis, self.keys, CONFIGURED_KEY, PROVIDERS, request)

    async def forget(self, address: str = ANN, **where: str) -> Found:
        """Look, and forget what was found."""
        search = self.search(address, **where)
        return await search.forget((await search.look()).addresses)


@pytest.fixture
def space(redis: Redis, keyspace: Keyspace) -> Space:
    """An empty namespace."""
    return Space(redis, keyspace)


async def everything(redis: Any, keyspace: Keyspace) -> dict[bytes, Any]:
    """Every key of a namespace with its value, but for the short hashes of event ids."""
    found: dict[bytes, Any] = {}
    for name in sorted(await redis.keys(f"{keyspace.prefix}:*")):
        kind = await redis.type(name)
        if kind == b"stream":
            found[name] = await redis.xrange(name)
        elif kind == b"hash":
            found[name] = await redis.hgetall(name)
        elif kind == b"zset":
            found[name] = await redis.zrange(name, 0, -1)
        else:
            found[name] = await redis.get(name)
    hashes = f"{keyspace.prefix}:dd:".encode()
    return {name: value for name, value in found.items() if not name.startswith(hashes)}


async def is_named(redis: Any, keyspace: Keyspace, *addresses: str) -> list[bytes]:
    """The keys in which an address stands anywhere."""
    found = await everything(redis, keyspace)
    bare = [address.removeprefix("+1").rpartition(":")[2].encode() for address in addresses]
    return [name for name, value in found.items() if any(text in name or text in repr(value).encode() for text in bare)]


async def give_everything_up(redis: Redis, keyspace: Keyspace, group: str) -> None:
    """A group of subscribers whose handler fails at every event, and at each but once."""
    waiting = await redis.xlen(keyspace.events)
    subscription = Subscription(
        redis, namespace=keyspace.namespace, group=group, start="beginning", retry=Retry(tries=1), partitions=1
    )

    async def fail(_: Published) -> None:
        raise ValueError

    running = asyncio.create_task(subscription.run(fail))
    async with asyncio.timeout(20):
        while await redis.xlen(keyspace.undeliverable(group)) < waiting:  # noqa: ASYNC110 - another client writes it
            await asyncio.sleep(0.05)
    subscription.stop()
    await running


async def counters_are_exact(space: Space) -> bool:
    """Whether the counters of the streams' bytes are what a recount gives."""
    for stream in (space.keys.captures, space.keys.events, space.keys.dead, space.keys.quarantine):
        counted = int(await space.redis.get(space.keys.bytes_of(stream)) or 0)
        entries = await space.redis.xrange(stream)
        if counted != sum(len(value) for _, fields in entries for value in fields.values()):
            return False
    return True


# --- all that names a person ------------------------------------------------------------------------------


async def test_nothing_that_is_stored_names_a_person_any_more(space: Space) -> None:
    """Of the samples of all providers nothing is left with that number in it, key, record or stream."""
    await space.samples()
    assert len(await is_named(space.redis, space.keys, ANN)) >= 10
    found = await space.forget()

    assert await is_named(space.redis, space.keys, ANN) == []
    assert found.addresses == (ANN,)
    assert found.counts["captures"] > 5
    assert await counters_are_exact(space)
    assert (await space.search().look()).counts.total() == 0


async def test_looking_changes_nothing_and_finds_what_forgetting_removes(space: Space) -> None:
    """What a dry run counts is what is removed, kind by kind."""
    await space.samples()
    before = await everything(space.redis, space.keys)
    found = await space.search().look()

    assert await everything(space.redis, space.keys) == before
    assert await space.forget() == found
    assert set(found.counts) <= set(KINDS)


async def test_others_are_left_alone(space: Space) -> None:
    """Forgetting somebody who has nothing to do with it leaves every byte as it was."""
    await space.samples()
    before = await everything(space.redis, space.keys)
    found = await space.forget("+15555550199")

    assert found.counts.total() == 0
    assert await everything(space.redis, space.keys) == before


async def test_the_receiver_goes_on_and_a_person_may_come_back(space: Space) -> None:
    """What comes again is no news, and what comes anew is published, from one on where all was forgotten."""
    await space.samples()
    before = len(await space.engine.events())
    await space.forget()
    kept = len(await space.engine.events())
    await space.samples()
    again = len(await space.engine.events())
    await space.samples("t")

    assert again - kept < before - kept  # duplicates; what follows from them may be told again
    assert "+15555550111" in repr(await space.engine.events())
    events = [item for item in await space.engine.events() if item["type"] == "message.received"]
    assert {item["data"]["message"]["sender"] for item in events[-3:]} >= {ANN}


# --- conversations and what belongs to them ---------------------------------------------------------------


@pytest.fixture
async def engine(space: Space) -> Engine:
    """The namespace under what commits to it by hand, at an account of its own."""
    space.engine.store = Store(space.redis, space.keys, CONFIGURED_KEY, 30 * 86400)
    return space.engine


async def fed(space: Space, *parsed: Any) -> None:
    """Commit facts by hand."""
    assert await space.engine.lease.take()
    for item in parsed:
        await space.engine.feed(item, provider="telnyx", account="main-telnyx")
    await space.engine.lease.give_up()


def by_telnyx(name: str, evidence: Evidence, **more: Any) -> Any:
    """A fact at the account."""
    return event(name, evidence, account="main-telnyx", **more)


async def conversations(space: Space, address: str) -> list[dict[str, Any]]:
    """What a look-up finds of a participant."""
    return (
        await Lookup(space.redis, space.keys, CONFIGURED_KEY).by_address(Address(address), None, None, "", 50)
    ).conversations


async def test_a_direct_conversation_goes_with_all_that_it_has(space: Space) -> None:
    """Its record, its index, its sequence and the redirects to it; another's with the same line stays."""
    send = Evidence(pair(ANN).identity, pointers=(Pointer("message", ("m1",)),), lines=(LINE,), registered=True)
    await fed(
        space,
        by_telnyx("r", pointed("m1"), body=SENT),
        by_telnyx("s", send, body=SENT),
        by_telnyx("b", pair(BOB), body=SENT),
    )
    assert len(await space.redis.keys(f"{space.keys.prefix}:cv:*")) == 3
    assert len(await space.redis.keys(f"{space.keys.prefix}:sq:*")) == 1  # of the one that was provisional
    found = await space.forget()

    assert found.counts["conversations"] == 2
    assert await space.redis.keys(f"{space.keys.prefix}:sq:*") == []
    assert len(await space.redis.keys(f"{space.keys.prefix}:cv:*")) == 1
    assert await space.redis.keys(f"{space.keys.prefix}:pt:*") == []
    assert [len(await conversations(space, person)) for person in (ANN, BOB)] == [0, 1]
    assert [item["data"]["message"]["id"] for item in await space.engine.events()] == ["out"]


async def test_a_group_with_an_id_stays_without_the_person(space: Space) -> None:
    """The others and the number of its events stay; a group that is the set of its members goes."""
    await fed(
        space,
        by_telnyx("g", group(listed=(ANN, BOB, LINE), lines=(LINE,))),
        by_telnyx("s", everyone(ANN, BOB, LINE)),
        by_telnyx("t", everyone(BOB, CAT, LINE)),
    )
    found = await space.forget()
    left = await conversations(space, BOB)

    assert (found.counts["memberships"], found.counts["conversations"]) == (1, 1)
    assert sorted((one["ids"].get("group_id", ""), one["participants"]) for one in left) == [
        ("", (BOB, CAT)),
        ("sb_group_1", (BOB,)),
    ]
    await fed(space, by_telnyx("h", group(joined=(CAT,))))
    last = (await space.engine.events())[-1]
    assert last["data"]["conversation"]["participants"] == [BOB, CAT]
    assert int(last["sequence"]) == 3  # the second told that Cat had come


async def test_a_batch_keeps_what_became_of_it_with_others(space: Space) -> None:
    """The person's part of a roll-up goes, the others' part stays."""

    def report(contact: Address, name: str) -> Any:
        sent = Sent((Pointer("batch", ("x",)),), count=3)
        evidence = Evidence(pair(contact).identity, lines=(LINE,), sent=sent)
        status = Status("delivered", final=True, recipient=contact, raw="Delivered")
        return by_telnyx(name, evidence, body=MessageStatus(SENT.message, status))

    await fed(space, report(ANN, "1"), report(BOB, "2"))
    found = await space.forget()
    raw = await space.redis.get((await space.redis.keys(space.keys.rollup("*")))[0])
    rollup = decode(Rollup, raw).show()

    assert found.counts["roll-ups"] == 1
    assert (rollup["recipients"], rollup["delivered"]) == (2, 1)
    assert await is_named(space.redis, space.keys, ANN) == []


async def test_all_addresses_of_a_person_are_forgotten(space: Space) -> None:
    """Whichever of a phone and a user id is named, both go; the phone's next owner stays."""
    await fed(
        space,
        by_telnyx("1", pair(ANN, same_user=((ANN, ANN_ID),))),
        by_telnyx("2", pair(ANN_ID)),
        by_telnyx("3", pair(LATER_ID, same_user=((ANN, LATER_ID),))),
    )
    looked = await space.search(ANN_ID).look()
    found = await space.forget(ANN_ID)

    assert looked.addresses == found.addresses == (ANN, ANN_ID)
    assert found.counts["identities"] == 3
    assert await is_named(space.redis, space.keys, ANN, ANN_ID) == []
    assert len(await conversations(space, LATER_ID)) == 1
    await fed(space, by_telnyx("4", pair(LATER_ID, same_user=((ANN, LATER_ID),))))
    assert len(await conversations(space, ANN)) == 1


async def test_what_a_person_linked_stands_for_itself_again(space: Space) -> None:
    """A conversation that was linked with one that goes stays, and is found under its own key."""
    await fed(space, by_telnyx("1", pair(ANN)), by_telnyx("2", pair(BOB)))
    one, other = await space.engine.subjects()
    await fed(space, Linked(EventId("l"), Link(ConversationKey(one), ConversationKey(other))))
    await space.forget()
    await fed(space, by_telnyx("3", pair(BOB)))

    assert [(item["key"], item["merged"]) for item in await conversations(space, BOB)] == [(other, ())]
    assert await space.redis.exists(space.keys.conversation(one)) == 0


async def test_only_one_account_is_meant(space: Space) -> None:
    """With an account or a provider, what others have stays."""
    await space.samples()
    await space.forget(provider="sinch", account="main-sinch")
    accounts = {item["data"]["provider"]["name"] for item in await space.engine.events() if ANN in repr(item)}
    found = await space.forget(provider="whatsapp")

    assert accounts == {"telnyx", "sendblue", "whatsapp"}
    assert found.counts["captures"] == 1
    assert {item["account"] for item in await conversations(space, ANN)} == {
        "telnyx/main-telnyx",
        "sendblue/main-sendblue",
    }


# --- streams ----------------------------------------------------------------------------------------------


async def test_what_cannot_be_read_is_searched_for_the_number(space: Space) -> None:
    """Dead letters and quarantined requests that hold the number in any spelling go with their captures."""
    await space.receive("telnyx", b'{"data": {"from": "(555) 555-0111"', b"nothing of interest")
    await space.work_off()
    for body in (b"from=%2B1+555+555-0111", b'{"from": "\\u202a+1 555 555 0111"}', b'{"from": "+15555550112"}'):
        values = {b"provider": b"telnyx", b"account": b"main-telnyx", b"body": body}
        await space.log.quarantine([values.get(name, b"") for name in QUARANTINE_FIELDS])
    assert len(await space.engine.dead()) == 2
    found = await space.forget()

    assert [found.counts[kind] for kind in ("captures", "dead letters", "quarantined requests")] == [1, 1, 2]
    assert [capture for capture, _, _ in await space.engine.dead()] == ["cp_2"]
    assert await space.redis.xlen(space.keys.quarantine) == 1
    assert await counters_are_exact(space)


async def test_dead_letters_of_subscribers_go_with_their_events(space: Space) -> None:
    """Event ids may hold a number: letters of events that go do too, also of those gone before; others stay."""
    await space.samples()
    for name in ("crm", "inbox"):
        await give_everything_up(space.redis, space.keys, name)
    before = await is_named(space.redis, space.keys, ANN)
    [(trimmed, _)] = await space.redis.xrange(space.keys.events, count=1)
    await space.redis.xdel(space.keys.events, trimmed)
    found = await space.forget()
    left = {position for position, _ in await space.redis.xrange(space.keys.events)}
    letters = [await space.redis.xrange(space.keys.undeliverable(name)) for name in ("crm", "inbox")]

    assert space.keys.undeliverable("crm").encode() in before
    assert await is_named(space.redis, space.keys, ANN) == []
    assert all(left <= {fields[b"position"] for _, fields in each} for each in letters)
    assert found.counts["dead letters"] >= 2 * found.counts["events"]


async def test_captures_that_no_pipeline_has_read_stay(space: Space) -> None:
    """What was answered 200 is published; it is counted, and found the next time."""
    await space.samples()
    await space.receive("telnyx", *SAMPLES["telnyx"](NOW, "late"))
    found = await space.forget()
    waiting = await space.redis.xlen(space.keys.captures)
    await space.work_off()
    again = await space.forget()

    assert (found.waiting, again.waiting) == (4, 0)
    assert waiting >= 4
    assert again.counts["captures"] == 4
    assert await is_named(space.redis, space.keys, ANN) == []


async def test_a_mention_in_others_texts_stays_and_is_counted(space: Space) -> None:
    """What Bob wrote to us about Ann is Bob's."""
    body = orjson.loads(SAMPLES["telnyx"](NOW, "s")[0])
    body["data"]["payload"] |= {"from": {"phone_number": BOB}, "cc": [], "text": "Ask Ann, 555-555-0111, thanks"}
    await space.receive("telnyx", orjson.dumps(body))
    await space.work_off()
    found = await space.forget()

    assert (found.counts.total(), found.mentions) == (0, 2)


async def test_a_capture_that_tells_of_others_goes_whole_and_is_counted(space: Space) -> None:
    """Exact bytes are kept or not; events of the others stay, but those that list the person."""
    await space.receive("whatsapp", *SAMPLES["whatsapp"](NOW, "s"))
    await space.work_off()
    found = await space.forget("+15555550122")

    assert found.counts["captures"] == 2
    assert found.shared == 1


# --- order, lease, crash ----------------------------------------------------------------------------------


async def test_it_is_done_under_the_lease_alone(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a pipeline holds it nothing is removed; when it is lost nothing further is."""
    await space.samples()
    before = await everything(space.redis, space.keys)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.1)
    await space.redis.set(space.keys.lease, "a pipeline's")
    with pytest.raises(StoreError, match="was not handed over"):
        await space.forget()
    records = Forgetting(space.redis, space.keys, CONFIGURED_KEY, lambda _: True)
    work = await records.work(await records.survey(ANN, ACCOUNTS))
    with pytest.raises(LeaseLost):
        await records.carry_out("ours", work)
    with pytest.raises(LeaseLost):
        await records.withdraw("ours", space.keys.events, ["1-0"])
    await space.redis.delete(space.keys.lease, space.keys.lease_wanted)

    assert await everything(space.redis, space.keys) == before


async def test_more_than_was_agreed_to_is_not_forgotten(space: Space) -> None:
    """Where another address turned out to be the same person's meanwhile, whoever asked is asked again."""
    await fed(space, by_telnyx("1", pair(ANN)))
    looked = await space.search().look()
    await fed(space, Linked(EventId("tie"), Tie(ANN, BOB)), by_telnyx("2", pair(BOB)))
    before = await everything(space.redis, space.keys)
    with pytest.raises(OtherPerson):
        await space.search().forget(looked.addresses)

    assert await everything(space.redis, space.keys) == before


async def test_own_lines_are_not_forgotten(space: Space) -> None:
    """A line is in every conversation: it is refused, whether it is configured or was told by callbacks."""
    await space.samples()
    with pytest.raises(OwnLine):
        await space.search(LINE).look()
    spare = Address("+15555550177")
    await fed(space, by_telnyx("1", pair(BOB, line=spare)))
    with pytest.raises(OwnLine):
        await space.search(spare).look()


async def test_what_was_broken_off_is_finished_by_another_run(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is broken off, the next run removes all of the rest, and what stays is the same."""
    tie = Evidence(pair(ANN_ID).identity, lines=(LINE,), same_user=((ANN, ANN_ID),))
    send = Evidence(pair(ANN).identity, pointers=(Pointer("message", ("m1",)),), lines=(LINE,), registered=True)
    rest: dict[bytes, Any] | None = None
    monkeypatch.setattr("correlator.forget._STEPS_A_CALL", 1)
    monkeypatch.setattr("correlator.forget._ENTRIES_A_CALL", 3)
    for calls in range(200):
        await space.redis.delete(*await space.redis.keys(f"{space.keys.prefix}:*"), "none")
        space.engine._position = 0
        await fed(space, by_telnyx("1", pointed("m1"), body=SENT), by_telnyx("2", send, body=SENT))
        await fed(space, by_telnyx("3", tie))
        await fed(space, by_telnyx("4", group(listed=(ANN, BOB))), by_telnyx("5", everyone(ANN, BOB, LINE)))
        finished = await _breaking_off(space.search(ANN_ID), (ANN, ANN_ID), calls)
        await space.forget(ANN_ID)
        left = {
            name: value
            for name, value in (await everything(space.redis, space.keys)).items()
            if name != space.keys.events.encode()
        }
        assert await is_named(space.redis, space.keys, ANN, ANN_ID) == []
        rest = left if rest is None else rest
        assert left == rest
        if finished:
            break

    assert calls >= 9


async def _breaking_off(search: Search, agreed: Iterable[Address], calls: int) -> bool:
    """Forget, and die after so many calls of scripts; whether it came to its end before."""
    made, bind = [0], Scripts.__init__

    def dying(scripts: Scripts, redis: Redis) -> None:
        bind(scripts, redis)
        for name in ("forget", "withdraw"):
            script = getattr(scripts, name)

            async def call(script: Any = script, **given: Any) -> Any:
                made[0] += 1
                if made[0] > calls:
                    raise ConnectionError
                return await script(**given)

            setattr(scripts, name, call)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Scripts, "__init__", dying)
        try:
            await search.forget(agreed)
        except StoreError:
            return False
    return True


# --- any history ------------------------------------------------------------------------------------------


class Forgotten(Histories):
    """Any history at all, after which somebody is forgotten."""

    def teardown(self) -> None:
        """Commit it, forget Ann, and commit it again."""
        if self.told and hasattr(self, "data"):
            RUNNER.run(forgotten, self.told, self.data.draw(st.booleans()), self.data.draw(st.integers(0, 12)))


async def forgotten(redis: Any, told: list[Said], by_id: bool, calls: int) -> None:
    """Broken off and done again: nothing names Ann, nothing leads to what is not there, the same can be told anew."""
    engine = Engine(redis, Keyspace(f"f-{token_hex(6)}", keys_of=NAMESPACE))
    await tell(engine, told, "")
    accounts = {f"{provider}/main": frozenset[Address]() for provider in PROVIDERS}
    request = Request(ANN_ID if by_id else ANN, accounts)
    search = Search(redis, engine.keyspace, ID_KEY, PROVIDERS, request)
    agreed = (await search.look()).addresses
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("correlator.forget._STEPS_A_CALL", 1)
        await _breaking_off(search, agreed, calls)
        await check_references(engine)
        await tell(engine, told[:2], " meanwhile")
    found = await search.forget((await search.look()).addresses)
    assert await is_named(redis, engine.keyspace, *found.addresses) == []
    assert (await search.look()).counts.total() == 0
    await check_references(engine)
    await tell(engine, told, " again")


async def tell(engine: Engine, told: list[Said], suffix: str) -> None:
    """Commit a history, its facts named anew."""
    assert await engine.lease.take()
    for at, said in enumerate(told):
        parsed = as_parsed(said, at)
        parsed = msgspec.structs.replace(parsed, id=EventId(parsed.id + suffix))
        await engine.feed(parsed, **account_of(said))
    await engine.lease.give_up()


async def check_references(engine: Engine) -> None:
    """Every record that another leads to is there, and stands for what it says."""
    records = {}
    for name in await engine.redis.keys(engine.keyspace.conversation("*")):
        key = name.decode()[len(engine.keyspace.conversation("")) :]
        records[key] = await conversation_record(engine.redis, engine.keyspace, key)
    for record in records.values():
        assert record is not None
        assert {*record.users} <= records.keys()
        if record.merged_into is not None:
            assert record.merged_into in records
    for name in await engine.redis.keys(engine.keyspace.circle("*")):
        circle = decode(Circle, await engine.redis.get(name))
        assert {sight.key for sight in circle.sights} <= records.keys()
        assert circle.leads_to is None or await engine.redis.exists(engine.keyspace.circle(circle.leads_to))
    for name in await engine.redis.keys(engine.keyspace.pointers("*")):
        known = msgspec.json.decode(await engine.redis.get(name))
        named = [key for key, _ in (*known.get("wanted", ()), *known.get("opened", ()))]
        assert {*named, *(key for _, _, key, _ in known.get("claims", ()) if key)} <= records.keys()


def test_anybody_can_be_forgotten_after_any_history() -> None:
    """Random histories of all providers: nothing of a person is left, nothing dangles, and work goes on."""
    with TemporaryDirectory(prefix="partyline-forgetting-") as folder, EmbeddedRedis(Path(folder)) as embedded:
        RUNNER.start(embedded.url)
        try:
            number = int(os.environ.get("PARTYLINE_HISTORIES", "60"))
            run_state_machine_as_test(
                Forgotten, settings=settings(max_examples=number, stateful_step_count=14, deadline=None)
            )
        finally:
            RUNNER.stop()


# --- whom a text names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "provider", "text", "mentioned"),
    [
        (ANN, "telnyx", "+15555550111", True),
        (ANN, "telnyx", "5555550111", True),
        (ANN, "telnyx", "1 (555) 555-0111", True),
        (ANN, "telnyx", "001 555 555 0111", True),
        (ANN, "telnyx", "tel:555.555.0111;x=1", True),
        (ANN, "telnyx", "%2B1555%2D555%2D0111", True),
        (ANN, "telnyx", "\\u202d+1 555\\u00a0555 0111\\u202c", True),
        (ANN, "telnyx", "+155555501112", False),
        (ANN, "telnyx", "95555550111", False),
        (ANN, "telnyx", "555555011", False),
        ("+4915550001234", "sinch", "4915550001234", True),
        ("+4915550001234", "sinch", "00 49 1555 0001234", True),
        ("+4915550001234", "sinch", "15550001234", False),
        ("ann@example.com", "sendblue", "<Ann@Example.com>", True),
        ("ann@example.com", "sendblue", "joann@example.com", False),
        ("ann@example.com", "sendblue", "ann@example.community", False),
        (ANN_ID, "whatsapp", '"user_id":"US.1001"', True),
        (ANN_ID, "whatsapp", '"user_id":"US.10011"', False),
        (ANN_ID, "telnyx", '"user_id":"US.1001"', False),
        ("telnyx:40404", "telnyx", "from 40404 to", True),
        ("telnyx:40404", "telnyx", "id 140404", False),
    ],
)
def test_a_mention_is_found_in_any_spelling(address: str, provider: str, text: str, mentioned: bool) -> None:
    """Punctuation, hidden marks and encodings do not hide a number; a longer one is another number."""
    assert Naming([Address(address)]).is_mentioned(text.encode(), provider) is mentioned


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"detail": {"callers": ["(555) 555-0111"]}}, True),
        ({"detail": {"5555550111": True}}, True),
        ({"detail": {"from": 15555550111}}, True),
        ({"message": {"text": "call 555-555-0111"}}, False),
        ({"detail": {"user": "US.1001"}}, False),
        ({"detail": ["x" * 5000, None, 1.5, True]}, False),
    ],
)
def test_an_event_names_a_person_as_a_value_of_its_own(value: dict[str, Any], named: bool) -> None:
    """Anywhere in its data, as a value or a name; not in the middle of a text."""
    envelope = {
        "source": "/webhooks/telnyx/main-telnyx",
        "id": "telnyx:main-telnyx:a",
        "subject": "cv_a",
        "data": value,
    }
    in_id = {**envelope, "id": "telnyx:main-telnyx:batch:+15555550111#merged"}

    assert Naming([ANN]).is_in_event(envelope) is named
    assert Naming([ANN]).is_in_event(in_id)
    assert Naming([BOB], ["cv_a"]).is_in_event(envelope)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def filled(redis_url: str, keyspace: Keyspace) -> None:
    """The samples of all providers in the namespace."""

    async def fill() -> None:
        redis = connect(redis_url, 5.0)
        await claim_namespace(redis, keyspace, Settings(id_key=SecretBytes(CONFIGURED_KEY)))
        await Space(redis, keyspace).samples()
        await redis.aclose()

    asyncio.run(fill())


@pytest.fixture
def run(
    configured: Path,  # noqa: ARG001 - it makes the working directory
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Runs one command line to its end."""
    return command_line(monkeypatch, capsysbinary)


@pytest.mark.usefixtures("filled")
def test_a_dry_run_only_says_what_there_is(run: Run) -> None:
    """It shows the addresses and how much there is of what, twice the same; then it is removed, and there is none."""
    dry = run("forget", "+1 555 555 0111", "--dry-run")
    again = run("forget", ANN, "--dry-run")
    done = run("forget", ANN, "--yes")
    after = run("forget", ANN, "--yes")

    assert (dry.status, dry.err, again.out) == (0, "", dry.out)
    assert dry.out.startswith(f"Known as one person:\n  {ANN}\n\nwhat                  found\n")
    assert (done.status, done.err) == (0, "")
    assert "what                  removed\n" in done.out
    assert "archives and backups" in done.out
    assert after.out == f"Nothing that is stored names {ANN}.\n"


@pytest.mark.usefixtures("filled")
def test_it_asks_before_it_removes(run: Run) -> None:
    """Anything but yes leaves all of it."""
    refused = run("forget", ANN, stdin=b"n\n")
    agreed = run("forget", ANN, stdin=b"y\n")

    assert refused.status == 1
    assert "Remove all of that?" in refused.out
    assert "archives and backups" not in refused.out
    assert agreed.status == 0
    assert "Nothing" in run("forget", ANN).out


@pytest.mark.usefixtures("filled")
def test_json_has_the_counts(run: Run) -> None:
    """One line for a script, before and after."""
    dry, done = run("forget", ANN, "--json", "--dry-run"), run("forget", ANN, "--json", "--yes")
    before, after = orjson.loads(dry.out), orjson.loads(done.out)

    assert before["addresses"] == [ANN]
    assert (before["removed"], after["removed"]) == (False, True)
    assert list(before["counts"]) == list(KINDS)
    assert before["counts"] == after["counts"]
    assert {"shared", "mentions", "waiting"} < before.keys()


@pytest.mark.usefixtures("filled")
def test_what_a_failing_parser_logs_is_not_in_the_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to stderr, and stdout is the JSON alone."""

    def fail(_: Capture) -> list[Parsed]:
        raise RuntimeError

    failing = msgspec.structs.replace(PROVIDERS["telnyx"], parse=fail)
    monkeypatch.setattr("receiver.cli.forgetting.PROVIDERS", {**PROVIDERS, "telnyx": failing})
    ended = run("forget", ANN, "--json", "--dry-run")

    assert orjson.loads(ended.out)["addresses"] == [ANN]
    assert "parser failed" in ended.err


WRONG = {
    "no_address": (("forget", "40404"), "provider's name"),
    "not_at": (("forget", "whatsapp:US.1001", "--provider", "telnyx"), "an address at whatsapp"),
    "no_provider": (("forget", ANN, "--provider", "nobody"), "there are sendblue"),
    "no_account": (("forget", ANN, "--account", "nobody"), "no such account"),
    "not_both": (("forget", ANN, "--account", "main-telnyx", "--provider", "sinch"), "no such account"),
    "no_answer": (("forget", ANN, "--json"), "--yes"),
    "own_line": (("forget", LINE, "--yes"), "line of your own"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_plain_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    """It ends with status 1, says what to look at without a full number, and removes nothing."""
    ended = run(*words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert "555555" not in ended.err


def test_it_shows_an_example(run: Run) -> None:
    """Help ends with a line that can be typed."""
    assert "Example: partyline forget" in " ".join(run("forget", "--help").out.split())

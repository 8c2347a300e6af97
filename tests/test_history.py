"""The heart of the product: whatever order, duplication and batches callbacks come in, the same conversations come out.

A state machine makes histories over all four providers and commits them, as they come, to a real Redis through the real
script. At the end the same history is committed once more to another namespace, in another order and with repetitions.
Both must agree with a plain model: the rule book for keys, `tests.model` for members and roll-ups.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from correlator.conversation import Conversation
from correlator.identity import Fact, Tied, Unlink, decide, identity_key, resolve
from correlator.records import decode
from correlator.redis_client import connect
from correlator.rollup import Rollup
from receiver.embedded import EmbeddedRedis
from schemas.address import Address
from schemas.events import (
    ConversationMembers,
    Direction,
    Event,
    EventBody,
    Evidence,
    Identity,
    Kind,
    Link,
    Linked,
    Members,
    Message,
    MessageOutbound,
    MessageReceived,
    MessageStatus,
    Pointer,
    Sent,
    State,
    Status,
    Tie,
    group_identity,
    pair_identity,
    set_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope
from schemas.keyspace import Keyspace
from tests.engine import ID_KEY, NOW, Engine, conversation_record
from tests.model import Happening, members, rollups

NAMESPACE = "history"
LINE, LINE_2 = Address("+15555550100"), Address("+15555550109")
ANN, BOB, CAT = Address("+15555550111"), Address("+15555550112"), Address("+15555550113")
NUMBER = Address("whatsapp:5550100")
ANN_ID, BOB_ID, ANN_LATER = Address("whatsapp:US.1001"), Address("whatsapp:US.2001"), Address("whatsapp:US.1002")

PEOPLE = st.sampled_from([ANN, BOB, CAT])
SOME = st.sets(PEOPLE, min_size=1)
LINES = st.sampled_from([LINE, LINE_2])
TIMES = st.integers(0, 5)
NAMES = st.sampled_from("ab")
STATES: list[State] = ["queued", "sent", "delivered", "read", "failed", "unknown"]
HOW_FAR = st.sampled_from(STATES)
FINAL = {"unknown", "failed", "delivered", "read"}
#: What WhatsApp shows of somebody: a phone, an id, or both; the last one is a phone that somebody else has by now.
SHOWN = st.sampled_from([(ANN, None), (None, ANN_ID), (ANN, ANN_ID), (BOB, BOB_ID), (None, BOB_ID), (ANN, ANN_LATER)])

Said = Happening | Link | Tied | Unlink


def history_examples() -> int:
    """How many histories: few in every run, thousands in `make test-deep`."""
    return int(os.environ.get("PARTYLINE_HISTORIES", "200"))


class Histories(RuleBasedStateMachine):
    """A history as it comes. Each rule is something that a provider, or a person, tells."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Said] = []
        self.facts = 0

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """What has to be drawn at the end is drawn from here."""
        self.data = data

    def scope(self, provider: str) -> Scope:
        """The account of a provider."""
        return Scope(ID_KEY, NAMESPACE, provider, "main")

    def tell(
        self, provider: str, evidence: Evidence, at: int, *, inbound: bool = False, status: Status | None = None
    ) -> None:
        """Somebody tells a fact."""
        self.facts += 1
        fact = Fact(EventId(f"{provider}:main:{self.facts}"), self.scope(provider), evidence)
        self.told.append(Happening(fact, at, inbound=inbound, status=status))

    # --- Telnyx ---

    @rule(people=SOME, line=LINES, at=TIMES)
    def telnyx_message(self, people: set[Address], line: Address, at: int) -> None:
        """A message to one of our lines, from, to and cc together everybody."""
        identity = set_identity(frozenset(people | {line}))
        self.tell("telnyx", Evidence(identity, lines=(line,)), at, inbound=True)

    @rule(name=NAMES, group=st.none() | NAMES, person=PEOPLE, line=LINES, state=HOW_FAR)
    def telnyx_report(self, name: str, group: str | None, person: Address, line: Address, state: State) -> None:
        """A report that names one recipient: of a group's message if it has a group's id, else of a 1:1."""
        pointers = tuple(Pointer("message", (one,)) for one in dict.fromkeys((name, group)) if one)
        evidence = Evidence(set_identity(frozenset({line, person})), pointers=pointers, lines=(line,))
        if group is not None:
            evidence = Evidence(pointers=pointers, kind="group", lines=(line,))
        self.tell("telnyx", evidence, 0, status=reported(state, person))

    @rule(name=NAMES, people=SOME, line=LINES)
    def telnyx_send(self, name: str, people: set[Address], line: Address) -> None:
        """A registered send names everybody."""
        pointers = (Pointer("message", (name,)),)
        identity = set_identity(frozenset(people | {line}))
        sent = Sent(pointers, recipients=tuple(sorted(people)))
        evidence = Evidence(identity, pointers=pointers, lines=(line,), registered=True, sent=sent)
        self.tell("telnyx", evidence, 0)

    # --- Sendblue ---

    @rule(group=NAMES, sender=PEOPLE, people=st.none() | SOME, line=LINES, at=TIMES)
    def sendblue_message(
        self, group: str, sender: Address, people: set[Address] | None, line: Address, at: int
    ) -> None:
        """A group's message lists who is in it, or does not."""
        listed = tuple(sorted(people | {sender, line})) if people else None
        identity = group_identity("", group)
        self.tell("sendblue", Evidence(identity, lines=(line,), listed=listed, joined=(sender,)), at, inbound=True)

    @rule(handle=NAMES, group=st.none() | NAMES, known=st.booleans(), state=HOW_FAR)
    def sendblue_report(self, handle: str, group: str | None, known: bool, state: State) -> None:
        """A report of type group, with or without the group's id; or one of a 1:1."""
        pointers = (Pointer("message", (handle,)),)
        identity: Identity | None = group_identity("", group) if group else None
        if not known and group is None:
            identity = pair_identity(LINE, ANN)
        kind: Kind = "group" if group or known else "direct"
        evidence = Evidence(identity, pointers=pointers, kind=kind, lines=(LINE,))
        self.tell("sendblue", evidence, 0, status=reported(state, None if kind == "group" else ANN))

    @rule(handle=NAMES, group=NAMES, people=SOME)
    def sendblue_send(self, handle: str, group: str, people: set[Address]) -> None:
        """A registered group send has the group's id, and everybody."""
        pointers, to = (Pointer("message", (handle,)),), tuple(sorted(people))
        sent = Sent(pointers, recipients=to)
        identity = group_identity("", group)
        evidence = Evidence(identity, pointers=pointers, lines=(LINE,), joined=to, registered=True, sent=sent)
        self.tell("sendblue", evidence, 3)

    # --- Sinch ---

    @rule(person=PEOPLE, line=LINES)
    def sinch_message(self, person: Address, line: Address) -> None:
        """There is nothing but 1:1."""
        evidence = Evidence(pair_identity(line, person), kind="direct", lines=(line,))
        self.tell("sinch", evidence, 0, inbound=True)

    @rule(batch=NAMES, person=PEOPLE, how=st.sampled_from(["alone", "originator", "default"]), state=HOW_FAR)
    def sinch_report(self, batch: str, person: Address, how: str, state: State) -> None:
        """A report names a batch and a recipient; the line at times, or a setting does."""
        evidence = Evidence(
            identity=pair_identity(LINE, person) if how == "originator" else None,
            fallback=pair_identity(LINE_2, person) if how == "default" else None,
            contact=None if how == "originator" else person,
            pointers=(Pointer("batch", (batch, person)),),
            kind="direct",
            lines={"alone": (), "originator": (LINE,), "default": (LINE_2,)}[how],
            sent=Sent((Pointer("batch", (batch,)),)),
        )
        self.tell("sinch", evidence, 0, status=reported(state, person))

    @rule(batch=NAMES, person=st.none() | PEOPLE, line=LINES)
    def sinch_send(self, batch: str, person: Address | None, line: Address) -> None:
        """A registered batch names its line, and its recipients unless it went to a group."""
        message = Pointer("batch", (batch,))
        if person is None:
            group = group_identity("", f"group of {batch}")
            sent = Sent((message,), line=line, group=group)
            evidence = Evidence(group, pointers=(message,), kind="group", lines=(line,), registered=True, sent=sent)
        else:
            sent = Sent((message,), recipients=(ANN, BOB, CAT), line=line)
            pointers = (Pointer("batch", (batch, person)),)
            evidence = Evidence(
                pair_identity(line, person), pointers=pointers, lines=(line,), registered=True, sent=sent
            )
        self.tell("sinch", evidence, 0)

    # --- WhatsApp ---

    @rule(shown=SHOWN, at=TIMES)
    def whatsapp_message(self, shown: tuple[Address | None, Address | None], at: int) -> None:
        """Somebody writes, known by phone, by user id or by both."""
        self.tell("whatsapp", self._direct(shown, ()), at, inbound=True)

    @rule(shown=SHOWN, name=NAMES, state=HOW_FAR)
    def whatsapp_report(self, shown: tuple[Address | None, Address | None], name: str, state: State) -> None:
        """A report on a message to somebody."""
        recipient = shown[0] or shown[1]
        evidence = self._direct(shown, (Pointer("message", (f"wamid.{shown}.{name}",)),))
        self.tell("whatsapp", evidence, 0, status=reported(state, recipient))

    @staticmethod
    def _direct(shown: tuple[Address | None, Address | None], pointers: tuple[Pointer, ...]) -> Evidence:
        phone, user = shown
        identity = user_identity(NUMBER, user) if user else pair_identity(NUMBER, phone or "")
        ties = ((phone, user),) if phone and user else ()
        return Evidence(identity, pointers=pointers, kind="direct", lines=(NUMBER,), same_user=ties)

    @rule(group=NAMES, added=st.sets(PEOPLE, max_size=2), removed=st.sets(PEOPLE, max_size=1), at=TIMES)
    def whatsapp_members(self, group: str, added: set[Address], removed: set[Address], at: int) -> None:
        """People are added to a group, or leave it."""
        identity = group_identity("5550100", group)
        joined, left = tuple(sorted(added)), tuple(sorted(removed))
        evidence = Evidence(identity, kind="group", lines=(NUMBER,), joined=joined, left=left)
        self.tell("whatsapp", evidence, at, inbound=True)

    @rule(group=NAMES, name=NAMES, person=st.none() | PEOPLE, state=HOW_FAR)
    def whatsapp_group_report(self, group: str, name: str, person: Address | None, state: State) -> None:
        """A report on a group's message, for one participant or for all."""
        pointers = (Pointer("message", (f"wamid.{group}.{name}",)),)
        evidence = Evidence(group_identity("5550100", group), pointers=pointers, kind="group", lines=(NUMBER,))
        self.tell("whatsapp", evidence, 0, status=reported(state, person))

    @rule(group=NAMES, name=NAMES)
    def whatsapp_send(self, group: str, name: str) -> None:
        """A registered group send names neither its line nor its recipients."""
        pointers = (Pointer("message", (f"wamid.{group}.{name}",)),)
        sent = Sent(pointers)
        self.tell("whatsapp", Evidence(pointers=pointers, kind="group", registered=True, sent=sent), 0)

    # --- people ---

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        """A person says that two conversations are one."""
        keys = sorted(wanted_keys(self.told))
        if len(keys) > 1:
            one, other = data.draw(st.lists(st.sampled_from(keys), min_size=2, max_size=2, unique=True))
            self.told.append(Link(*sorted((one, other))))

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        """A person takes one of the links back."""
        links = [said for said in self.told if isinstance(said, Link)]
        if links:
            self.told.append(Unlink(data.draw(st.sampled_from(links))))

    @rule(pair=st.sampled_from([(ANN_ID, ANN_LATER), (ANN, CAT), (BOB, BOB_ID)]))
    def tie(self, pair: tuple[Address, Address]) -> None:
        """A person says that two addresses are one user's."""
        self.told.append(Tied(self.scope("whatsapp"), Tie(*pair)))

    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A provider tells something again."""
        facts = [said for said in self.told if isinstance(said, Happening)]
        if facts:
            self.told.append(data.draw(st.sampled_from(facts)))

    # --- what must come of it ---

    def teardown(self) -> None:
        """As they came, and in another order: both as the model says."""
        if not self.told or not hasattr(self, "data"):
            return
        order = self.data.draw(st.permutations(self.told), label="order")
        sizes = self.data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4), label="batches")
        for told in (self.told, order):
            RUNNER.run(play, told, sizes)


def reported(state: State, recipient: Address | None) -> Status:
    """One report."""
    return Status(state, final=state in FINAL, recipient=recipient, raw=state)


def keys_of(fact: Fact) -> list[ConversationKey]:
    """The keys that a fact may be known under by itself."""
    evidence = fact.evidence
    identities = [one for one in (evidence.identity, evidence.fallback) if one]
    return [decide(fact.scope, fact.id, evidence).key, *(identity_key(fact.scope, one) for one in identities)]


def wanted_keys(told: Sequence[Said]) -> set[ConversationKey]:
    """Every key that there is to link."""
    return {key for said in told if isinstance(said, Happening) for key in keys_of(said.fact)}


async def play(redis: Any, told: list[Said], sizes: list[int]) -> None:
    """Commit a history in batches of these sizes to a namespace of its own, and hold what came of it against the model.

    Its keys derive for one and the same namespace each time, so that a failure can be made smaller.
    """
    engine = Engine(redis, Keyspace(f"h-{token_hex(6)}", keys_of=NAMESPACE))
    assert await engine.lease.take()
    left, number = list(enumerate(told)), 0
    while left:
        size = sizes[number % len(sizes)]
        batch, left, number = left[:size], left[size:], number + 1
        await engine.commit(*[engine.entry(as_parsed(said, at), **account_of(said)) for at, said in batch])
    await check(engine, told)


def account_of(said: Said) -> dict[str, Any]:
    """The account of a capture."""
    if isinstance(said, Happening):
        return {"provider": said.fact.scope.provider}
    return {"provider": "whatsapp"}


def as_parsed(said: Said, at: int) -> Event | Linked:
    """What the log has."""
    if not isinstance(said, Happening):
        undone = isinstance(said, Unlink)
        link = said.link if isinstance(said, Unlink) else said
        return Linked(EventId(f"link:{at}"), link.tie if isinstance(link, Tied) else link, undone=undone)
    fact, evidence = said.fact, said.fact.evidence
    direction: Direction = "inbound" if said.inbound else "outbound"
    message = Message(fact.id, direction, evidence.lines[0] if evidence.lines else None, "text", (), "sms")
    body: EventBody = MessageReceived(message) if said.inbound else MessageOutbound(message)
    if said.status is not None:
        body = MessageStatus(message, said.status)
    elif evidence.left or (evidence.joined and evidence.listed is None and evidence.kind == "group"):
        body = ConversationMembers(Members(evidence.joined, evidence.left))
    return Event(fact.id, body, NOW + timedelta(milliseconds=said.at), evidence, "test", {})


async def check(engine: Engine, told: list[Said]) -> None:
    """Keys, members and roll-ups are the model's; and subscribers know where everything that they saw belongs."""
    happenings = [said for said in told if isinstance(said, Happening)]
    entries = [said.fact if isinstance(said, Happening) else said for said in told]
    expected = resolve(entries)
    assert {fact: await survivor(engine, key) for fact, key in expected.wanted.items()} == expected.keys
    for key, people in members(happenings).items():
        assert (await conversation(engine, key)).roster.members({}) == people
    for key, shown in rollups(happenings).items():
        assert (await rollup(engine, key)).show() == shown
    await check_readers(engine)
    await check_audiences(engine)


async def check_audiences(engine: Engine) -> None:
    """The audience that a record keeps is that of the people whom it shows."""
    scope = Scope(ID_KEY, engine.keyspace.keys_of, "telnyx", "main")
    for subject in set(await engine.subjects()):
        record = await conversation_record(engine.redis, engine.keyspace, subject)
        if record is not None and record.audience is not None:
            assert record.audience == scope.audience(record.people or ())


async def check_readers(engine: Engine) -> None:
    """Who kept every merged event takes each subject for the conversation that it ended in."""
    believed: dict[str, str] = {}
    for event in await engine.events():
        if event["type"] == "conversation.merged":
            believed.update(dict.fromkeys(event["data"]["merged"], event["subject"]))
            believed.pop(event["subject"], None)
    for subject in set(await engine.subjects()):
        end = subject
        while end in believed:
            end = believed[end]
        assert end == await survivor(engine, ConversationKey(subject))


async def conversation(engine: Engine, key: ConversationKey) -> Conversation:
    """A record."""
    record = await conversation_record(engine.redis, engine.keyspace, key)
    assert record is not None
    return record


async def survivor(engine: Engine, key: ConversationKey) -> ConversationKey:
    """What a key resolves to."""
    while (record := await conversation_record(engine.redis, engine.keyspace, key)) and record.merged_into:
        key = record.merged_into
    return key


async def rollup(engine: Engine, key: ConversationKey) -> Rollup:
    """The roll-up of the message that a pointer names."""
    while raw := await engine.redis.get(engine.keyspace.pointers(key)):
        leads_to = msgspec.json.decode(raw).get("leads_to")
        if leads_to is None:
            break
        key = leads_to
    raw = await engine.redis.get(engine.keyspace.rollup(key))
    assert raw is not None
    return decode(Rollup, raw)


# --- a Redis and a loop that live as long as the machine runs ---


class Runner:
    """Runs what is asynchronous in a test that is not."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._redis: Any = None

    def start(self, url: str) -> None:
        """Begin."""
        self._runner = asyncio.Runner()
        self._redis = connect(url, 10.0)

    def run(self, work: Callable[..., Any], *args: Any) -> None:
        """Run something with the client."""
        assert self._runner is not None
        self._runner.run(work(self._redis, *args))

    def stop(self) -> None:
        """End."""
        assert self._runner is not None
        self._runner.run(self._redis.aclose())
        self._runner.close()


RUNNER = Runner()


def test_in_whatever_order_the_same_conversations_come_out() -> None:
    """Random histories of all providers, in any order and with any repetition, end as the plain model says."""
    with TemporaryDirectory(prefix="partyline-history-") as folder, EmbeddedRedis(Path(folder)) as embedded:
        RUNNER.start(embedded.url)
        try:
            run_state_machine_as_test(
                Histories,
                settings=settings(max_examples=history_examples(), stateful_step_count=14, deadline=None),
            )
        finally:
            RUNNER.stop()

from base64 import b32encode
from collections.abc import Sequence
from hashlib import blake2b
from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.identity import (
    COMPLETE,
    GROUP_ID,
    PHONE_PAIR,
    POINTER,
    Entry,
    Fact,
    Tied,
    Unlink,
    decide,
    kind_of,
    provisional_key,
    resolve,
)
from schemas.address import Address
from schemas.events import (
    Evidence,
    Identity,
    Kind,
    Link,
    Pointer,
    Sent,
    Tie,
    group_identity,
    pair_identity,
    set_identity,
    user_identity,
)
from schemas.ids import ConversationKey, EventId, Scope

MAIN = Scope(b"a secret of ours", "demo", "whatsapp", "main")
OTHER = Scope(b"a secret of ours", "demo", "whatsapp", "other")

LINE, LINE_2 = Address("+15555550100"), Address("+15555550109")
ANN, BOB, CAT = Address("+15555550111"), Address("+15555550112"), Address("+15555550113")
ANN_NEW = Address("+15555550121")
#: Sorts before our lines, as the others sort after them.
EARLY = Address("+12015550100")
ANN_ID, ANN_ID_2 = Address("whatsapp:US.1001"), Address("whatsapp:US.1002")
BOB_ID = Address("whatsapp:US.2001")


def everyone(*addresses: Address) -> Identity:
    """The identity of a complete set."""
    return set_identity(frozenset(addresses))


WITH_ANN, WITH_BOB, WITH_ANN_NEW = (pair_identity(LINE, contact) for contact in (ANN, BOB, ANN_NEW))
WITH_ANN_ID, WITH_ANN_ID_2, WITH_BOB_ID = (user_identity(LINE, user) for user in (ANN_ID, ANN_ID_2, BOB_ID))
CLUB, CHOIR = group_identity("", "club"), group_identity("", "choir")
ANN_BOB, ANN_BOB_CAT = everyone(LINE, ANN, BOB), everyone(LINE, ANN, BOB, CAT)
JUST_ANN = everyone(LINE, ANN)


def fact(
    name: str,
    identity: Identity | None = None,
    pointers: str = "",
    *,
    kind: Kind = "unknown",
    same: Sequence[tuple[Address, Address]] = (),
    registered: bool = False,
    fallback: Identity | None = None,
    lines: tuple[Address, ...] = (LINE, LINE_2),
    scope: Scope = MAIN,
) -> Fact:
    """A fact at one of our two lines, naming the pointers given as words."""
    evidence = Evidence(
        identity=identity,
        fallback=fallback,
        pointers=tuple(Pointer("message", (word,)) for word in pointers.split()),
        kind=kind,
        lines=lines,
        same_user=tuple(same),
        registered=registered,
    )
    return Fact(EventId(name), scope, evidence)


def batch_report(name: str, contact: Address, fallback: Identity | None = None) -> Fact:
    """A report on one recipient of the batch `b1`, which does not say which line it was sent from."""
    evidence = Evidence(
        fallback=fallback,
        contact=contact,
        pointers=(Pointer("batch", ("b1", contact)),),
        kind="direct",
        lines=(LINE_2,) if fallback else (),
        sent=Sent((Pointer("batch", ("b1",)),)),
    )
    return Fact(EventId(name), MAIN, evidence)


def batch_send(name: str, line: Address) -> Fact:
    """The registered send of the batch `b1`, to a group of its own."""
    sent = Sent((Pointer("batch", ("b1",)),), line=line)
    return Fact(EventId(name), MAIN, Evidence(CHOIR, registered=True, sent=sent))


def key(identity: Identity, scope: Scope = MAIN) -> ConversationKey:
    """The key that an identity has before anything merges."""
    return scope.conversation(identity.kind, identity.parts)


def pointed(word: str, kind: Kind = "unknown") -> ConversationKey:
    """The provisional key of one kind by one pointer."""
    return provisional_key(MAIN, MAIN.conversation("pointer", ("message", word)), kind)


# --- one fact ---------------------------------------------------------------------------------------------


def recipe(id_key: bytes, *parts: str) -> str:
    """The documented recipe of a conversation key, worked anew."""
    data = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in ("cv", *parts))
    digest = blake2b(data, digest_size=16, key=id_key).digest()
    return "cv_" + b32encode(digest).decode().lower().rstrip("=")


@pytest.mark.parametrize(
    ("identity", "kind", "strength"),
    [
        pytest.param(CLUB, "group", GROUP_ID, id="a group id is strongest"),
        pytest.param(ANN_BOB, "group", COMPLETE, id="a set of three is a group"),
        pytest.param(JUST_ANN, "direct", COMPLETE, id="a set of two is direct"),
        pytest.param(everyone(LINE), "direct", COMPLETE, id="a set of one is direct"),
        pytest.param(WITH_ANN_ID, "direct", COMPLETE, id="a user id is as strong as a set"),
        pytest.param(WITH_ANN, "direct", PHONE_PAIR, id="a pair by phone is weakest"),
    ],
)
def test_an_identity_decides(identity: Identity, kind: Kind, strength: int) -> None:
    """Key, kind and strength come from the identity, whatever hint and pointers stand beside it."""
    decision = decide(MAIN, EventId("a"), Evidence(identity, pointers=(Pointer("message", ("m1",)),), kind="unknown"))

    assert decision.key == recipe(b"a secret of ours", "demo", "whatsapp", "main", identity.kind, *identity.parts)
    assert (decision.kind, decision.strength, decision.provisional) == (kind, strength, False)
    assert decision.pointers == (pointed("m1"),)


def test_the_smallest_pointer_names_what_has_no_identity() -> None:
    """Without an identity the key is that of the smallest pointer, and repeated pointers count once."""
    pointers = (Pointer("message", ("m2",)), Pointer("batch", ("b1", "x")), Pointer("message", ("m2",)))

    decision = decide(MAIN, EventId("a"), Evidence(pointers=pointers))

    keys = sorted(
        recipe(b"a secret of ours", "demo", "whatsapp", "main", "pointer", *parts)
        for parts in (("message", "m2"), ("batch", "b1", "x"))
    )
    assert decision.pointers == tuple(keys)
    assert (decision.key, decision.strength, decision.provisional) == (keys[0], POINTER, True)


def test_the_event_names_what_has_nothing() -> None:
    """A fact without identity and pointers opens a conversation of its own."""
    decision = decide(MAIN, EventId("whatsapp:main:x"), Evidence())

    assert decision.key == recipe(b"a secret of ours", "demo", "whatsapp", "main", "event", "whatsapp:main:x")
    assert (decision.kind, decision.provisional, decision.pointers) == ("unknown", True, ())


@pytest.mark.parametrize("pointers", [(), (Pointer("message", ("m1",)),)])
def test_what_is_surely_a_group_has_a_provisional_key_of_its_own(pointers: tuple[Pointer, ...]) -> None:
    """A hint enters the provisional key, so that no key can come to mean a direct and a group conversation."""
    kinds: tuple[Kind, ...] = ("unknown", "direct", "group")

    keys = {decide(MAIN, EventId("a"), Evidence(pointers=pointers, kind=kind)).key for kind in kinds}

    assert len(keys) == 3


def test_in_doubt_an_identity_does_not_count() -> None:
    """A pair whose phone is in doubt falls back to its pointers, and is still known to be direct."""
    evidence = Evidence(WITH_ANN, pointers=(Pointer("message", ("m1",)),))

    decision = decide(MAIN, EventId("a"), evidence, in_doubt=True)

    assert (decision.key, decision.kind) == (pointed("m1", "direct"), "direct")
    assert (decision.strength, decision.provisional) == (POINTER, True)


# --- conflicts, as a table --------------------------------------------------------------------------------


class Thread(NamedTuple):
    """One conversation that must come out: its facts by name, its key (None: any), kind, provisional."""

    facts: str
    key: ConversationKey | None
    kind: Kind
    provisional: bool


def direct(facts: str, *candidates: Identity, scope: Scope = MAIN) -> Thread:
    """A direct conversation, under the smallest key of the candidates."""
    return Thread(facts, min(key(identity, scope) for identity in candidates), "direct", False)


def group(facts: str, *candidates: Identity, scope: Scope = MAIN) -> Thread:
    """A group, under the smallest key of the candidates."""
    return Thread(facts, min(key(identity, scope) for identity in candidates), "group", False)


def loose(facts: str, kind: Kind = "unknown", at: ConversationKey | None = None) -> Thread:
    """A provisional conversation."""
    return Thread(facts, at, kind, True)


def threads(history: Sequence[Entry], like: Sequence[Thread]) -> set[Thread]:
    """What `resolve` makes of a history; a key is left out where the thread of `like` leaves it out."""
    resolution = resolve(history)
    unsaid = {thread.facts for thread in like if thread.key is None}
    found = set()
    for survivor, outcome in resolution.conversations.items():
        facts = " ".join(sorted(name for name, where in resolution.keys.items() if where == survivor))
        named = None if facts in unsaid else survivor
        found.add(Thread(facts, named, outcome.kind, outcome.provisional))
    return found


RULE_1 = [
    pytest.param(
        [fact("a", ANN_BOB), fact("b", ANN_BOB), fact("c", ANN_BOB_CAT)],
        [group("a b", ANN_BOB), group("c", ANN_BOB_CAT)],
        id="the same set is one conversation and a larger set is another",
    ),
    pytest.param(
        [fact("a", CLUB, "m1"), fact("b", None, "m1")],
        [group("a b", CLUB)],
        id="a report without an identity follows the message it names",
    ),
    pytest.param(
        [fact("a", None, "m1"), fact("b", None, "m1 m2"), fact("c", None, "m2")],
        [loose("a b c", at=min(pointed("m1"), pointed("m2")))],
        id="pointers named together are one class under the smallest of their keys",
    ),
    pytest.param(
        [fact("a", None, "m1"), fact("b", None, "m2"), fact("c"), fact("d")],
        [loose("a"), loose("b"), loose("c"), loose("d")],
        id="what nothing ties stays apart",
    ),
    pytest.param(
        [fact("a", None, "m1"), fact("b", None, "m1 g1"), fact("c", None, "g1 m2"), fact("d", ANN_BOB, "m2")],
        [group("a b c d", ANN_BOB)],
        id="a chain of reports leads from an id over a group message id to the send",
    ),
    pytest.param(
        [fact("a", None, "m1"), fact("b", ANN_BOB, "m1 g1"), fact("c", None, "g1")],
        [group("a b c", ANN_BOB)],
        id="a fact with an identity ties its pointers together as well",
    ),
    pytest.param(
        [
            fact("a", ANN_BOB, "m1"),
            fact("b", CLUB, "m2"),
            fact("c", CHOIR, "m1 m2"),
            fact("d", None, "m1"),
        ],
        [
            Thread(
                facts=" ".join(sorted([name, "d"] if key(wins) == key(identity) else [name])),
                key=key(identity),
                kind="group",
                provisional=False,
            )
            for wins in [min((ANN_BOB, CLUB, CHOIR), key=key)]
            for name, identity in (("a", ANN_BOB), ("b", CLUB), ("c", CHOIR))
        ],
        id="of reports that claim one class the smaller key wins, strength set aside, and none of them merge",
    ),
    pytest.param(
        [fact("a", CLUB, "m1"), fact("b", ANN_BOB, "m1", registered=True), fact("c", None, "m1")],
        [group("a", CLUB), group("b c", ANN_BOB)],
        id="a registered send moves the claim of a report, stronger in kind or not (set)",
    ),
    pytest.param(
        [fact("a", ANN_BOB, "m1"), fact("b", CLUB, "m1", registered=True), fact("c", None, "m1")],
        [group("a", ANN_BOB), group("b c", CLUB)],
        id="a registered send moves the claim of a report, stronger in kind or not (group id)",
    ),
    pytest.param(
        [
            fact("a", CLUB, "m1", registered=True),
            fact("b", CHOIR, "m1", registered=True),
            fact("c", None, "m1"),
            fact("d", min((CLUB, CHOIR), key=key)),
        ],
        [
            group("a c d", CLUB) if key(CLUB) < key(CHOIR) else group("a", CLUB),
            group("b c d", CHOIR) if key(CHOIR) < key(CLUB) else group("b", CHOIR),
        ],
        id="of two registered sends the smaller key claims",
    ),
    pytest.param(
        [fact("a", WITH_ANN, "m1"), fact("b", ANN_BOB, "m1", registered=True), fact("c", None, "m1")],
        [direct("a", WITH_ANN), group("b c", ANN_BOB)],
        id="the pair stays the pair's although its id is registered as a group send later",
    ),
    pytest.param(
        [fact("a", ANN_BOB, "m1 m2"), fact("b", CLUB, "m3"), fact("c", None, "m2"), fact("d", None, "m3")],
        [group("a c", ANN_BOB), group("b d", CLUB)],
        id="classes that nothing joins have claims of their own",
    ),
    pytest.param(
        [fact("a", None, "m1", kind="direct", fallback=WITH_ANN), fact("b", None, "m1")],
        [direct("a b", WITH_ANN)],
        id="what a setting supposes holds while nothing better is known, for all that name the message",
    ),
    pytest.param(
        [fact("a", None, "m1", kind="direct", fallback=WITH_ANN), fact("b", WITH_BOB, "m1")],
        [direct("a b", WITH_BOB)],
        id="a report is stronger than a setting",
    ),
    pytest.param(
        [
            fact("a", None, "m1", kind="direct", fallback=WITH_ANN),
            fact("b", None, "m1 m2", kind="direct", fallback=WITH_BOB),
        ],
        [direct("a b", WITH_ANN, WITH_BOB)],
        id="of two settings the smaller key holds",
    ),
    pytest.param(
        [fact("a", None, "m1", kind="direct", fallback=WITH_ANN), fact("b", None, "m1", kind="group")],
        [direct("a", WITH_ANN), loose("b", "group")],
        id="what a setting supposes of a 1:1 serves no group",
    ),
    pytest.param(
        [batch_report("a", ANN), batch_report("b", BOB), batch_send("c", LINE)],
        [direct("a", WITH_ANN), direct("b", WITH_BOB), group("c", CHOIR)],
        id="a report that knows its recipient only has its line from the registered send",
    ),
    pytest.param(
        [batch_report("a", ANN, pair_identity(LINE_2, ANN)), batch_send("c", LINE), fact("d", WITH_ANN)],
        [direct("a d", WITH_ANN), group("c", CHOIR)],
        id="the line of the registered send is better than the one of a setting",
    ),
    pytest.param(
        [batch_report("a", ANN), batch_send("b", LINE), batch_send("c", LINE_2)],
        [direct("a", WITH_ANN, pair_identity(LINE_2, ANN)), group("b c", CHOIR)],
        id="registered from two lines the smaller key holds",
    ),
    pytest.param(
        [batch_report("a", ANN), batch_report("b", BOB), fact("c", WITH_ANN)],
        [loose("a", "direct"), loose("b", "direct"), direct("c", WITH_ANN)],
        id="without a line a report on a batch is provisional, one for each recipient",
    ),
]

RULE_2 = [
    pytest.param(
        [fact("a", JUST_ANN), fact("b", WITH_ANN)],
        [direct("a", JUST_ANN), direct("b", WITH_ANN)],
        id="a group seen with two members is not their 1:1",
    ),
    pytest.param(
        [fact("a", CLUB), fact("b", ANN_BOB)],
        [group("a", CLUB), group("b", ANN_BOB)],
        id="a group id and a set do not join by themselves",
    ),
    pytest.param(
        [fact("a", WITH_ANN, "m1"), fact("b", None, "m1", kind="group")],
        [direct("a", WITH_ANN), loose("b", "group")],
        id="what is surely a group never follows its pointer into a 1:1",
    ),
    pytest.param(
        [fact("a", CLUB, "m1"), fact("b", None, "m1", kind="direct")],
        [group("a", CLUB), loose("b", "direct")],
        id="what is surely direct never follows its pointer into a group",
    ),
    pytest.param(
        [fact("a", WITH_ANN, "m1"), fact("b", None, "m1", kind="group"), fact("c", None, "m1")],
        [direct("a c", WITH_ANN), loose("b", "group", at=pointed("m1", "group"))],
        id="a provisional group does not share its key with what the 1:1 takes along",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN, "m1", registered=True),
            fact("b", ANN_BOB, "m1"),
            fact("c", None, "m1", kind="group"),
            fact("d", None, "m1"),
        ],
        [direct("a d", WITH_ANN), group("b c", ANN_BOB)],
        id="a group is served by the best claim of a group",
    ),
    pytest.param(
        [fact("a", None, "m1", kind="group"), fact("b", None, "m1")],
        [loose("a b", "group")],
        id="without a claim the fact that says nothing goes with the one that says group",
    ),
    pytest.param(
        [fact("a", None, "m1", kind="group"), fact("b", None, "m1", kind="direct")],
        [loose("a", "group"), loose("b", "direct")],
        id="a provisional group and a provisional 1:1 stay apart",
    ),
    pytest.param(
        [fact("a", kind="group"), fact("b", WITH_ANN)],
        [loose("a", "group"), direct("b", WITH_ANN)],
        id="a group without id and members is nobody's 1:1",
    ),
    pytest.param(
        [fact("a", ANN_BOB, "m1"), fact("b", ANN_BOB, "m1", scope=OTHER), fact("c", None, "m1", scope=OTHER)],
        [group("a", ANN_BOB), group("b c", ANN_BOB, scope=OTHER)],
        id="accounts never merge",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_ANN, scope=OTHER),
        ],
        [direct("a", WITH_ANN_ID), direct("b", WITH_ANN, scope=OTHER)],
        id="a tie counts within its account only",
    ),
    pytest.param(
        [fact("a", ANN_BOB), fact("b", everyone(LINE, ANN_ID, BOB)), fact("c", same=[(ANN, ANN_ID)])],
        [group("a", ANN_BOB), group("b", everyone(LINE, ANN_ID, BOB)), loose("c")],
        id="ties of users leave groups alone",
    ),
]

RULE_5 = [
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)])],
        [direct("a b", WITH_ANN_ID)],
        id="phone and user id seen together are one user under the user id's key",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_ANN_ID), fact("c", same=[(ANN_ID, ANN)])],
        [direct("a b", WITH_ANN_ID), loose("c")],
        id="a tie joins what it does not itself belong to",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_ANN_ID)],
        [direct("a", WITH_ANN), direct("b", WITH_ANN_ID)],
        id="phone and user id never seen together stay apart",
    ),
    pytest.param(
        [fact("a", WITH_ANN, same=[(ANN, ANN_ID)]), fact("b", user_identity(LINE_2, ANN_ID))],
        [direct("a", WITH_ANN), direct("b", user_identity(LINE_2, ANN_ID))],
        id="two lines are two conversations with one user",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", pair_identity(LINE_2, ANN)),
            fact("c", user_identity(LINE_2, ANN_ID)),
        ],
        [direct("a", WITH_ANN_ID), direct("b c", user_identity(LINE_2, ANN_ID))],
        id="what is tied at one line is tied at the other",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_ANN_NEW), fact("c", same=[(ANN, ANN_NEW)])],
        [direct("a b", WITH_ANN, WITH_ANN_NEW), loose("c")],
        id="a changed number ties old and new",
    ),
    pytest.param(
        [fact("a", WITH_ANN_ID), fact("b", WITH_ANN_ID_2), fact("c", same=[(ANN_ID, ANN_ID_2)])],
        [direct("a b", WITH_ANN_ID, WITH_ANN_ID_2), loose("c")],
        id="an updated user id ties old and new",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN),
            fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("c", WITH_ANN_ID_2, same=[(ANN, ANN_ID_2)]),
            fact("d", same=[(ANN_ID, ANN_ID_2)]),
        ],
        [direct("a b c", WITH_ANN_ID, WITH_ANN_ID_2), loose("d")],
        id="a second user id that an update ties to the first raises no doubt, early or late",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN, same=[(ANN, ANN_ID)]),
            fact("b", WITH_ANN_NEW, same=[(ANN, ANN_NEW)]),
            fact("c", WITH_ANN_ID),
        ],
        [direct("a b c", WITH_ANN_ID)],
        id="ties go over several hands",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN, "m1"),
            fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("c", None, "m1", kind="direct"),
        ],
        [direct("a b c", WITH_ANN_ID)],
        id="a claim goes to what the claimant merged into",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_BOB), Tied(MAIN, Tie(ANN, BOB))],
        [direct("a b", WITH_ANN, WITH_BOB)],
        id="a person ties two phones",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN),
            fact("b", pair_identity(LINE, Address("ann@example.com"))),
            Tied(MAIN, Tie(Address("ann@example.com"), ANN)),
        ],
        [direct("a b", WITH_ANN, pair_identity(LINE, Address("ann@example.com")))],
        id="a person ties a phone and an e-mail",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", pair_identity(LINE_2, ANN)), Tied(MAIN, Tie(LINE, LINE_2))],
        [direct("a", WITH_ANN), direct("b", pair_identity(LINE_2, ANN))],
        id="our own lines are nobody's contacts, so tying them joins nothing",
    ),
    pytest.param(
        [
            fact("a", pair_identity(LINE_2, EARLY)),
            fact("b", user_identity(LINE_2, ANN_ID), same=[(EARLY, ANN_ID)]),
            fact("c", pair_identity(LINE_2, ANN), same=[(ANN, ANN_ID)]),
        ],
        [direct("a b c", user_identity(LINE_2, ANN_ID))],
        id="either part of a pair may be the phone",
    ),
    pytest.param(
        [fact("a", JUST_ANN), fact("b", everyone(LINE, ANN_NEW)), fact("c", same=[(ANN, ANN_NEW)])],
        [direct("a b", JUST_ANN, everyone(LINE, ANN_NEW)), loose("c")],
        id="a direct conversation known by its set of two is a user's as well",
    ),
    pytest.param(
        [fact("a", WITH_ANN, lines=()), fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)])],
        [direct("a", WITH_ANN), direct("b", WITH_ANN_ID)],
        id="a pair whose fact does not say which end is our line has no user",
    ),
    pytest.param(
        [fact("a", everyone(LINE, LINE_2)), fact("b", everyone(LINE, ANN)), fact("c", same=[(ANN, LINE_2)])],
        [direct("a", everyone(LINE, LINE_2)), direct("b", everyone(LINE, ANN)), loose("c")],
        id="nor has one of which both ends are our lines",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN, "m1"),
            fact("b", WITH_BOB, "m1"),
            fact("c", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("d", WITH_BOB_ID, same=[(BOB, BOB_ID)]),
            fact("e", None, "m1"),
        ],
        [
            direct("a c e" if key(WITH_ANN) < key(WITH_BOB) else "a c", WITH_ANN_ID),
            direct("b d e" if key(WITH_BOB) < key(WITH_ANN) else "b d", WITH_BOB_ID),
        ],
        id="of claimants that have merged the smaller key of their own decides, and what it merged into serves",
    ),
]

LINKS = [
    pytest.param(
        [fact("a", CLUB), fact("b", ANN_BOB), Link(key(CLUB), key(ANN_BOB))],
        [group("a b", CLUB)],
        id="a link joins a group id and a set under the stronger",
    ),
    pytest.param(
        [fact("a", CLUB), fact("b", CLUB, scope=OTHER), Link(key(CLUB), key(CLUB, OTHER))],
        [Thread("a b", min(key(CLUB), key(CLUB, OTHER)), "group", False)],
        id="a link joins accounts",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", ANN_BOB), Link(key(WITH_ANN), key(ANN_BOB))],
        [direct("a", WITH_ANN), group("b", ANN_BOB)],
        id="a link of a direct conversation and a group is refused",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN),
            fact("b", kind="group"),
            Link(key(WITH_ANN), decide(MAIN, EventId("b"), Evidence(kind="group")).key),
        ],
        [direct("a", WITH_ANN), loose("b", "group")],
        id="a link of a direct conversation and a provisional group is refused",
    ),
    pytest.param(
        [fact("a", CLUB), fact("b", None, "m1"), fact("c", None, "m1"), Link(pointed("m1"), key(CLUB))],
        [group("a b c", CLUB)],
        id="a link takes a provisional conversation along",
    ),
    pytest.param(
        [
            fact("a", CLUB),
            fact("b", ANN_BOB, "m1", registered=True),
            fact("c", None, "m1"),
            Link(pointed("m1"), key(CLUB)),
        ],
        [group("a c", CLUB), group("b", ANN_BOB)],
        id="a person's claim is stronger than a registered send and joins no identities",
    ),
    pytest.param(
        [
            fact("a", None, "m1"),
            fact("b", None, "m2"),
            fact("c", CLUB, "m2"),
            Link(pointed("m1"), pointed("m2")),
        ],
        [group("a b c", CLUB)],
        id="two provisional conversations that a person links are served by one claim",
    ),
    pytest.param(
        [fact("a", CLUB), Link(key(CLUB), key(CHOIR))],
        [group("a", CLUB)],
        id="a link of a key that nothing had is refused",
    ),
]


@pytest.mark.parametrize(("history", "expected"), RULE_1 + RULE_2 + RULE_5 + LINKS)
def test_conversations_come_out_the_same_in_every_order(history: list[Entry], expected: list[Thread]) -> None:
    """Whatever the order, and however often each entry stands there, facts share the conversations written here."""
    outcomes = {frozenset(threads(order, expected)) for order in permutations(history)}
    repeated = threads(history + history[::-1], expected)

    assert outcomes == {frozenset(expected)}
    assert repeated == set(expected)


FIRST_COMES_FIRST = [
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_ANN),
            fact("c", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("d", WITH_ANN),
            fact("e", WITH_ANN_ID),
        ],
        [direct("a b e", WITH_ANN_ID), direct("c", WITH_BOB_ID), loose("d", "direct")],
        id="a phone seen with a second user is in doubt, and what had merged stays",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("c", WITH_BOB_ID, "m1", registered=True),
            fact("d", WITH_ANN, "m1"),
            fact("e", WITH_ANN, "m2"),
            fact("f", WITH_ANN, "m2"),
        ],
        [direct("a", WITH_ANN_ID), direct("b c d", WITH_BOB_ID), loose("e f", "direct")],
        id="in doubt the message decides",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("c", CLUB, "m1"),
            fact("d", WITH_ANN, "m1"),
        ],
        [direct("a", WITH_ANN_ID), direct("b", WITH_BOB_ID), group("c", CLUB), loose("d", "direct")],
        id="in doubt a 1:1 is still no group",
    ),
    pytest.param(
        [
            fact("a", pair_identity(LINE_2, ANN)),
            fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("c", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("d", user_identity(LINE_2, ANN_ID)),
        ],
        [
            direct("a", pair_identity(LINE_2, ANN)),
            direct("b", WITH_ANN_ID),
            direct("c", WITH_BOB_ID),
            direct("d", user_identity(LINE_2, ANN_ID)),
        ],
        id="a phone in doubt links nothing that turns up later",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("c", WITH_ANN_NEW, same=[(ANN, ANN_NEW)]),
        ],
        [direct("a", WITH_ANN_ID), direct("b", WITH_BOB_ID), direct("c", WITH_ANN_NEW)],
        id="who changes from a number in doubt is tied to nobody",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_ANN_NEW, same=[(ANN, ANN_NEW)]),
            fact("c", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("d", WITH_ANN_NEW),
            fact("e", WITH_ANN),
        ],
        [direct("a b d", WITH_ANN_ID), direct("c", WITH_BOB_ID), loose("e", "direct")],
        id="the number changed to before the doubt is not in doubt",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN),
            fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("c", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("a", WITH_ANN),
            fact("b", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
        ],
        [direct("a b", WITH_ANN_ID), direct("c", WITH_BOB_ID)],
        id="a fact from before the doubt, delivered again, stays where it was",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("c", WITH_ANN, scope=OTHER),
        ],
        [direct("a", WITH_ANN_ID), direct("b", WITH_BOB_ID), direct("c", WITH_ANN, scope=OTHER)],
        id="doubt stays within the account",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("c", WITH_ANN),
            fact("d", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            fact("e", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("f", WITH_ANN),
        ],
        [direct("a e", WITH_ANN_ID), direct("b d", WITH_BOB_ID), loose("c", "direct"), loose("f", "direct")],
        id="a doubt lasts, whoever is seen with the phone again",
    ),
    pytest.param(
        [fact("a", CLUB), fact("b", ANN_BOB), Link(key(CLUB), key(ANN_BOB)), Unlink(Link(key(CLUB), key(ANN_BOB)))],
        [group("a", CLUB), group("b", ANN_BOB)],
        id="a link undone leaves nothing",
    ),
    pytest.param(
        [
            fact("a", CLUB),
            fact("b", ANN_BOB),
            Link(key(CLUB), key(ANN_BOB)),
            Unlink(Link(key(CLUB), key(ANN_BOB))),
            Link(key(CLUB), key(ANN_BOB)),
        ],
        [group("a b", CLUB)],
        id="a link can be made again",
    ),
    pytest.param(
        [
            fact("a", CLUB),
            fact("b", CHOIR),
            fact("c", ANN_BOB),
            Link(key(CLUB), key(ANN_BOB)),
            Link(key(CHOIR), key(ANN_BOB)),
            Unlink(Link(key(CHOIR), key(ANN_BOB))),
        ],
        [group("a c", CLUB), group("b", CHOIR)],
        id="undoing one link leaves the other",
    ),
    pytest.param(
        [fact("a", WITH_ANN), fact("b", WITH_BOB), Tied(MAIN, Tie(ANN, BOB)), Unlink(Tied(MAIN, Tie(ANN, BOB)))],
        [direct("a", WITH_ANN), direct("b", WITH_BOB)],
        id="a tie can be undone",
    ),
    pytest.param(
        [
            fact("a", WITH_ANN_ID, same=[(ANN, ANN_ID)]),
            fact("b", WITH_BOB_ID, same=[(ANN, BOB_ID)]),
            Tied(MAIN, Tie(ANN_ID, BOB_ID)),
            fact("c", WITH_ANN),
        ],
        [direct("a b c", WITH_ANN_ID, WITH_BOB_ID)],
        id="a person who ties the two users ends the doubt",
    ),
]


@pytest.mark.parametrize(("history", "expected"), FIRST_COMES_FIRST)
def test_conversations_come_out_as_arrival_decides(history: list[Entry], expected: list[Thread]) -> None:
    """Recycled phones, and links taken back, are the two things for which order counts."""
    assert threads(history, expected) == set(expected)


def test_a_survivor_knows_what_merged_into_it() -> None:
    """Old keys, provisional ones included, are listed with the conversation that they resolve to."""
    history: list[Entry] = [
        fact("a", WITH_ANN),
        fact("b", None, "m1"),
        fact("c", WITH_ANN_ID, "m1", same=[(ANN, ANN_ID)]),
    ]

    conversations = resolve(history).conversations

    assert list(conversations) == [key(WITH_ANN_ID)]
    assert conversations[key(WITH_ANN_ID)].merged == tuple(sorted([key(WITH_ANN), pointed("m1")]))


def test_refused_links_are_told() -> None:
    """Links that must not be are reported, in the order in which they stand, and those taken back are not."""
    mixed, unknown = Link(key(WITH_ANN), key(CLUB)), Link(key(CLUB), key(CHOIR))
    fine, undone = Link(key(CLUB), key(ANN_BOB)), Link(key(WITH_ANN), key(ANN_BOB))
    history: list[Entry] = [
        mixed,
        fact("a", WITH_ANN),
        fact("b", CLUB),
        fact("c", ANN_BOB),
        unknown,
        fine,
        undone,
        Unlink(undone),
    ]

    assert resolve(history).refused == (mixed, unknown)


def test_a_fact_told_twice_with_unlike_evidence_is_where_the_stronger_puts_it() -> None:
    """The same fact, once with and once without its identity, has one key in any order."""
    weak, strong = fact("a", None, "m1"), fact("a", CLUB)

    assert resolve([weak, strong]).keys == {"a": key(CLUB)}
    assert resolve([strong, weak]).keys == {"a": key(CLUB)}


# --- any history ------------------------------------------------------------------------------------------


class Person(NamedTuple):
    """Somebody with phones and user ids that are nobody else's."""

    phones: tuple[Address, ...]
    ids: tuple[Address, ...]


PEOPLE = (
    Person((ANN, ANN_NEW), (ANN_ID, ANN_ID_2)),
    Person((BOB, Address("+15555550122")), (BOB_ID,)),
    Person((CAT,), (Address("whatsapp:US.3001"),)),
)
SCOPES, LINES = (MAIN, OTHER), (LINE, LINE_2)
#: Whoever has two ids must have them tied somewhere: a phone seen with both would else be a recycled one.
UPDATES = [fact(f"update {scope.account}", same=[(ANN_ID, ANN_ID_2)], scope=scope) for scope in SCOPES]


def own_ties(person: Person) -> list[tuple[Address, Address]]:
    """Every pair of one person's addresses."""
    addresses = person.phones + person.ids
    return [(one, other) for one in addresses for other in addresses if one != other]


def direct_identities(person: Person) -> list[Identity]:
    """Every 1:1 of one person, at either line, by any address."""
    by_phone = [pair_identity(line, phone) for line in LINES for phone in person.phones]
    return by_phone + [user_identity(line, user) for line in LINES for user in person.ids]


some_pointers = st.lists(st.sampled_from(["m1", "m2", "m3", "m4", "g1", "g2"]), max_size=3).map(" ".join)
some_scope = st.sampled_from(SCOPES)
some_kind = st.sampled_from(["unknown", "direct", "group"])
GROUPS = [
    CLUB,
    CHOIR,
    ANN_BOB,
    ANN_BOB_CAT,
    JUST_ANN,
    everyone(LINE, BOB),
    everyone(LINE, LINE_2, ANN),
    everyone(LINE, ANN_NEW, BOB),
]


@st.composite
def direct_facts(draw: st.DrawFn) -> Fact:
    """A fact of somebody's 1:1, maybe with a tie among that person's addresses."""
    person = draw(st.sampled_from(PEOPLE))
    return fact(
        "",
        draw(st.sampled_from(direct_identities(person))),
        draw(some_pointers),
        same=draw(st.lists(st.sampled_from(own_ties(person)), max_size=1)),
        registered=draw(st.booleans()),
        scope=draw(some_scope),
    )


group_facts = st.builds(
    lambda identity, pointers, registered, scope: fact("", identity, pointers, registered=registered, scope=scope),
    st.sampled_from(GROUPS),
    some_pointers,
    st.booleans(),
    some_scope,
)
loose_facts = st.builds(
    lambda pointers, kind, scope: fact("", None, pointers, kind=kind, scope=scope),
    some_pointers,
    some_kind,
    some_scope,
)


def named(facts: Sequence[Fact]) -> list[Fact]:
    """The facts, each with an id of its own."""
    return [Fact(EventId(f"fact {number}"), each.scope, each.evidence) for number, each in enumerate(facts)]


histories = st.lists(st.one_of(direct_facts(), group_facts, loose_facts), max_size=12).map(
    lambda facts: named(facts) + UPDATES
)


@st.composite
def links_for(draw: st.DrawFn, history: Sequence[Fact]) -> list[Entry]:
    """A few links among the keys that the facts of a history want, and ties among one person's addresses."""
    wanted = sorted({decide(each.scope, each.id, each.evidence).key for each in history})
    a_link = st.builds(Link, st.sampled_from(wanted), st.sampled_from(wanted))
    pairs = [(person, pair) for person in PEOPLE for pair in own_ties(person)]
    a_tie = st.builds(lambda scope, pair: Tied(scope, Tie(*pair[1])), some_scope, st.sampled_from(pairs))
    return draw(st.lists(st.one_of(a_link, a_tie), max_size=4))


def told(history: Sequence[Entry]) -> tuple[object, ...]:
    """All that a resolution says, but the order in which it refuses."""
    resolution = resolve(history)
    return resolution.keys, resolution.conversations, set(resolution.refused)


@given(st.data(), histories)
def test_order_and_repetition_change_nothing(data: st.DataObject, facts: list[Fact]) -> None:
    """Without recycled phones a history says the same in any order, with any of it repeated."""
    history: list[Entry] = [*facts, *data.draw(links_for(facts))]
    again = data.draw(st.lists(st.sampled_from(history), max_size=5))
    shuffled = data.draw(st.permutations(history + again))

    assert told(shuffled) == told(history)


@given(st.data(), histories)
def test_a_link_undone_is_as_if_it_had_never_been(data: st.DataObject, facts: list[Fact]) -> None:
    """After taking every link back everything is where the facts alone put it."""
    links = data.draw(links_for(facts))
    undone = [Unlink(link) for link in links if isinstance(link, Link | Tied)]

    assert told([*links, *facts, *undone]) == told(facts)


def truth(each: Fact) -> tuple[object, ...]:
    """What an identity really is: a group by itself, a 1:1 by its line and whoever has the contact's address."""
    identity = each.evidence.identity
    assert identity is not None
    account = each.scope.account
    if kind_of(identity) == "group":
        return (account, identity)
    (line,) = set(identity.parts) & set(LINES)
    (contact,) = set(identity.parts) - set(LINES)
    return (account, line, next(person for person in PEOPLE if contact in person.phones + person.ids))


@given(histories)
def test_two_different_conversations_never_share_a_key(history: list[Fact]) -> None:
    """Without a person's link, facts with identities share a key only if they are one conversation in truth."""
    keys = resolve(history).keys

    found: dict[ConversationKey, set[tuple[object, ...]]] = {}
    for each in history:
        if each.evidence.identity is not None:
            found.setdefault(keys[each.id], set()).add(truth(each))
    assert [truths for truths in found.values() if len(truths) != 1] == []


@given(st.data(), histories)
def test_direct_and_group_never_mix(data: st.DataObject, facts: list[Fact]) -> None:
    """Links or not, no conversation holds a fact known to be of the other kind."""
    resolution = resolve([*facts, *data.draw(links_for(facts))])

    for each in facts:
        says = decide(each.scope, each.id, each.evidence).kind
        assert {says, resolution.conversations[resolution.keys[each.id]].kind} != {"direct", "group"}


@given(histories)
def test_accounts_never_mix(history: list[Fact]) -> None:
    """Without a person's link no two accounts share a key."""
    keys = resolve(history).keys

    used = {scope.account: {keys[each.id] for each in history if each.scope is scope} for scope in SCOPES}
    assert used["main"] & used["other"] == set()


@given(st.lists(st.tuples(st.sampled_from([ANN, BOB]), st.sampled_from([ANN_ID, BOB_ID])), max_size=8), st.data())
def test_a_recycled_phone_never_joins_two_users(sightings: list[tuple[Address, Address]], data: st.DataObject) -> None:
    """However often and with whom phones are seen, two untied user ids never share a conversation."""
    seen = [fact("", user_identity(LINE, user), same=[(phone, user)]) for phone, user in sightings]
    by_phone = data.draw(st.lists(st.sampled_from([fact("", WITH_ANN), fact("", WITH_BOB)]), max_size=4))
    history = named(data.draw(st.permutations(seen + by_phone)))

    resolution = resolve(history)

    for each in history:
        if each.evidence.identity in {WITH_ANN_ID, WITH_BOB_ID}:
            assert resolution.keys[each.id] == key(each.evidence.identity)

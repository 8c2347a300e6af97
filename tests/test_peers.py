"""Split, merged and misrouted threads that other systems are known for, each as callbacks through the real engine.

A comment names where it went wrong, as project and number. Where the cure proposed there is not ours, the test holds
what our design says, and the comment says so.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, permutations
from typing import Any

import orjson
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from correlator.gathering import Entry
from correlator.store import DUPLICATE
from receiver.links import read_link
from receiver.providers import PROVIDERS
from schemas.address import Address
from schemas.callback import Capture, CaptureKind
from schemas.events import Parsed
from schemas.keyspace import Keyspace
from tests.bodies import (
    Posted,
    answered,
    in_group,
    party,
    private,
    sendblue_received,
    sendblue_report,
    sinch_received,
    sinch_report,
    sinch_sent,
    telnyx_received,
    telnyx_report,
    telnyx_sent,
    whatsapp_echo,
    whatsapp_joined,
    whatsapp_received,
    whatsapp_report,
)
from tests.engine import ANN, BOB, CAT, LINE, LINE_2, Engine, started

ALL = ("telnyx", "sendblue", "sinch", "whatsapp")
WITH_GROUPS = ("telnyx", "sendblue", "whatsapp")
#: An identity of an iMessage user who has no number, as Apple allows.
DAN = Address("dan@example.com")


@pytest.fixture
async def engine(redis: Redis, keyspace: Keyspace) -> Engine:
    """A store with the lease in hand."""
    return await started(redis, keyspace)


def entry(engine: Engine, posted: Posted, account: str = "main", kind: CaptureKind = "callback", **facts: Any) -> Entry:
    """A callback, a registered send or a link as the next entry of the capture log.

    `facts` are the account's settings at that time.
    """
    blank = engine.entry(provider=posted.provider, account=account, body=orjson.dumps(posted.body))
    capture = replace(blank.capture, kind=kind, facts=replace(blank.capture.facts, **facts))
    return replace(blank, capture=capture, parsed=tuple(_READERS[kind](capture)))


_READERS: dict[CaptureKind, Callable[[Capture], Sequence[Parsed]]] = {
    "callback": lambda capture: PROVIDERS[capture.provider].parse(capture),
    "outbound": lambda capture: PROVIDERS[capture.provider].register(capture),
    "link": read_link,
}


async def registered(engine: Engine, posted: Posted, **facts: Any) -> dict[str, Any]:
    """Register a send of ours; what it was published as."""
    one = entry(engine, posted, kind="outbound", **facts)
    await engine.commit(one)
    [told] = await stream(engine, one)
    return told


async def linked(engine: Engine, provider: str, *, undone: bool = False, **pair: tuple[str, str]) -> None:
    """A person's word that two conversations (`link`) or two addresses (`tie`) are one, or that it is taken back."""
    body = {word: sorted(ends) for word, ends in pair.items()} | ({"undone": True} if undone else {})
    await engine.commit(entry(engine, Posted(provider, body), kind="link"))


async def stream(engine: Engine, *entries: Entry) -> list[dict[str, Any]]:
    """What each entry's own first event was published as, whatever followed from it."""
    first: dict[str, dict[str, Any]] = {}
    for item in await engine.events():
        if "#" not in item["id"]:
            first.setdefault(item["data"]["capture"], item)
    return [first[item.capture.id] for item in entries]


async def published(engine: Engine, *posted: Posted, **about: Any) -> list[dict[str, Any]]:
    """Commit callbacks one after the other; what each was published as."""
    entries = [entry(engine, one, **about) for one in posted]
    for one in entries:
        await engine.commit(one)
    return await stream(engine, *entries)


async def threads(engine: Engine, *posted: Posted, **about: Any) -> list[str]:
    """The conversation of each callback."""
    return [item["subject"] for item in await published(engine, *posted, **about)]


async def shown(engine: Engine, *posted: Posted, **about: Any) -> dict[str, Any]:
    """What the last of some callbacks shows of its conversation."""
    conversation: dict[str, Any] = (await published(engine, *posted, **about))[-1]["data"]["conversation"]
    return conversation


async def told_as(engine: Engine, event_type: str) -> list[dict[str, Any]]:
    """The events of one type in the stream, oldest first."""
    return [item for item in await engine.events() if item["type"] == event_type]


async def merged(engine: Engine) -> list[tuple[str, list[str]]]:
    """Every merge that readers were told of: where to, and which keys."""
    return [(item["subject"], item["data"]["merged"]) for item in await told_as(engine, "conversation.merged")]


def distinct(keys: Iterable[str]) -> int:
    """How many threads."""
    return len(set(keys))


# --- own number counted as a member -----------------------------------------------------------------------


async def test_own_number_in_one_payload_and_absent_in_the_next_is_one_thread(engine: Engine) -> None:
    """Telnyx may repeat our line in `cc` or not: `to` holds it either way."""
    # pulse-sms #406: three threads of one group.
    keys = await threads(engine, telnyx_received(cc=[BOB, LINE]), telnyx_received(cc=[BOB]))

    assert distinct(keys) == 1


async def test_a_list_without_me_and_a_list_with_me_are_one_thread(engine: Engine) -> None:
    """Sendblue lists our line among the participants or does not: the body names it elsewhere."""
    # qksms #1364, sms-ie #275: what was imported and what came live differed by the own number.
    without = sendblue_received(message_type="group", participants=[ANN, BOB])
    keys = await threads(engine, without, sendblue_received(message_type="group", participants=[BOB, LINE, ANN]))

    assert distinct(keys) == 1


async def test_replies_of_a_group_add_no_second_me(engine: Engine) -> None:
    """Whoever replies, the thread and the people in it stay the same."""
    # pulse-sms #406: each reply added another "me".
    told = await published(
        engine,
        telnyx_received(sender=ANN, cc=[BOB, CAT, LINE]),
        telnyx_received(sender=BOB, cc=[ANN, CAT, "5555550100"]),
        telnyx_received(sender=CAT, cc=[ANN, BOB, party(LINE), LINE]),
    )

    assert distinct(item["subject"] for item in told) == 1
    assert [item["data"]["conversation"]["participants"] for item in told] == [[ANN, BOB, CAT]] * 3
    assert [item["data"]["conversation"]["lines"] for item in told] == [[LINE]] * 3


async def test_a_line_that_nobody_configured_splits_nothing(engine: Engine) -> None:
    """Without any line in the settings, our send and the replies to it are one thread."""
    # qksms #1443: the device did not know its own number. To require own numbers and drop them before comparing is one
    # cure; the design stands: they stay in the set, and no setting enters a key.
    posted = telnyx_report(to=[ANN, BOB]), telnyx_received(cc=[BOB]), telnyx_received(sender=BOB, cc=[ANN, LINE])

    assert distinct([*await threads(engine, *posted), *await threads(engine, in_group("telnyx", BOB))]) == 1


async def test_to_configure_a_line_moves_no_thread(engine: Engine) -> None:
    """A second line of ours in a group is shown as a participant until settings name it; the key never changes."""
    # Own numbers as a required part of identity would split history here; the design stands: they are for showing.
    first = await shown(engine, telnyx_received(cc=[BOB, LINE_2]))
    later = await shown(engine, telnyx_received(cc=[BOB, LINE_2]), lines=(LINE, LINE_2))

    assert first["key"] == later["key"]
    assert (first["participants"], first["lines"]) == ([LINE_2, ANN, BOB], [LINE])
    assert (later["participants"], later["lines"]) == ([ANN, BOB], [LINE, LINE_2])


async def test_replies_to_a_group_that_we_opened_are_in_its_thread(engine: Engine) -> None:
    """The report on our first message names the people, the replies name us too: one thread."""
    # Signal-Android #7161: the thread we opened had no "me" among its members, the replies had.
    keys = await threads(engine, telnyx_report(to=[ANN, BOB]), *(in_group("telnyx", BOB, who) for who in (ANN, BOB)))

    assert distinct(keys) == 1


@pytest.mark.parametrize("ours", [*map(answered, ALL), whatsapp_echo(), sendblue_report(participants=[LINE, ANN])])
async def test_our_own_message_never_comes_back_as_a_strangers(engine: Engine, ours: Posted) -> None:
    """A message of ours is outbound, sent by our line, and makes no participant of it."""
    # quik #505: own messages came back in the name of a stranger.
    [item] = await published(engine, ours)
    message = item["data"]["message"]

    assert (message["direction"], message["sender"]) == ("outbound", LINE)
    assert item["data"]["conversation"]["participants"] == [ANN]


async def test_our_message_is_not_told_twice_where_we_are_on_the_list(engine: Engine) -> None:
    """A report on a group that lists our own line among its recipients tells of the others only."""
    # quik #821: the own number as a member made every message of mine appear twice.
    told = entry(engine, telnyx_report(to=[ANN, BOB, LINE]))
    await engine.commit(told)
    recipients = [item["data"]["status"]["recipient"] for item in await told_as(engine, "message.status")]

    assert recipients == [ANN, BOB]


@pytest.mark.parametrize("listed", [[ANN, BOB], [BOB], [BOB, LINE]])
async def test_a_roster_that_omits_self_is_no_smaller_group(engine: Engine, listed: list[str]) -> None:
    """Two people and our line are three, whoever of them the list leaves out and nothing says that it is a group."""
    # corten-matrix PR #60: a carrier's roster without self made a group of three look like two, hence a 1:1.
    full = sendblue_received(message_type="group", participants=[ANN, BOB, LINE])
    keys = await threads(engine, full, sendblue_received(message_type=None, participants=listed))

    assert distinct(keys) == 1
    assert (await engine.shown())["kind"] == "group"


@pytest.mark.parametrize("listed", [[ANN], [ANN, LINE], [], None])
async def test_a_group_that_looks_like_two_people_is_not_their_1_to_1(engine: Engine, listed: list[str] | None) -> None:
    """A roster too short for a group that says it is one leaves its message provisional."""
    # corten-matrix PR #60: `countNonSelfMembers` filed such groups under the sender's 1:1.
    direct, short = await threads(
        engine, private("sendblue"), sendblue_received(message_type="group", participants=listed)
    )
    conversation = await engine.shown()

    assert short != direct
    assert (conversation["kind"], conversation["provisional"]) == ("group", True)


# --- member order, number format, several numbers per person ----------------------------------------------


async def test_member_order_makes_no_other_thread(engine: Engine) -> None:
    """All orders of `cc`, and of participants, are one thread each."""
    # sms-backup-plus PR #1097: the id hashed the members in the order in which the client had them.
    telnyx = [telnyx_received(cc=order) for order in permutations([BOB, CAT, LINE])]
    sendblue = [
        sendblue_received(message_type="group", participants=order) for order in permutations([ANN, BOB, CAT, LINE])
    ]

    assert distinct(await threads(engine, *telnyx)) == 1
    assert distinct(await threads(engine, *sendblue)) == 1


async def test_the_time_of_a_message_is_no_part_of_its_thread(engine: Engine) -> None:
    """The same people months apart are the same thread."""
    # sms-backup-plus PR #1097: a time stamp was part of the id.
    keys = await threads(engine, *(telnyx_received(cc=[BOB], after=after) for after in (0, 60, 90 * 86400)))

    assert distinct(keys) == 1


@pytest.mark.parametrize(
    "spelling",
    ["15555550112", "5555550112", "+1 (555) 555-0112", "555.555.0112", "\u202d+15555550112\u202c", " +1-555-555-0112 "],
)
async def test_one_number_in_two_spellings_is_one_thread(engine: Engine, spelling: str) -> None:
    """With or without country code, plus sign, punctuation or invisible marks, it is the same member and contact."""
    # ocsms #121: the number with +1 and the bare one were two conversations.
    groups = await threads(engine, telnyx_received(cc=[BOB, LINE]), telnyx_received(cc=[party(spelling), LINE]))
    contacts = await threads(engine, private("sendblue", BOB), sendblue_received(sender=spelling))

    assert distinct(groups) == 1
    assert distinct(contacts) == 1


async def test_a_plus_sign_more_or_less_is_no_other_contact(engine: Engine) -> None:
    """Sinch writes numbers with and without it; WhatsApp never has it, and spells our line for display."""
    # ocsms #121.
    sinch = await threads(engine, sinch_received(), sinch_received(sender=ANN[1:], line=LINE[1:]))
    await threads(engine, whatsapp_received())

    assert distinct(sinch) == 1
    assert (await engine.shown())["participants"] == [ANN]


async def test_ten_digits_are_american_only_where_the_provider_writes_them_so(engine: Engine) -> None:
    """Sinch sends to the whole world: ten digits there are a number of their own, not one with +1 left out."""
    # ocsms #121, and the design stands: never a wrong merge for the sake of a split.
    keys = await threads(engine, sinch_received(sender=ANN), sinch_received(sender=ANN[2:]))

    assert distinct(keys) == 2


async def test_a_member_listed_twice_under_two_spellings_is_one_member(engine: Engine) -> None:
    """A second spelling of somebody in the list changes neither thread nor participants."""
    # Signal-Android #2748: one person stood twice in the list of members.
    once, twice = await published(
        engine, telnyx_received(cc=[BOB, LINE]), telnyx_received(cc=[BOB, party("(555) 555-0112"), "15555550112", LINE])
    )

    assert once["subject"] == twice["subject"]
    assert twice["data"]["conversation"]["participants"] == [ANN, BOB]


async def test_a_sender_listed_again_makes_no_group_of_a_1_to_1(engine: Engine) -> None:
    """A `cc` that holds only the two ends, in whatever spelling, is their 1:1."""
    # Signal-Android #2748, where the one listed twice is the sender.
    keys = await threads(engine, private("telnyx"), telnyx_received(cc=["5555550111", LINE]))

    assert distinct(keys) == 1
    assert (await engine.shown())["kind"] == "direct"


async def test_a_trunk_zero_is_not_guessed_away(engine: Engine) -> None:
    """A zero behind the plus sign is another number: no address is ever mended by guessing."""
    # Signal-Android #2748 suspects a zero behind the plus sign; the design stands: punctuation goes, digits do not.
    keys = await threads(engine, sinch_received(sender="+15555550111"), sinch_received(sender="+015555550111"))

    assert distinct(keys) == 2


async def test_an_e_mail_address_in_capitals_is_the_same_contact(engine: Engine) -> None:
    """An iMessage user without a number is one contact however the address is written."""
    # ocsms #121, of addresses.
    keys = await threads(engine, sendblue_received(sender=DAN), sendblue_received(sender="Dan@Example.COM"))

    assert distinct(keys) == 1


async def test_a_group_has_exactly_the_numbers_that_were_named(engine: Engine) -> None:
    """Somebody's second number joins no group by itself, and as a member it makes another one."""
    # SimpleMobileTools #715: to add a contact added all of the contact's numbers. "Several numbers are one person" is
    # never concluded; the design stands: only a person's link says so.
    second = Address("+15555550119")
    first = await shown(engine, telnyx_received(cc=[BOB]))
    other = await shown(engine, telnyx_received(cc=[second]))
    alone = await threads(engine, private("telnyx", BOB), private("telnyx", second))

    assert first["participants"] == [ANN, BOB]
    assert other["participants"] == [ANN, second]
    assert distinct([first["key"], other["key"], *alone]) == 4


# --- ids that are not stable ------------------------------------------------------------------------------


async def test_a_new_group_message_id_for_every_send_makes_no_new_room(engine: Engine) -> None:
    """An id that names a message is a pointer; the people decide."""
    # mautrix/gmessages #63: the provider's ids changed, and one user had thousands of duplicate rooms.
    keys = await threads(engine, *(telnyx_report(to=[ANN, BOB], group_message_id=f"g-{n}") for n in range(20)))

    assert distinct(keys) == 1


async def test_a_change_of_settings_migrates_nothing(engine: Engine) -> None:
    """Lines, windows and strictness may change at any time: every room keeps its key."""
    # mautrix/gmessages #76: the cure of unstable ids needed a migration of all rooms.
    before = await threads(engine, in_group("telnyx", BOB), private("telnyx"))
    settings = {"lines": (LINE, LINE_2), "strict_groups": True, "dedupe_seconds": 86400, "copy_window_seconds": 0.0}
    after = await threads(engine, in_group("telnyx", BOB), private("telnyx"), **settings)

    assert after == before


async def test_a_group_upgraded_to_rcs_is_the_same_room_where_people_decide(engine: Engine) -> None:
    """At Telnyx the same people by MMS and by RCS are one thread."""
    # mautrix/gmessages #89: a group upgraded from MMS had a new identity.
    keys = await threads(engine, *(telnyx_received(cc=[BOB, LINE], kind=kind) for kind in ("MMS", "RCS", "mms")))

    assert distinct(keys) == 1


async def test_a_group_upgraded_under_its_id_is_the_same_room(engine: Engine) -> None:
    """At Sendblue the group's id decides, whatever it is sent by."""
    # mautrix/gmessages #89.
    services = ("iMessage", "SMS", "RCS")
    keys = await threads(
        engine, *(sendblue_received(message_type="group", group_id="g", service=service) for service in services)
    )

    assert distinct(keys) == 1


async def test_a_group_that_comes_back_under_a_new_id_is_another_room(engine: Engine) -> None:
    """Equal members are no reason to join two groups that the provider keeps apart."""
    # mautrix/gmessages #89 would have mapped the one id onto the other; the design stands: group_id identifies, members
    # are a property, and whoever knows better links the two.
    old, new = (
        sendblue_received(message_type="group", group_id=name, participants=[ANN, BOB, LINE])
        for name in ("sb_group_old", "sb_group_new")
    )

    assert distinct(await threads(engine, old, new)) == 2
    assert await merged(engine) == []


async def test_a_group_that_apple_split_stays_two_rooms_message_by_message(engine: Engine) -> None:
    """Messages of two ids in turn never pull the rooms together, and each stays in its own."""
    # openradar #2354: the platform itself splits groups. The design stands: weak evidence never joins.
    one, two = (
        [sendblue_received(message_type="group", group_id=name, participants=[ANN, BOB, LINE]) for _ in range(3)]
        for name in ("half-1", "half-2")
    )
    turns = [message for both in zip(one, two, strict=True) for message in both]
    keys = await threads(engine, *turns)

    assert keys == [keys[0], keys[1]] * 3
    assert distinct(keys) == 2


async def test_a_group_that_gets_an_id_later_is_another_room(engine: Engine) -> None:
    """A free plan's group is known by its people; once an id is told, that decides, and nothing is guessed."""
    # mautrix/gmessages #89 again; the design stands.
    without = sendblue_received(message_type="group", participants=[ANN, BOB, LINE])
    keys = await threads(engine, without, in_group("sendblue", BOB))

    assert distinct(keys) == 2


async def test_members_that_change_under_an_id_move_nothing(engine: Engine) -> None:
    """A group keeps its room while people come and go, and shows who is in it now."""
    # mautrix/gmessages #90: members were rolling, and with them the hash.
    rosters = [[ANN, BOB, LINE], [ANN, BOB, CAT, LINE], [ANN, CAT, LINE]]
    told = await published(
        engine,
        *(
            sendblue_received(message_type="group", group_id="g", participants=roster, after=at)
            for at, roster in enumerate(rosters)
        ),
    )
    people = [item["data"]["conversation"]["participants"] for item in told]

    assert distinct(item["subject"] for item in told) == 1
    assert people == [[ANN, BOB], [ANN, BOB, CAT], [ANN, CAT]]


@pytest.mark.parametrize("hidden", ["+1555555****", "[REDACTED]", "", "+155555501xx"])
async def test_hidden_members_fold_a_group_into_nothing(engine: Engine, hidden: str) -> None:
    """A list with somebody unreadable in it is no set: the message waits, a group's, in a room of its own."""
    # mautrix/gmessages #90: hidden members in the hash folded 1:1s into groups, and the change was taken back.
    first, second = telnyx_received(cc=[hidden, LINE]), telnyx_received(cc=[hidden, BOB, LINE])
    keys = await threads(engine, private("telnyx"), in_group("telnyx", BOB), first, second)
    conversation = await engine.shown()

    assert distinct(keys) == 4
    assert (conversation["kind"], conversation["provisional"]) == ("group", True)


async def test_an_id_encoded_anew_is_not_guessed_to_be_the_same(engine: Engine) -> None:
    """Ids of groups are opaque: another encoding, and another case, is another id."""
    # corten-matrix #58: a second path wrote the id in hexadecimal. Ours are all read by one parser, so only a provider
    # could do it; the design stands: an id is never decoded, folded or guessed at.
    group = "Y2FwaV9ncm91cDox"
    spellings = (group, group.encode().hex(), group.lower())
    whatsapp = await threads(engine, *(whatsapp_received(group_id=name) for name in spellings))
    sendblue = await threads(
        engine, *(sendblue_received(message_type="group", group_id=name) for name in ("sb_group_A1", "sb_group_a1"))
    )

    assert distinct(whatsapp) == 3
    assert distinct(sendblue) == 2


@pytest.mark.parametrize("provider", ["whatsapp", "sendblue"])
async def test_every_kind_of_callback_keys_a_group_alike(engine: Engine, provider: str) -> None:
    """Messages, reports, echoes and changes of members that name one group's id are in one room."""
    # corten-matrix #58: the backfill keyed by id and the live path by members, and both rooms lived on.
    group = f"Y2FwaV9{BOB}"
    others = {
        "whatsapp": [
            whatsapp_report({"recipient_id": group, "recipient_type": "group"}, status="sent"),
            whatsapp_echo(to=group, recipient_type="group"),
            whatsapp_joined(CAT, group_id=group),
        ],
        "sendblue": [
            sendblue_report(to=[ANN, BOB], message_type="group", group_id=f"sb_group_{BOB}"),
            sendblue_report(to=LINE_2, group_id=f"sb_group_{BOB}", status="SENT"),
        ],
    }[provider]

    assert distinct(await threads(engine, in_group(provider, BOB), *others)) == 1


async def test_ten_ways_to_write_one_group_are_one_room(engine: Engine) -> None:
    """Bare numbers or objects, our line repeated or not, sent or received: Telnyx' shapes of one group are one room."""
    # corten-matrix PR #60: up to ten rooms for one group, collapsed by a migration at the next start.
    keys = await threads(
        engine,
        telnyx_received(cc=[BOB]),
        telnyx_received(cc=[BOB, LINE]),
        telnyx_received(cc=[party(BOB), party(LINE)]),
        telnyx_received(cc=[party(BOB), LINE]),
        telnyx_received(cc=[BOB, ANN, LINE]),
        telnyx_received(sender=BOB, cc=[ANN]),
        telnyx_received(sender="5555550112", to=["15555550100"], cc=["5555550111"]),
        telnyx_report(to=[ANN, BOB]),
        telnyx_report(to=[ANN], cc=[party(BOB)]),
        telnyx_report(to=[BOB], cc=[ANN, BOB, LINE], group_message_id="g"),
    )

    assert distinct(keys) == 1


async def test_ids_named_together_are_one_room(engine: Engine) -> None:
    """Reports that know one id each are in two rooms until one names both, which is told."""
    # imessage-exporter #628: one group had two chat ids, cured by connected components of ids and chats.
    one = telnyx_report(to=[ANN], message="m", group_message_id="m")
    two = telnyx_report(to=[BOB], message="g", group_message_id="g")
    first, second, survivor = await threads(engine, one, two, telnyx_report(message="m", group_message_id="g"))

    assert first != second
    assert survivor in (first, second)
    assert await merged(engine) == [(survivor, [key for key in (first, second) if key != survivor])]


async def test_one_message_id_in_two_groups_leaves_two_groups(engine: Engine) -> None:
    """What names a message never connects two groups that are known by their people."""
    # imessage-exporter #628 would take them for one component; the design stands: claimants stay apart.
    keys = await threads(
        engine,
        telnyx_report(to=[ANN, BOB], group_message_id="g"),
        telnyx_report(to=[ANN, CAT], group_message_id="g"),
        in_group("telnyx", BOB),
        in_group("telnyx", CAT),
    )

    assert keys == [keys[0], keys[1]] * 2
    assert distinct(keys) == 2
    assert await merged(engine) == []


async def test_one_person_over_imessage_and_sms_is_one_thread(engine: Engine) -> None:
    """What a 1:1 is sent by is no part of it, in either direction."""
    # barcelona #41: `SMS;-;` and `iMessage;-;` of one number were two chats.
    services = ("iMessage", "SMS", "RCS", "sms")
    received = [sendblue_received(service=service) for service in services]
    keys = await threads(engine, *received, *(sendblue_report(service=service) for service in services))

    assert distinct(keys) == 1


@pytest.mark.parametrize("provider", ALL)
async def test_a_send_to_a_number_opens_no_second_chat(engine: Engine, provider: str) -> None:
    """What we send to somebody and what comes back are one thread, whichever comes first."""
    # openclaw/imsg #16: to send by identifier created a second chat.
    keys = await threads(engine, answered(provider), private(provider), answered(provider))

    assert distinct(keys) == 1


@pytest.mark.parametrize("message_type", ["message", "group", None, ""])
async def test_an_id_of_a_group_makes_a_group_whatever_the_flag_says(engine: Engine, message_type: str | None) -> None:
    """The flag beside a group's id is not asked."""
    # openclaw/imsg #42: `is_group` was false since the wrong field was read for the id.
    posted = sendblue_received(message_type=message_type, group_id=f"sb_group_{BOB}")
    keys = await threads(engine, in_group("sendblue", BOB), posted)

    assert distinct(keys) == 1
    assert (await engine.shown())["kind"] == "group"


@pytest.mark.parametrize(
    "who",
    [
        {"recipient_id": "g", "recipient_type": "group"},
        {"recipient_id": "g", "recipient_type": "group", "recipient_participant_id": BOB},
        {"recipient_id": "g", "recipient_type": "group", "participant_recipient_id": BOB},
        {"recipient_id": "g", "participant_recipient_id": BOB},
        {"group_id": "g", "recipient_id": BOB},
        {"group_id": "g", "recipient_id": "g"},
    ],
)
async def test_a_groups_id_is_found_wherever_a_report_has_it(engine: Engine, who: dict[str, str]) -> None:
    """Meta's pages have it under two keys and the participant under three: always the same room."""
    # openclaw/imsg #42, openclaw #22168.
    keys = await threads(engine, whatsapp_received(group_id="g"), whatsapp_report(who))

    assert distinct(keys) == 1


async def test_a_re_install_recreates_no_room(engine: Engine, redis: Redis, keyspace: Keyspace) -> None:
    """With all of Redis lost, the same callbacks get the same keys: a key is derived, not minted."""
    # mautrix/signal #183: a re-install recreated every room. A minted key, never a hash of participants, would do so
    # too; the design stands: keys are opaque to readers, yet derived.
    groups = [in_group(provider, BOB) for provider in WITH_GROUPS]
    posted = [*map(private, ALL), *groups, telnyx_report(to=[ANN], group_message_id="g")]
    before = await threads(engine, *posted)
    await redis.delete(*await redis.keys(f"{keyspace.prefix}*"))
    after = await threads(await started(redis, keyspace), *reversed(posted))

    assert after == before[::-1]
    assert distinct(after) == len(posted)


async def test_another_namespace_is_another_world(engine: Engine, redis: Redis) -> None:
    """The same callbacks in another namespace share no key with this one's."""
    # mautrix/signal #183, the other way round: only what is meant to decide a key does.
    posted = [in_group("telnyx", BOB), private("telnyx")]
    here = await threads(engine, *posted)
    there = await threads(await started(redis, Keyspace(f"{engine.keyspace.namespace}-b")), *posted)

    assert distinct([*here, *there]) == 4


async def test_pictures_and_texts_of_the_same_people_are_one_thread(engine: Engine) -> None:
    """MMS or SMS is no part of a thread."""
    # pulse-sms #1058: MMS and SMS of the same people were two.
    groups = await threads(engine, *(telnyx_received(cc=[BOB], kind=kind) for kind in ("SMS", "MMS")))
    direct = await threads(engine, *(telnyx_received(kind=kind) for kind in ("SMS", "MMS")))

    assert (distinct(groups), distinct(direct)) == (1, 1)


async def test_another_member_is_another_thread_where_people_decide(engine: Engine) -> None:
    """At Telnyx a group with one more person is another conversation, and nobody is told that history moved."""
    # pulse-sms #374: by design there, and here.
    before, after, late = await threads(
        engine,
        telnyx_received(cc=[BOB, LINE]),
        telnyx_received(cc=[BOB, CAT, LINE]),
        telnyx_received(sender=BOB, cc=[ANN, LINE]),
    )

    assert after != before == late
    assert await merged(engine) == []


async def test_a_group_that_shrank_to_two_is_their_1_to_1_where_people_decide(engine: Engine) -> None:
    """At Telnyx nothing tells the rest of a group from a 1:1 of the same two, and nothing of the group moves there."""
    # pulse-sms #374; the design stands: two distinct addresses are a direct conversation.
    group, rest, direct = await threads(
        engine, telnyx_received(cc=[BOB, LINE]), telnyx_received(cc=[LINE]), private("telnyx")
    )

    assert rest == direct != group
    assert await merged(engine) == []


async def test_a_group_that_shrank_to_two_stays_a_group_under_its_id(engine: Engine) -> None:
    """At Sendblue the id decides, however few are left."""
    # corten-matrix PR #60: whoever counts members files the rest of a group as a 1:1.
    left = sendblue_received(message_type="group", group_id=f"sb_group_{BOB}", participants=[ANN, LINE], after=60)
    group, rest, direct = await published(engine, in_group("sendblue", BOB), left, private("sendblue"))
    conversation = rest["data"]["conversation"]

    assert rest["subject"] == group["subject"] != direct["subject"]
    assert (conversation["kind"], conversation["participants"]) == ("group", [ANN])


# --- wrong room: a privacy bug, not a cosmetic one --------------------------------------------------------


@pytest.mark.parametrize("provider", WITH_GROUPS)
async def test_a_private_message_never_lands_in_a_group(engine: Engine, provider: str) -> None:
    """Somebody known from a group only writes in private: a 1:1, whatever else has that address in it."""
    # hermes-agent #45717: "any chat with this address" put a private reply into a family group.
    group, message, answer = await published(engine, in_group(provider, BOB), private(provider), answered(provider))
    kinds = [item["data"]["conversation"]["kind"] for item in (group, message, answer)]

    assert message["subject"] == answer["subject"] != group["subject"]
    assert kinds == ["group", "direct", "direct"]
    assert await merged(engine) == []


@pytest.mark.parametrize("provider", WITH_GROUPS)
async def test_a_groups_message_never_lands_in_a_1_to_1(engine: Engine, provider: str) -> None:
    """Somebody known from a 1:1 only writes to a group: the group, whoever else is in it."""
    # hermes-agent #45717, openclaw #17514.
    direct, group, again = await threads(engine, private(provider), in_group(provider, BOB), private(provider))

    assert direct == again != group


async def test_one_message_told_under_two_chat_ids_is_published_once(engine: Engine) -> None:
    """The handle names the message: told again as another chat's, it reaches no second room."""
    # hermes-agent #45717: one message came under two chat ids.
    group = sendblue_received(message_type="group", group_id="g", handle="H")
    await engine.commit(entry(engine, group))
    again = await engine.commit(entry(engine, sendblue_received(handle="H")))
    [item] = await told_as(engine, "message.received")

    assert set(again) == {DUPLICATE}
    assert item["data"]["conversation"]["kind"] == "group"


async def test_no_chat_is_found_by_the_address_of_its_sender(engine: Engine) -> None:
    """With one group of Ann and one 1:1 known, a message of hers that names neither is put into neither."""
    # hermes-agent #45717: the fallback was removed.
    known = await threads(engine, in_group("sendblue", BOB), private("sendblue"))
    [lost] = await threads(engine, sendblue_received(message_type="group", participants=[]))

    assert lost not in known
    assert (await engine.shown())["provisional"] is True


@pytest.mark.parametrize(
    "short",
    [
        sendblue_received(message_type="group", participants=None, group_id=None),
        sendblue_received(message_type="group"),
        sendblue_received(name="Rowing club", participants=None),
        sendblue_received(name="Rowing club", message_type=None, participants=[ANN]),
        sendblue_report(message_type="group"),
        sendblue_report(to=[ANN, BOB], message_type=None),
        telnyx_report(to=[ANN], group_message_id="g"),
        telnyx_report(to=[], cc=[ANN, BOB]),
        telnyx_received(to=[], cc=[ANN, BOB]),
    ],
)
async def test_a_short_payload_of_a_group_is_never_the_senders_1_to_1(engine: Engine, short: Posted) -> None:
    """What may be a group's but lacks the ids is published at once, as provisional, in a room of its own."""
    # hermes-agent #83396: a short payload lacked the group's id, so the group's text was a private one. To park it for
    # a while is not ours; the design stands: published at once, flagged `provisional`.
    direct, found = await published(engine, private(short.provider), short)
    conversation = found["data"]["conversation"]

    assert found["subject"] != direct["subject"]
    assert (conversation["kind"], conversation["provisional"]) == ("group", True)


async def test_a_short_payload_that_has_its_people_is_in_their_group(engine: Engine) -> None:
    """Of the type group without an id, the complete list of its people decides."""
    # hermes-agent #83396, where more than the sender is told.
    posted = [sendblue_received(sender=who, message_type="group", participants=[ANN, BOB, LINE]) for who in (ANN, BOB)]
    told = await published(engine, *posted)

    assert distinct(item["subject"] for item in told) == 1
    assert [item["data"]["conversation"]["provisional"] for item in told] == [False, False]


async def test_the_report_on_an_answer_to_a_group_is_in_the_group(engine: Engine) -> None:
    """Sendblue's later statuses of a message follow its handle when they leave the group's id out."""
    # openclaw #17514: the answer to a group's message went to the sender's 1:1.
    full = sendblue_report(to=[ANN, BOB], message_type="group", group_id=f"sb_group_{BOB}", handle="H", status="SENT")
    short = sendblue_report(to=ANN, message_type="group", handle="H")
    group, direct, answer, late = await threads(engine, in_group("sendblue", BOB), private("sendblue"), full, short)

    assert group == answer == late != direct


async def test_one_recipients_report_on_a_group_message_is_in_the_group(engine: Engine) -> None:
    """Telnyx reports each recipient alone: the id of the group message leads to where the whole list was told."""
    # openclaw #17514.
    direct, group, late = await threads(
        engine,
        private("telnyx"),
        telnyx_report(to=[ANN, BOB], group_message_id="g"),
        telnyx_report(to=[ANN], group_message_id="g"),
    )

    assert group == late != direct


async def test_a_thread_of_many_without_a_flag_is_a_group(engine: Engine) -> None:
    """Without a type, more people than the two ends are a group, not the sender's 1:1."""
    # openclaw #535: a thread of many members that was not flagged as a group leaked into the private session.
    direct, many = await threads(
        engine, private("sendblue"), sendblue_received(message_type=None, participants=[ANN, BOB, LINE])
    )

    assert many != direct
    assert (await engine.shown())["kind"] == "group"


async def test_what_the_provider_calls_a_1_to_1_is_one_whatever_its_list_says(engine: Engine) -> None:
    """Of the type message, without id and name of a group, it is the pair's; the list is no sign of a group."""
    # openclaw #535 is the opposite case; the design stands: at Sendblue `participants` decide nothing about a 1:1,
    # which lists nobody, the contact, or the contact and our line.
    lists: list[list[str] | None] = [None, [], [ANN], [ANN, LINE], [LINE], [ANN, BOB, LINE]]
    keys = await threads(engine, *(sendblue_received(participants=listed) for listed in lists))

    assert distinct(keys) == 1
    assert (await engine.shown())["kind"] == "direct"


async def test_a_groups_report_without_its_id_follows_its_message_or_waits(engine: Engine) -> None:
    """WhatsApp names a participant but no group: the message's other reports tell which, else it is provisional."""
    # openclaw #22168: the id was missing at run time, and a chain of fallbacks ended at the wrong chat.
    lost = {"recipient_type": "group", "recipient_participant_id": ANN}
    group, direct, sent, known, unknown = await threads(
        engine,
        whatsapp_received(group_id="g"),
        private("whatsapp"),
        whatsapp_report({"recipient_id": "g", "recipient_type": "group"}, message="wamid.K", status="sent"),
        whatsapp_report(lost, message="wamid.K"),
        whatsapp_report(lost, message="wamid.U"),
    )
    conversation = await engine.shown()

    assert group == sent == known
    assert distinct([group, direct, unknown]) == 3
    assert (conversation["kind"], conversation["provisional"]) == ("group", True)


@pytest.mark.parametrize("listed", [[ANN, BOB, LINE], [], None])
async def test_a_member_that_is_never_listed_splits_no_group_with_an_id(
    engine: Engine, listed: list[str] | None
) -> None:
    """Somebody known by e-mail only, absent from every list, writes in the group's room and is shown from then on."""
    # manaflow notes: groups hold an implicit e-mail member that Sendblue never lists.
    known: dict[str, Any] = {"message_type": "group", "group_id": "g"}
    group, hidden, again = await published(
        engine,
        sendblue_received(participants=[ANN, BOB, LINE], **known),
        sendblue_received(sender="Dan@example.com", participants=listed, after=60, **known),
        sendblue_report(to=[ANN, BOB], after=120, **known),
    )

    assert distinct(item["subject"] for item in (group, hidden, again)) == 1
    assert group["data"]["conversation"]["participants"] == [ANN, BOB]
    assert again["data"]["conversation"]["participants"] == [ANN, BOB, DAN]


async def test_a_member_that_is_never_listed_splits_a_group_without_an_id(engine: Engine) -> None:
    """Where only people decide, a message of somebody unlisted is of one person more: another room, not a guess."""
    # manaflow notes; the design stands: a split is a nuisance, a wrong merge a leak.
    listed: dict[str, Any] = {"message_type": "group", "participants": [ANN, BOB, LINE]}
    keys = await threads(engine, sendblue_received(**listed), sendblue_received(sender=DAN, **listed))

    assert distinct(keys) == 2


async def test_a_message_to_a_group_is_not_one_message_to_each(engine: Engine) -> None:
    """Reports that name one recipient each, and the group message, are one group's and nobody's 1:1."""
    # FossifyOrg/Messages #168, SimpleMobileTools #377, #521: a reply to a group became single messages.
    directs = await threads(engine, *(private("telnyx", who) for who in (ANN, BOB, CAT)))
    reports = await threads(
        engine, *(telnyx_report(to=[who], message="g", group_message_id="g") for who in (ANN, BOB, CAT))
    )

    assert distinct(reports) == 1
    assert not set(reports) & set(directs)


async def test_single_messages_to_all_members_are_in_their_1_to_1s(engine: Engine) -> None:
    """What does go out as single messages is each person's own thread, and never the group's."""
    # FossifyOrg/Messages #443, SimpleMobileTools #584: a reply to a group went out as single messages. Where somebody
    # really sends such, they are not the group's.
    [group] = await threads(engine, in_group("telnyx", BOB))
    directs = await threads(engine, *(private("telnyx", who) for who in (ANN, BOB)))
    reports = await threads(engine, *(telnyx_report(to=[who]) for who in (ANN, BOB)))

    assert reports == directs
    assert distinct([group, *directs]) == 3


async def test_where_settings_say_so_a_lone_recipient_proves_no_1_to_1(engine: Engine) -> None:
    """Under `strict_groups` an MMS report with one recipient and no sign of a group waits for what it belongs to."""
    # FossifyOrg/Messages #443, for those who have seen reports on a group message without any id of it.
    direct, doubtful = await threads(engine, private("telnyx"), telnyx_report(), strict_groups=True)

    assert doubtful != direct
    assert (await engine.shown())["provisional"] is True


# --- every identity rule found, and how each one broke ----------------------------------------------------


@pytest.mark.parametrize("provider", WITH_GROUPS)
async def test_one_sender_in_three_rooms_is_three_rooms(engine: Engine, provider: str) -> None:
    """The sender's address alone places nothing."""
    # courier `meta/handlers.go`, chatwoot #8427, #12693: keyed by the sender, any group is the sender's 1:1.
    keys = await threads(engine, private(provider), in_group(provider, BOB), in_group(provider, CAT))

    assert distinct(keys) == 3


async def test_the_same_two_numbers_alone_and_in_a_group_are_two_rooms(engine: Engine) -> None:
    """Our line and Ann's, in a 1:1 and in a group that we write to: the pair decides for the 1:1 only."""
    # Twilio's inbound autocreation: a conversation is our number and theirs.
    direct, group, answer = await threads(
        engine, telnyx_report(to=[ANN]), telnyx_report(to=[ANN, BOB]), telnyx_received(cc=[BOB])
    )

    assert group == answer != direct


@pytest.mark.parametrize("provider", ["telnyx", "sinch", "sendblue"])
async def test_one_person_at_two_lines_of_ours_has_two_threads(engine: Engine, provider: str) -> None:
    """The sender does not decide by itself who of us was meant."""
    # courier, chatwoot #8427: keyed by sender.
    posted = {
        "telnyx": [telnyx_received(to=[line]) for line in (LINE, LINE_2)],
        "sinch": [sinch_received(line=line) for line in (LINE, LINE_2)],
        "sendblue": [sendblue_received(line=line) for line in (LINE, LINE_2)],
    }[provider]

    assert distinct(await threads(engine, *posted)) == 2


async def test_one_groups_id_under_two_numbers_of_ours_is_two_rooms(engine: Engine) -> None:
    """WhatsApp's group ids are taken as unique under the number that they came with, and no further."""
    # Glific's rule, the provider's group id alone, would trust it to be unique beyond what the provider promises.
    keys = await threads(engine, *(whatsapp_received(group_id="g", number_id=number) for number in ("7001", "7002")))

    assert distinct(keys) == 2


async def test_the_same_message_with_two_ids_is_in_one_room(engine: Engine) -> None:
    """Two ids are two facts; the thread does not depend on either."""
    # textbee #159: the same SMS came under different ids.
    told = await published(engine, telnyx_received(cc=[BOB], message="a"), telnyx_received(cc=[BOB], message="b"))

    assert distinct(item["id"] for item in told) == 2
    assert distinct(item["subject"] for item in told) == 1


async def test_a_message_told_to_two_lines_of_ours_is_in_one_room(engine: Engine) -> None:
    """Two own lines in one group are told of one message each: two facts in one conversation, seen by both lines."""
    # Bandwidth: an event and an id for each owned number. "One message with several receipts" is rule 5 there; the
    # design stands: both facts are published, in one conversation that shows both lines.
    first, second = await published(
        engine,
        telnyx_received(to=[LINE], cc=[BOB, LINE_2]),
        telnyx_received(to=[LINE_2], cc=[BOB, LINE]),
        lines=(LINE, LINE_2),
    )
    conversation = second["data"]["conversation"]

    assert first["id"] != second["id"]
    assert first["subject"] == second["subject"] == conversation["key"]
    assert (conversation["participants"], conversation["lines"]) == ([ANN, BOB], [LINE, LINE_2])


async def test_a_group_of_one_person_and_two_lines_of_ours_is_no_1_to_1(engine: Engine) -> None:
    """Own lines stay in the set: what they share with Ann is neither line's 1:1 with her."""
    # Counting members without own numbers, as in corten-matrix, would file it under one of the two. The design stands.
    keys = await threads(
        engine, private("telnyx"), telnyx_received(to=[LINE_2]), telnyx_received(cc=[LINE_2]), lines=(LINE, LINE_2)
    )
    conversation = await engine.shown()

    assert distinct(keys) == 3
    assert (conversation["kind"], conversation["participants"]) == ("group", [ANN])


async def test_two_lines_of_ours_in_a_group_with_an_id_are_in_one_room(engine: Engine) -> None:
    """Sendblue's id of a group is not the line's: both lines see the same conversation."""
    # Bandwidth, as above.
    told = await published(
        engine, *(sendblue_received(message_type="group", group_id="g", line=line) for line in (LINE, LINE_2))
    )

    assert distinct(item["subject"] for item in told) == 1
    assert told[1]["data"]["conversation"]["lines"] == [LINE, LINE_2]


async def test_a_retry_is_no_second_event(engine: Engine) -> None:
    """What differs between attempts is no part of a fact: published once, however often it is told."""
    # SendGrid #1435: the event's id changed on a retry; at Telnyx only `meta` does.
    attempts = [telnyx_received(fact="f", message="m", attempt=attempt) for attempt in (1, 2, 3)]
    first, *again = [await engine.commit(entry(engine, one)) for one in attempts]

    assert first == [1]
    assert again == [[DUPLICATE], [DUPLICATE]]
    assert len(await engine.events()) == 1


async def test_a_retry_under_another_id_is_in_the_same_room(engine: Engine) -> None:
    """Should an id change after all, a fact is told twice and no thread is split."""
    # SendGrid #1435.
    keys = await threads(engine, *(telnyx_received(cc=[BOB], fact=fact, message="m") for fact in ("f1", "f2")))

    assert distinct(keys) == 1


@pytest.mark.parametrize(
    "posted",
    [
        [telnyx_report(to=[who], message="m") for who in (ANN, BOB)],
        [sinch_report(to=who, batch="b") for who in (ANN, BOB)],
        [sendblue_report(to=who, handle="H", status=word) for who, word in ((ANN, "SENT"), (BOB, "DELIVERED"))],
        [sendblue_received(line=line, handle="H") for line in (LINE, LINE_2)],
        [sendblue_report(message_type="group", group_id=name, handle="H", after=n) for n, name in enumerate("gh")],
    ],
)
async def test_a_message_id_that_repeats_in_another_room_joins_nothing(engine: Engine, posted: list[Posted]) -> None:
    """Callbacks that tell their conversation by themselves keep it, whatever message they are about."""
    # The rule of textbee, Bandwidth and SendGrid, a message's id as identity, turned round.
    assert distinct(await threads(engine, *posted)) == 2
    assert await merged(engine) == []


async def test_a_batch_without_a_line_is_in_nobodys_thread_until_one_is_known(engine: Engine) -> None:
    """Sinch names batch and recipient only: without a line it is provisional, with a default line it is the pair's."""
    # Chatwoot's rule, the sender alone, would have put it with whichever line wrote last.
    [direct] = await threads(engine, private("sinch"))
    [lost] = await published(engine, sinch_report(line=None))
    [found] = await threads(engine, sinch_report(line=None), default_line=LINE)

    assert lost["subject"] != direct == found
    assert lost["data"]["conversation"]["provisional"] is True


async def test_the_default_line_is_ours_where_only_a_setting_names_it(engine: Engine) -> None:
    """Of a Sinch report that names no line, and before anything else does, the default line is no participant."""
    # pulse-sms #406 once more: the own number counted as a member.
    conversation = await shown(engine, sinch_report(line=None), default_line=LINE)

    assert (conversation["participants"], conversation["lines"]) == ([ANN], [LINE])


async def test_an_alias_does_not_go_stale_when_members_change(engine: Engine) -> None:
    """Each message's id leads to the people that it was sent to, also after somebody was added."""
    # corten `guidCacheMatchIsStale`: an alias that outlived a change of members misrouted what came later.
    before, after = (
        telnyx_report(to=[ANN, BOB], group_message_id="g1"),
        telnyx_report(to=[ANN, BOB, CAT], group_message_id="g2"),
    )
    late = [telnyx_report(to=[ANN], group_message_id=name) for name in ("g1", "g2", "g1")]
    old, new, *found = await threads(engine, before, after, *late)

    assert old != new
    assert found == [old, new, old]


async def test_an_alias_lasts_when_the_group_itself_does(engine: Engine) -> None:
    """A handle from before the change of members still leads to the group, whose id is the same."""
    # corten `guidCacheMatchIsStale`.
    sent = sendblue_report(to=[ANN, BOB], message_type="group", group_id="g", handle="H", status="SENT")
    changed = sendblue_received(message_type="group", group_id="g", participants=[ANN, CAT, LINE], after=60)
    keys = await threads(engine, sent, changed, sendblue_report(message_type="group", handle="H", after=120))

    assert distinct(keys) == 1


# --- the rules that these failures buy --------------------------------------------------------------------


@pytest.mark.parametrize("posted", [*map(private, ALL), *(in_group(provider, BOB) for provider in WITH_GROUPS)])
async def test_a_key_is_opaque(engine: Engine, posted: Posted) -> None:
    """Whatever it was derived from, a key is a prefix and 26 characters."""
    # Rule 1. That it be minted and never a hash of participants is not ours: the design stands, keyed hashes.
    [key] = await threads(engine, posted)

    assert re.fullmatch("cv_[a-z2-7]{26}", key)


async def test_a_line_left_out_of_the_participants_is_shown_beside_them(engine: Engine) -> None:
    """Our own numbers are told as lines, so that nothing of what the provider said is lost."""
    # Rule 2: drop own numbers, and record that. The design stands: they are left out of what is shown, not of the set.
    conversation = await shown(engine, telnyx_received(cc=["5555550100", LINE, BOB, party("15555550112")]))

    assert (conversation["participants"], conversation["lines"]) == ([ANN, BOB], [LINE])


@pytest.mark.parametrize("group_first", [True, False])
async def test_one_id_never_moves_anything_between_a_1_to_1_and_a_group(engine: Engine, *, group_first: bool) -> None:
    """A message's id that both a 1:1's and a group's report name leaves both where they are."""
    # Rule 3; mautrix/gmessages #90.
    group, direct = telnyx_report(message="x", group_message_id="x"), telnyx_report(message="x")
    keys = await threads(engine, *([group, direct] if group_first else [direct, group]))
    again = await threads(engine, telnyx_report(message="x", group_message_id="x"), private("telnyx"))

    assert sorted(keys) == sorted(again)
    assert distinct(keys) == 2
    assert await merged(engine) == []


async def test_a_shorter_list_is_the_same_room_with_fewer_people(engine: Engine) -> None:
    """The latest complete list holds, an older one undoes nothing, and an empty or absent one says nothing."""
    # Rule 4 would take a subset for no change; the design stands: a complete list is complete, by the provider's time.
    # That it keeps its room is what the rule was for.
    lists: list[tuple[int, list[str] | None]] = [
        (10, [ANN, BOB, CAT, LINE]),
        (30, [ANN, BOB, LINE]),
        (20, [ANN, BOB, CAT, LINE]),
        (40, []),
        (50, None),
    ]
    told = await published(
        engine,
        *(sendblue_received(message_type="group", group_id="g", participants=people, after=at) for at, people in lists),
    )
    people = [item["data"]["conversation"]["participants"] for item in told]

    assert distinct(item["subject"] for item in told) == 1
    assert people == [[ANN, BOB, CAT], [ANN, BOB], [ANN, BOB], [ANN, BOB], [ANN, BOB]]


async def test_a_merge_is_announced_with_the_old_key_and_the_new(engine: Engine) -> None:
    """Reports that came too early are in a provisional room; the one that names everybody leads it on, and says so."""
    # Rule 6, and (d): others merged silently, or by a migration at the next start (corten-matrix PR #60).
    early = [telnyx_report(to=[who], message="g", group_message_id="g") for who in (ANN, BOB)]
    first, second, group = await threads(engine, *early, telnyx_report(to=[ANN, BOB], group_message_id="g"))

    assert first == second != group
    assert await merged(engine) == [(group, [first])]


async def test_an_old_key_leads_one_way_and_is_announced_once(engine: Engine) -> None:
    """Whatever comes for a merged room later, redeliveries included, goes to the survivor, without another merge."""
    # Rule 6: one-way redirects, idempotent.
    early = telnyx_report(to=[ANN], group_message_id="g", message="m")
    full = telnyx_report(to=[ANN, BOB], group_message_id="g")
    first, group = await threads(engine, early, full)
    redelivered = await engine.commit(*(entry(engine, one) for one in (early, full)))
    late = await threads(
        engine,
        telnyx_report(to=[BOB], group_message_id="g"),
        telnyx_report(group_message_id="m"),
        in_group("telnyx", BOB),
    )

    assert set(redelivered) == {DUPLICATE}
    assert late == [group] * 3
    assert await merged(engine) == [(group, [first])]


async def test_the_same_people_at_another_account_are_another_room_with_the_same_audience(engine: Engine) -> None:
    """Accounts and providers share no conversation; that the people are the same can still be seen."""
    # barcelona #41: the same people by two transports were two chats. That ends at the account; the design stands:
    # accounts merge by a person's link only.
    told = [
        await shown(engine, in_group("telnyx", BOB)),
        await shown(engine, in_group("telnyx", BOB), account="other"),
        await shown(engine, in_group("sendblue", BOB)),
        await shown(engine, telnyx_received(cc=[CAT])),
    ]

    assert distinct(conversation["key"] for conversation in told) == 4
    assert [conversation["audience"] == told[0]["audience"] for conversation in told] == [True, True, True, False]


# --- what others know: our own sends, and people ----------------------------------------------------------


@pytest.mark.parametrize("default_line", [None, LINE_2])
@pytest.mark.parametrize("sent_first", [True, False])
async def test_a_batch_has_its_line_from_the_registered_send(
    engine: Engine, *, sent_first: bool, default_line: Address | None
) -> None:
    """Sinch's reports name batch and recipient; the send that is registered says the line, before or after them."""
    # Chatwoot's rule, the sender alone, again: what the report lacks is known to whoever sent the message.
    # The account is known to register its sends; before the first one, the default line's word is as good as any.
    facts = {"default_line": default_line}
    await registered(engine, sinch_sent(to=[CAT], batch="A"), **facts)
    [direct] = await threads(engine, private("sinch"), **facts)
    report, send = sinch_report(line=None, batch="B", status="Dispatched"), sinch_sent(batch="B")
    if sent_first:
        sent = await registered(engine, send, **facts)
        await threads(engine, report, **facts)
    else:
        await threads(engine, report, **facts)
        sent = await registered(engine, send, **facts)
    late = await threads(engine, sinch_report(line=None, batch="B"), **facts)
    reports = {item["id"]: item["subject"] for item in await told_as(engine, "message.status")}
    leads = {old: new for new, olds in await merged(engine) for old in olds}

    assert sent["subject"] == direct
    assert late == [direct]
    assert {leads.get(key, key) for key in reports.values()} == {direct}


async def test_a_batch_to_many_has_a_thread_for_each_and_one_line_for_all(engine: Engine) -> None:
    """A batch is one message to several people: each report is in the pair of the send's line and its recipient."""
    # FossifyOrg/Messages #168: a group's message as one to each; at Sinch it really is one to each.
    ann, bob = await threads(engine, sinch_received(line=LINE_2), sinch_received(sender=BOB, line=LINE_2))
    [*_] = await engine.commit(entry(engine, sinch_sent(to=[ANN, BOB], line=LINE_2, batch="B"), kind="outbound"))
    reports = await published(engine, *(sinch_report(to=who, line=None, batch="B") for who in (ANN, BOB)))
    rollup = reports[-1]["data"]["rollup"]

    assert [item["subject"] for item in reports] == [ann, bob]
    assert (rollup["recipients"], rollup["delivered"], rollup["settled"]) == (2, 2, True)


async def test_a_registered_send_is_stronger_than_a_report(engine: Engine) -> None:
    """What we say of our own message leads its reports; the group that a report named by that id stays as it is."""
    # corten `guidCacheMatchIsStale`: an alias that a wrong list made must not outlive the truth.
    early = telnyx_report(to=[ANN], message="m", group_message_id="g")
    lost, wrong = await threads(engine, early, telnyx_report(to=[ANN, BOB], group_message_id="g"))
    sent = (await registered(engine, telnyx_sent(to=[ANN, CAT], group_message_id="g")))["subject"]
    late = await threads(engine, telnyx_report(to=[CAT], message="n", group_message_id="g"), in_group("telnyx", BOB))

    assert distinct([lost, wrong, sent]) == 3
    assert late == [sent, wrong]
    assert await merged(engine) == [(wrong, [lost]), (sent, [lost])]


async def test_a_persons_two_numbers_are_one_thread_by_a_persons_word(engine: Engine) -> None:
    """Said once, it holds at every line, those that turn up later included; taken back, each number is alone again."""
    # SimpleMobileTools #715: several numbers of one contact. Never concluded, only told.
    second = Address("+15555550119")
    posted = [private("telnyx"), private("telnyx", second)]
    elsewhere = [telnyx_received(sender=who, to=[LINE_2]) for who in (ANN, second)]
    before = await threads(engine, *posted)
    await linked(engine, "telnyx", tie=(ANN, second))
    after = await threads(engine, private("telnyx"), private("telnyx", second))
    turned_up = await threads(engine, *elsewhere)
    again = await threads(engine, *(telnyx_received(sender=who, to=[LINE_2]) for who in (ANN, second)))
    announced = await merged(engine)
    await linked(engine, "telnyx", undone=True, tie=(ANN, second))
    at_last = await threads(engine, private("telnyx"), private("telnyx", second))

    assert distinct(before) == 2
    assert after == [min(before)] * 2
    assert distinct(again) == 1
    assert again[0] in turned_up
    assert again[0] not in before
    assert announced[0] == (min(before), [max(before)])
    assert at_last == before


async def test_a_group_that_was_upgraded_is_one_room_by_a_persons_word(engine: Engine) -> None:
    """Two ids of one group, or a list and an id: who knows links them, old keys are told where to go, and back."""
    # mautrix/gmessages #89, where the maintainer wants such a map.
    without = [sendblue_received(message_type="group", participants=[ANN, BOB, LINE]) for _ in range(3)]
    old, new = await threads(engine, without[0], in_group("sendblue", BOB))
    await linked(engine, "sendblue", link=(old, new))
    together = await threads(engine, without[1], in_group("sendblue", BOB))
    people = (await engine.shown())["participants"]
    await linked(engine, "sendblue", undone=True, link=(old, new))
    apart = await threads(engine, without[2], in_group("sendblue", BOB))

    assert together == [new, new]
    assert people == [ANN, BOB]
    assert (await merged(engine))[0] == (new, [old])
    assert apart == [old, new]


async def test_a_persons_word_joins_no_1_to_1_and_group(engine: Engine) -> None:
    """Whatever is said of them, a direct conversation and a group stay two."""
    # hermes-agent #45717 by hand.
    direct, group = await threads(engine, private("sendblue"), in_group("sendblue", BOB))
    await linked(engine, "sendblue", link=(direct, group))
    keys = await threads(engine, private("sendblue"), in_group("sendblue", BOB))

    assert keys == [direct, group]
    assert await merged(engine) == []


@pytest.mark.parametrize("order", [*permutations(range(3))])
async def test_phone_and_user_id_seen_together_are_one_thread(engine: Engine, order: tuple[int, ...]) -> None:
    """WhatsApp's user by phone, by user id, and by both: in every order one thread, the user id's, shown by phone."""
    # barcelona #41: two ids of one person were two chats.
    told = (
        whatsapp_received(),
        whatsapp_received(sender=None, user_id="US.1001"),
        whatsapp_received(user_id="US.1001"),
    )
    await threads(engine, *(told[number] for number in order))
    late = await threads(engine, whatsapp_received(), whatsapp_received(sender=None, user_id="US.1001"))
    by_id = (await threads(engine, whatsapp_received(user_id="US.1001")))[0]
    leads = {old: new for new, olds in await merged(engine) for old in olds}
    received = [item["subject"] for item in await told_as(engine, "message.received")]

    assert set(late) == {by_id}
    assert {leads.get(key, key) for key in received} == {by_id}
    assert (await engine.shown())["participants"] == [ANN]


async def test_a_recycled_phone_joins_nobody(engine: Engine) -> None:
    """A phone that is then seen with somebody else's user id keeps what it had, and alone it says nothing any more."""
    # The worst that "several addresses are one person" can do: hermes-agent #45717 with a new owner of the number.
    first, by_phone, second, lost = await published(
        engine,
        whatsapp_received(user_id="US.1001"),
        whatsapp_received(),
        whatsapp_received(user_id="US.2001"),
        whatsapp_received(),
    )

    assert by_phone["subject"] == first["subject"] != second["subject"]
    assert lost["subject"] not in (first["subject"], second["subject"])
    assert lost["data"]["conversation"]["provisional"] is True
    assert lost["data"]["conversation"]["kind"] == "direct"


async def test_who_came_and_went_is_announced_where_only_lists_tell_it(engine: Engine) -> None:
    """Sendblue has no callback for it: a later list that differs is an event of its own before the message."""
    # Rule 4 of the peers: announce joins and leaves; mautrix/gmessages #90 on members that roll.
    rosters = [[ANN, BOB, LINE], [ANN, BOB, LINE], [ANN, BOB, CAT, LINE], [ANN, CAT, LINE]]
    told = await published(
        engine,
        *(
            sendblue_received(message_type="group", group_id="g", participants=roster, after=at)
            for at, roster in enumerate(rosters)
        ),
    )
    changes = await told_as(engine, "conversation.members")

    assert [change["id"] for change in changes] == [item["id"] + "#members" for item in told[2:]]
    assert [change["data"]["members"] for change in changes] == [
        {"added": [CAT], "removed": [], "after": [ANN, BOB, CAT]},
        {"added": [], "removed": [BOB], "after": [ANN, CAT]},
    ]
    assert [int(change["sequence"]) + 1 for change in changes] == [int(item["sequence"]) for item in told[2:]]


async def test_a_late_list_announces_nobody(engine: Engine) -> None:
    """A list that is older than the one known changes nobody, so nothing is told."""
    # Rule 4 of the peers, and the order of arrival.
    rosters = [(10, [ANN, BOB, LINE]), (5, [ANN, BOB, CAT, LINE]), (10, [ANN, BOB, LINE])]
    for at, roster in rosters:
        await published(engine, sendblue_received(message_type="group", group_id="g", participants=roster, after=at))

    assert await told_as(engine, "conversation.members") == []


@pytest.mark.parametrize("window", [10.0, 0.0])
async def test_the_copy_that_another_line_of_ours_was_told_is_marked(engine: Engine, window: float) -> None:
    """Two own lines in one group get a callback each of one message: the second names the first, if settings say so."""
    # Rule 5 of the peers, one message with several receipts: both are published, and the copy says so.
    posted = [
        telnyx_received(to=[LINE], cc=[BOB, LINE_2]),
        telnyx_received(to=[LINE_2], cc=[BOB, LINE]),
        telnyx_received(to=[LINE], cc=[BOB, LINE_2]),
        telnyx_received(sender=BOB, to=[LINE_2], cc=[ANN, LINE]),
    ]
    told = await published(engine, *posted, lines=(LINE, LINE_2), copy_window_seconds=window)
    copies = [item["data"].get("copy_of") for item in told]

    assert distinct(item["subject"] for item in told) == 1
    assert copies == [None, told[0]["id"] if window else None, None, None]


async def test_the_same_words_to_two_lines_in_private_are_two_messages(engine: Engine) -> None:
    """What somebody writes to each line alone is no copy: these are two conversations."""
    # Rule 5 of the peers, not carried too far.
    told = await published(engine, private("telnyx"), telnyx_received(to=[LINE_2]), lines=(LINE, LINE_2))

    assert distinct(item["subject"] for item in told) == 2
    assert [item["data"].get("copy_of") for item in told] == [None, None]


# --- first messages at the same time ----------------------------------------------------------------------


def album(provider: str, size: int) -> list[Posted]:
    """The first messages of a group, all at once, from both of its people in turn."""
    return [in_group(provider, BOB, (ANN, BOB)[number % 2]) for number in range(size)]


def is_rising(sequences: list[str]) -> bool:
    """Whether each is greater than the one before: no number is used twice."""
    return all(one < next_one for one, next_one in pairwise(sequences))


@pytest.mark.parametrize("provider", WITH_GROUPS)
async def test_first_messages_at_the_same_time_are_one_room(engine: Engine, provider: str) -> None:
    """Forty first messages of a group in one batch, more than one script call takes, open one room."""
    # chatwoot #13359: an album of pictures became several conversations.
    entries = [entry(engine, posted) for posted in album(provider, 40)]
    await engine.commit(*entries)
    told = await stream(engine, *entries)

    assert distinct(item["subject"] for item in told) == 1
    assert is_rising([item["sequence"] for item in told])


@pytest.mark.parametrize("provider", WITH_GROUPS)
async def test_first_messages_in_two_batches_are_one_room(engine: Engine, provider: str) -> None:
    """Half of them in one batch and half in the next open one room."""
    # chatwoot #13359.
    entries = [entry(engine, posted) for posted in album(provider, 10)]
    await engine.commit(*entries[:5])
    await engine.commit(*entries[5:])
    told = await stream(engine, *entries)

    assert distinct(item["subject"] for item in told) == 1
    assert is_rising([item["sequence"] for item in told])


async def test_first_messages_of_many_rooms_at_the_same_time_stay_apart(engine: Engine) -> None:
    """One batch with the first messages of groups and 1:1s of the same people puts each where it belongs."""
    # chatwoot #13359, hermes-agent #45717.
    posted = [
        make for _ in range(3) for make in (*map(private, ALL), *(in_group(provider, BOB) for provider in WITH_GROUPS))
    ]
    entries = [entry(engine, one) for one in posted]
    await engine.commit(*entries)
    keys = [item["subject"] for item in await stream(engine, *entries)]

    assert keys == keys[:7] * 3
    assert distinct(keys) == 7

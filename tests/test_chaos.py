"""The chaos harness itself: that its judge finds what is wrong, and that a scenario runs."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from receiver.parsing import parse
from receiver.providers import PROVIDERS as READERS
from schemas.events import Event, Unreadable
from tests.chaos.facts import PROVIDERS, SPOILT, Fact, body, people
from tests.chaos.faults import FAULTS
from tests.chaos.habits import FASTER, pause_before
from tests.chaos.judge import Letter, Seen, Verdict, judge
from tests.chaos.kills import kills
from tests.chaos.ledger import Attempt, Ledger, Told
from tests.chaos.scenario import Size, run
from tests.chaos.scenario import Told as Outcome
from tests.engine import NOW, capture


def ledger(*attempts: tuple[int, float, float, int], spoilt: Sequence[int] = ()) -> Ledger:
    """What a sender noted: facts by number, when each attempt was sent, when it ended, and its status."""
    encode = msgspec.json.Encoder().encode
    numbers = dict.fromkeys(number for number, *_ in attempts)
    told = [
        Told(number, f"fact-{number}", f"fact-{number}", "telnyx", number % 2, "cut off" if number in spoilt else "")
        for number in numbers
    ]
    return Ledger([*map(encode, told), *(encode(Attempt(*each)) for each in attempts)])


def stream(*events: str) -> list[Seen]:
    """Events as `fact-<number>`, each in the conversation of its number, counted."""
    counts = {0: 0, 1: 0}
    seen = []
    for name in events:
        conversation = int(name.partition("#")[0].removeprefix("fact-")) % 2
        counts[conversation] += 1
        seen.append(Seen(name, f"cv_{conversation}", f"{counts[conversation]:016}"))
    return seen


ANSWERED = ledger((1, 1.0, 1.1, 200), (2, 2.0, 2.1, 200), (3, 3.0, 3.1, 200))


def said(verdict: Verdict) -> list[tuple[str, list[str]]]:
    """What is wrong, and with whom."""
    return [(offence.what, offence.ids) for offence in verdict.offences]


# --- the judge --------------------------------------------------------------------------------------------


def test_all_that_was_answered_in_its_order_is_as_it_should_be() -> None:
    """Each fact once; what follows from a fact, right before it, is no fact of its own."""
    assert said(judge(ANSWERED, stream("fact-1", "fact-2#members", "fact-2", "fact-3"))) == []


@pytest.mark.parametrize(
    ("events", "offence"),
    [
        pytest.param(["fact-1", "fact-3"], ("answered 200 and not in the stream", ["fact-2"]), id="missing"),
        pytest.param(
            ["fact-1", "fact-2", "fact-2", "fact-3"], ("in the stream more than once", ["fact-2"]), id="doubled"
        ),
        pytest.param(
            ["fact-2", "fact-1", "fact-3"], ("before what was answered earlier", ["fact-1"]), id="out of order"
        ),
        pytest.param(
            ["fact-1", "fact-2", "fact-3", "fact-4"], ("of no fact that was posted", ["fact-4"]), id="from nowhere"
        ),
    ],
)
def test_what_is_wrong_with_a_stream_is_named(events: list[str], offence: tuple[str, list[str]]) -> None:
    """By kind, and by the ids of the offenders."""
    assert said(judge(ANSWERED, stream(*events))) == [offence]


def test_facts_under_way_at_once_may_stand_in_any_order() -> None:
    """Only a fact that was answered before another was first posted must stand before it."""
    together = ledger((1, 1.0, 2.0, 200), (2, 1.5, 2.5, 200))

    assert said(judge(together, stream("fact-2", "fact-1"))) == []


def test_order_counts_from_the_first_attempt() -> None:
    """A callback whose answer was lost may have been captured then, long before it was answered."""
    lost = ledger((1, 1.0, 1.5, 0), (2, 2.0, 2.1, 200), (1, 3.0, 3.1, 200))

    assert said(judge(lost, stream("fact-1", "fact-2"))) == []
    assert said(judge(lost, stream("fact-2", "fact-1"))) == []


def test_what_was_never_answered_may_be_there_once_or_not() -> None:
    """A connection that broke says nothing of what became of the callback."""
    broken = ledger((1, 1.0, 1.1, 0), (2, 2.0, 2.1, 503))

    assert said(judge(broken, stream())) == []
    assert said(judge(broken, stream("fact-1"))) == []
    assert said(judge(broken, stream("fact-1", "fact-1"))) == [("in the stream more than once", ["fact-1"])]


@pytest.mark.parametrize("sequences", [(1, 3), (1, 1), (2, 3)], ids=["a gap", "a repeat", "a late beginning"])
def test_sequences_count_from_one(sequences: tuple[int, int]) -> None:
    """A subject whose events do not count 1, 2, 3 … is named."""
    seen = [Seen(f"fact-{2 * at + 1}", "cv_1", f"{number:016}") for at, number in enumerate(sequences)]
    answered = ledger((1, 1.0, 1.1, 200), (3, 2.0, 2.1, 200))

    assert said(judge(answered, seen)) == [("subjects whose sequence has a gap or a repeat", ["cv_1"])]


def test_conversations_are_neither_merged_nor_split() -> None:
    """A subject of two conversations is named, and a conversation with two subjects."""
    merged = [Seen(f"fact-{number}", "cv_1", f"{number:016}") for number in (1, 2, 3)]
    split = [Seen(f"fact-{number}", f"cv_{number}", "1".zfill(16)) for number in (1, 2, 3)]
    what = "conversations and subjects that are not one and the same"

    assert said(judge(ANSWERED, merged)) == [(what, ["cv_1"])]
    assert said(judge(ANSWERED, split)) == [(what, ["telnyx 1"])]


@pytest.mark.parametrize(
    ("letters", "offences"),
    [
        pytest.param([("fact-2", "unreadable")], [], id="its own"),
        pytest.param([("fact-2", "unreadable")] * 2, [], id="one for each redelivery"),
        pytest.param([], [("unreadable callbacks without a dead letter of their own", ["fact-2"])], id="none"),
        pytest.param(
            [("fact-2", "damaged")],
            [("dead letters that give another reason", ["fact-2 {'damaged'}"])],
            id="for another reason",
        ),
        pytest.param(
            [("fact-2", "unreadable"), ("fact-1", "unreadable")],
            [("dead letters of good callbacks", ["fact-1 {'unreadable'}"])],
            id="of a good one as well",
        ),
    ],
)
def test_dead_letters_are_of_what_cannot_be_read(
    letters: list[tuple[str, str]], offences: list[tuple[str, list[str]]]
) -> None:
    """Each unreadable callback has one with its reason, and no other has one."""
    posted = ledger((1, 1.0, 1.1, 200), (2, 2.0, 2.1, 200), spoilt=[2])

    assert said(judge(posted, stream("fact-1"), [Letter(*each) for each in letters])) == offences


# --- what is posted, and again ----------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_fact_has_the_event_id_that_is_expected(provider: str) -> None:
    """Read by its provider, however often it was posted, it is the one event of that id."""
    fact = Fact("fact-1", provider, 3, NOW)
    read = [
        parse(capture(provider=provider, account=f"main-{provider}", body=body(fact, attempt)), READERS[provider])
        for attempt in (1, 2)
    ]

    assert [[event.id for event in events if isinstance(event, Event)] for events in read] == [[fact.event_id]] * 2


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("how", [how for how, spoilt in SPOILT.items() if spoilt.reason == "unreadable"])
def test_a_spoilt_callback_cannot_be_read(provider: str, how: str) -> None:
    """It is one dead letter with the reason that the judge expects, and its fact can be told from its body."""
    content = body(Fact("fact-1", provider, 3, NOW, how), 1)
    [read] = parse(capture(provider=provider, account=f"main-{provider}", body=content), READERS[provider])

    assert isinstance(read, Unreadable)
    assert read.reason == SPOILT[how].reason
    assert b"fact-1" in content


def test_no_two_conversations_have_the_same_people() -> None:
    """Neither the same three nor the same first, so that no provider can take one for the other."""
    everybody = [people(number) for number in range(60)]

    assert len(set(everybody)) == len({first for first, *_ in everybody}) == 60


@pytest.mark.parametrize(
    ("provider", "attempts", "status", "seconds"),
    [
        pytest.param("telnyx", 1, 0, 2, id="Telnyx after a time-out"),
        pytest.param("telnyx", 5, 401, 32, id="Telnyx retries refusals too"),
        pytest.param("telnyx", 6, 503, None, id="Telnyx gives up after six attempts"),
        pytest.param("sendblue", 4, 503, None, id="Sendblue after four"),
        pytest.param("sinch", 1, 503, 5, id="Sinch after five seconds"),
        pytest.param("sinch", 3, 429, 20, id="Sinch, doubling, when told that it is too much"),
        pytest.param("sinch", 1, 404, None, id="Sinch takes 4xx as final"),
        pytest.param("sinch", 15, 503, 81_920, id="Sinch at last after 81,920 s"),
        pytest.param("sinch", 16, 503, None, id="Sinch gives up then"),
        pytest.param("whatsapp", 1, 500, 0, id="WhatsApp at once"),
        pytest.param("whatsapp", 2, 404, 10, id="WhatsApp, growing, whatever the status"),
    ],
)
def test_providers_redeliver_as_they_document(provider: str, attempts: int, status: int, seconds: float | None) -> None:
    """So many seconds after so many attempts, made faster by the stated factor."""
    expected = None if seconds is None else seconds / FASTER

    assert pause_before(provider, attempts, status) == expected


# --- a scenario -------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_scenario_runs() -> None:
    """A small one, with everything that the large ones have: kills under load, a sender, a verdict in a line."""
    ran = await run("kills", kills, Size(rate=40, seconds=3, kills=2, seed=3))

    assert ran.result == "ok", str(ran)
    assert "missing 0, doubled 0, out of order 0" in ran.lines[0]


def test_a_rate_that_is_not_reached_has_failed() -> None:
    """What the machine does not do without a fault is said, and is a failure."""
    told = Outcome("nothing", ANSWERED, judge(ANSWERED, stream("fact-1", "fact-2", "fact-3")), calm_rate=499.4)
    told.must_reach(499.4)
    assert told.wrong == []

    told.must_reach(500)
    assert told.wrong == ["only 499 a second were answered without a fault"]


async def test_the_program_knows_its_faults() -> None:
    """It lists them, each with a sentence, and refuses others."""
    listed, refused = [await _program(*arguments) for arguments in (("--list",), ("meteorite",))]

    assert listed[0] == 0
    assert [line.split()[0] for line in listed[1].splitlines()] == [*FAULTS]
    assert all(scenario.__doc__ for scenario in FAULTS.values())
    assert refused[0] == 2
    assert "no fault is called meteorite; there are kills, " in refused[1]


async def _program(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos",
        *arguments,
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()

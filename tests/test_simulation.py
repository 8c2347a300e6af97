"""Simulated traffic, judged: a small run, and proof that the judge can find fault."""

from collections import Counter

import pytest
from redis.asyncio import Redis

from schemas.keyspace import Keyspace
from tests.simulation.judge import Judge, Verdict
from tests.simulation.report import report
from tests.simulation.run import Result, Settings, simulate, traffic
from tests.simulation.truth import PHONE_IN_DOUBT, REGISTRATION_LOST, Label, Oracle, Send, Sighting

CALLBACKS = 5000
LINE, BOB_PHONE = "555000000000001", "+15555550112"
ANN_ID, BOB_ID = "US.0000000000000111", "US.0000000000000112"

HIKERS = Label(("main", "set", "+15555550100", "+15555550111", "+15555550112"))
ANN = Label(("main", "set", "+15555550100", "+15555550111"))


def lost(truth: Label = HIKERS) -> Label:
    """A report on a message whose send nobody registered."""
    return Label(truth.truth, REGISTRATION_LOST, Send())


def judged(*published: tuple[Label, str], provisional: str = "", merged: tuple[str, str] | None = None) -> Verdict:
    """The verdict on facts under their subjects, of which one is provisional, and one may have merged into another."""
    judge = Judge(Oracle())
    for label, subject in published:
        judge.published(label, subject)
        judge.shown(subject, provisional=subject == provisional)
    if merged is not None:
        judge.merged(merged[1], [merged[0]])
    return judge.verdict()


# --- the run ----------------------------------------------------------------------------------------------


RUNS = {
    "everything": Settings(CALLBACKS),
    "another seed": Settings(CALLBACKS, seed=8),
    "nothing registered": Settings(CALLBACKS, registrations=False),
    "phones only": Settings(CALLBACKS, user_ids=False),
    "neither": Settings(CALLBACKS, registrations=False, user_ids=False),
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
async def test_traffic_ends_where_it_belongs(redis: Redis, keyspace: Keyspace, settings: Settings) -> None:
    """Of some thousand callbacks none is merged wrongly, none split off, and none lost."""
    result = await simulate(redis, settings, keyspace)

    assert result.verdict.right, "\n".join(report(settings, result))
    assert result.verdict.facts > CALLBACKS
    assert min(result.callbacks[name] for name in ("telnyx", "sendblue", "sinch", "whatsapp")) > CALLBACKS / 20


def test_traffic_is_the_same_again_for_a_seed() -> None:
    """A seed gives the same bytes in the same order; another seed gives others."""
    first, again, other = (
        [(delivery.at, delivery.body) for delivery in traffic(Settings(500, seed), Oracle())] for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_traffic_comes_in_the_order_of_receipt() -> None:
    """No delivery is older than the one before, and some are repeated."""
    deliveries = list(traffic(Settings(2000), Oracle()))
    times = [delivery.at for delivery in deliveries]

    assert times == sorted(times)
    assert any(delivery.repeated for delivery in deliveries)


# --- the judge --------------------------------------------------------------------------------------------


def test_two_conversations_under_one_key_are_a_wrong_merge() -> None:
    """A key that holds a group's fact and a 1:1's is one wrong merge, told without a whole number."""
    verdict = judged((HIKERS, "cv_a"), (ANN, "cv_a"))

    assert (verdict.wrong_merges, verdict.splits, verdict.right) == (1, 0, False)
    assert "+15555550111" not in "".join(verdict.offenders)
    assert "cv_a" in verdict.offenders[0]


def test_a_redirect_can_make_a_wrong_merge() -> None:
    """Two keys that are each right become wrong when one is said to resolve to the other."""
    verdict = judged((HIKERS, "cv_a"), (ANN, "cv_b"), merged=("cv_a", "cv_b"))

    assert verdict.wrong_merges == 1


def test_one_conversation_under_two_keys_is_a_split() -> None:
    """Two facts that evidence determines to be of one group, under two keys, are one split."""
    verdict = judged((HIKERS, "cv_a"), (HIKERS, "cv_b"))

    assert (verdict.wrong_merges, verdict.splits, verdict.right) == (0, 1, False)


def test_a_merge_heals_a_split() -> None:
    """Once one key is said to resolve to the other, nothing is wrong any more."""
    verdict = judged((HIKERS, "cv_a"), (HIKERS, "cv_b"), merged=("cv_a", "cv_b"))

    assert verdict.right


def test_what_nothing_determines_stays_provisional_with_its_reason() -> None:
    """A report whose send was never registered may be on its own, as long as it is provisional."""
    verdict = judged((HIKERS, "cv_a"), (lost(), "cv_b"), provisional="cv_b")

    assert verdict.right
    assert verdict.provisional == Counter({("main", REGISTRATION_LOST): 1})


def test_what_nothing_determines_must_not_become_a_conversation() -> None:
    """The same report in a conversation of its own that claims to be settled is astray."""
    verdict = judged((HIKERS, "cv_a"), (lost(), "cv_b"))

    assert (verdict.astray, verdict.right) == (1, False)


def test_what_is_determined_must_not_stay_provisional() -> None:
    """A fact that names its whole group under a provisional key is left open."""
    verdict = judged((HIKERS, "cv_a"), provisional="cv_a")

    assert (verdict.left_open, verdict.right) == (1, False)


def test_a_phone_seen_with_a_second_user_id_is_in_doubt_from_then() -> None:
    """Bob's phone alone is Bob's before Ann's id is seen with it, and nobody's after."""
    oracle = Oracle()
    shown = [(BOB_PHONE, BOB_ID), (BOB_PHONE, None), (BOB_PHONE, ANN_ID), (BOB_PHONE, None), (None, BOB_ID)]
    sightings = [Sighting("wa", LINE, phone, user_id) for phone, user_id in shown]
    for sighting in sightings:
        oracle.observe(sighting, None)
    oracle.settle()
    labels = [Label(("wa", "direct", LINE, "somebody"), PHONE_IN_DOUBT, None, sighting) for sighting in sightings]

    bob, bobs_phone, ann, anybodys_phone, bob_again = [oracle.expected(label)[0] for label in labels]

    assert bob == bobs_phone == bob_again
    assert ann not in {bob, None}
    assert anybodys_phone is None


def test_an_update_of_the_user_id_lifts_the_doubt_whenever_it_comes() -> None:
    """The same history with a late update from Bob's id to Ann's is one person's throughout."""
    oracle = Oracle()
    shown = [(BOB_PHONE, BOB_ID), (BOB_PHONE, ANN_ID), (BOB_PHONE, None)]
    sightings = [Sighting("wa", LINE, phone, user_id) for phone, user_id in shown]
    for sighting in (*sightings, Sighting("wa", LINE, None, ANN_ID, ((BOB_ID, ANN_ID),))):
        oracle.observe(sighting, None)
    oracle.settle()
    labels = [Label(("wa", "direct", LINE, "somebody"), PHONE_IN_DOUBT, None, sighting) for sighting in sightings]

    assert len({oracle.expected(label)[0] for label in labels} - {None}) == 1


# --- the report -------------------------------------------------------------------------------------------


def test_the_report_names_what_is_wrong_and_what_stayed_open() -> None:
    """Both numbers stand in it, whatever they are, and each reason with its count."""
    verdict = judged((HIKERS, "cv_a"), (ANN, "cv_a"), (lost(), "cv_b"), provisional="cv_b")
    result = Result(verdict, Counter(telnyx=3), Counter(telnyx=3), Counter(), Counter(), 1.0)

    lines = list(report(Settings(3), result))

    assert "wrong merges: 1" in lines
    assert "splits: 0" in lines
    assert any(line.endswith(f"1  main: {REGISTRATION_LOST}") for line in lines)

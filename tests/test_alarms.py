"""Every alert is raised by a real fault: receivers, Redis and Prometheus as processes, the rules quickened.

All faults of `tests/alarms/` are done at once, which takes a minute; each is judged by a test of its own. `make alarms`
does the same with the rules as they are shipped. No alert had to be left out: each is brought about by a fault that it
is for. Of PartylineAnswers503 two outcomes are; the third, `error`, is a mistake of ours that nobody knows of.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alarms.faults import FAULTS
from tests.alarms.prometheus import Jobs, running_prometheus
from tests.alarms.rules import NUMBERS, UnknownNumber, expression, quickened, shortened
from tests.alarms.run import RULES, Outcome, perform, rules
from tests.alarms.scene import LOOKING_BACK, Pace
from tests.programs import program

#: A minute is two seconds.
FACTOR = 30
SHIPPED: dict[str, Any] = yaml.safe_load(RULES.read_text())
BY_NAME = {rule["alert"]: rule for group in SHIPPED["groups"] for rule in group["rules"]}
#: All faults are done when the first of these tests runs.
A_WHILE = pytest.mark.timeout(300)


# --- the rules, quickened ---------------------------------------------------------------------------------


def test_divided_by_one_the_rules_are_those_that_are_shipped() -> None:
    """Taking them apart and putting them together again changes nothing."""
    assert quickened(SHIPPED, 1) == SHIPPED


def _taken_apart(rule: dict[str, Any], factor: int) -> tuple[str, list[int]]:
    """A rule with a hole for each duration, and those in seconds, multiplied by the factor; read by other means."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    text = f"{rule['expr']} for {rule.get('for')}"
    found = [int(count) * units[unit] * factor for count, unit in re.findall(r"\b(\d+)([dhms])\b", text)]
    text = re.sub(r"\b\d+[dhms]\b", "…", text)
    for number in re.findall(r"(\d+)s", NUMBERS[rule["alert"]]):
        text, count = re.subn(rf"(?<=[ ,]){int(number) // factor}\b", number, text)
        assert count == 1
    return text, found


@pytest.mark.parametrize("alert", BY_NAME)
def test_nothing_but_durations_is_quickened(alert: str) -> None:
    """With every duration multiplied by the factor again, a quickened rule is the shipped one."""
    quick = {rule["alert"]: rule for group in quickened(SHIPPED, FACTOR)["groups"] for rule in group["rules"]}[alert]
    shipped = BY_NAME[alert]

    assert _taken_apart(quick, FACTOR) == _taken_apart(shipped, 1)
    assert {**quick, "expr": "", "for": ""} == {**shipped, "expr": "", "for": ""}


@pytest.mark.parametrize(
    ("duration", "factor", "expected"),
    [("5m", 1, "5m"), ("5m", 30, "10s"), ("1d", 30, "48m"), ("1h30m", 1, "90m"), ("1m", 40, "1500ms")],
)
def test_a_duration_is_divided(duration: str, factor: int, expected: str) -> None:
    """What comes out is written in the largest unit in which it is whole."""
    assert shortened(duration, factor) == expected


def test_seconds_are_divided_and_other_numbers_are_not() -> None:
    """A number without a unit is seconds only where NUMBERS says so; texts, comments and names are left alone."""
    text = '# after 300 s\nx5{le="60"}[10m] offset 5m > 0.5 or predict_linear(y[5m], 3600) > 3 * 2d'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.alarms.rules.NUMBERS", {"Made": "0.5 3600s 3"})

        assert expression("Made", text, 60) == (
            '# after 300 s\nx5{le="60"}[10s] offset 5s > 0.5 or predict_linear(y[5s], 60) > 3 * 48m'
        )


def test_a_number_that_nobody_told_of_is_refused() -> None:
    """A rule that gets another threshold, or is new, must say whether that is a duration."""
    with pytest.raises(UnknownNumber, match=r"PartylineSpoolOld has the numbers \['200'\]: say in NUMBERS"):
        expression("PartylineSpoolOld", "partyline_spool_oldest_seconds > 200", FACTOR)


def test_every_rule_has_its_numbers_told_and_no_other() -> None:
    """The table is of the rules that there are."""
    assert set(NUMBERS) == set(BY_NAME)


# --- the faults -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def outcome() -> Outcome:
    """What came of all faults, done once for all tests of this module."""
    program("prometheus")
    return await perform(FAULTS, Pace(FACTOR))


def test_every_alert_has_a_fault_that_raises_it() -> None:
    """And there is no fault for an alert that is no more; what is mended is waited for by alerts that there are."""
    raised = {alert.partition("{")[0] for fault in FAULTS.values() for alert in fault.raises}

    assert raised == set(BY_NAME) >= LOOKING_BACK


@A_WHILE
@pytest.mark.slow
def test_no_alert_stands_while_nothing_is_wrong(outcome: Outcome) -> None:
    """Receivers that have started and are scraped raise nothing."""
    assert outcome.before == {}


@A_WHILE
@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_its_alerts_and_no_other(outcome: Outcome, name: str) -> None:
    """All that it is to raise stood while it lasted, with the labels that tell where; nothing else ever did."""
    raised, fault = outcome.raised(name), FAULTS[name]

    assert raised >= fault.raises
    assert raised - fault.allows(Pace(FACTOR)) == set()


@A_WHILE
@pytest.mark.slow
def test_nothing_stands_beside_the_faults(outcome: Outcome) -> None:
    """Each alert belongs to the receivers of some fault."""
    assert outcome.beside(FAULTS) == set()


@A_WHILE
@pytest.mark.slow
def test_alerts_are_out_once_the_faults_are_mended(outcome: Outcome) -> None:
    """But for those that look back at counters for minutes."""
    assert outcome.left == set()


@A_WHILE
@pytest.mark.slow
def test_what_an_alert_says_has_no_hole(outcome: Outcome) -> None:
    """Each label that its summary names is there, and no number is longer than a person reads."""
    holes = [
        each.summary
        for each in outcome.told
        for label in re.findall(r"\$labels\.(\w+)", BY_NAME[each.labels["alertname"]]["annotations"]["summary"])
        if not each.labels.get(label)
    ]

    assert len(outcome.told) >= len(BY_NAME)
    assert holes == []
    assert [each.summary for each in outcome.told if re.search(r"no value|\d\.\d{4}|\{\{", each.summary)] == []


@pytest.mark.slow
async def test_that_nobody_is_scraped_is_an_alert(folder: Path) -> None:
    """Once the last receiver is gone from its configuration, Prometheus says that it knows of none."""
    async with running_prometheus(folder / "p", rules(Pace(FACTOR)), Jobs({}, 1.0)) as prometheus:
        async with asyncio.timeout(30):
            while not (standing := await prometheus.standing()):  # noqa: ASYNC110 - Prometheus is asked
                await asyncio.sleep(0.2)

    assert [(each.name, each.summary) for each in standing] == [
        ("PartylineDown{}", "Prometheus knows of no partyline at all")
    ]

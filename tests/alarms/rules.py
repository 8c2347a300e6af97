"""The alert rules, quickened: every duration in them divided by one factor, and nothing else changed. Pure.

A duration has a unit (`[5m]`, `offset 5m`, `for: 2m`). A number without one may mean seconds too: which of a rule's do
stands in `NUMBERS`, and a rule with a number that does not stand there is refused.
"""

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

#: The numbers without a unit in each rule's expression, in order; those that mean seconds have an `s`.
#: The seconds of PartylineAnswersSlow are a provider's patience, which nothing quickens.
NUMBERS: Mapping[str, str] = {
    "PartylineDown": "0",
    "PartylineNotReady": "0",
    "PartylineAnswers503": "0",
    "PartylineAnswersSlow": "0.99 1",
    "PartylineRedisAway": "0 0",
    "PartylineSpoolUnusable": "0",
    "PartylineSpoolFilling": "0.5 3600s 0",
    "PartylineSpoolOld": "300s",
    "PartylineReplicasMissing": "",
    "PartylineNobodyPublishes": "1",
    "PartylineTwoPublish": "1",
    "PartylineLagging": "1 60s 0",
    "PartylineStalled": "0 0 0",
    "PartylineDeadLetters": "0",
    "PartylineQuarantineGrowing": "0",
    "PartylineSignatureMismatches": "5 0.05",
    "PartylineSourcesRefused": "5 0.05",
    "PartylineStaleSignatures": "3",
    "PartylineRefusalsJumped": "0.05 3",
}

_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(\d+)(ms|[smhdw])")
_TOKEN = re.compile(
    r"""(?P<passed>\#[^\n]*|"[^"]*"|[A-Za-z_:][\w:]*)   # a comment, a text, a name
      | (?P<duration>(?:\d+(?:ms|[smhdw]))+\b)
      | (?P<number>\d+(?:\.\d+)?)""",
    re.VERBOSE,
)


class UnknownNumber(Exception):
    """A rule's numbers are not those that NUMBERS has."""


def quickened(document: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """The rules of an alerts.yaml, so many times as quick. Raises UnknownNumber."""
    groups = [{**group, "rules": [_rule(rule, factor) for rule in group["rules"]]} for group in document["groups"]]
    return {**document, "groups": groups}


def _rule(rule: Mapping[str, Any], factor: int) -> dict[str, Any]:
    waits = {"for": shortened(rule["for"], factor)} if "for" in rule else {}
    return {**rule, "expr": expression(rule["alert"], rule["expr"], factor), **waits}


def expression(alert: str, text: str, factor: int) -> str:
    """The expression of an alert, so many times as quick."""
    known = NUMBERS.get(alert, "").split()
    found = [token["number"] for token in _TOKEN.finditer(text) if token["number"]]
    if found != [number.removesuffix("s") for number in known]:
        raise UnknownNumber(f"{alert} has the numbers {found}: say in NUMBERS which of them are seconds")
    numbers = iter(known)
    return _TOKEN.sub(lambda token: _token(token, numbers, factor), text)


def _token(token: re.Match[str], numbers: Iterator[str], factor: int) -> str:
    if token["duration"]:
        return shortened(token["duration"], factor)
    if token["number"] and (number := next(numbers)).endswith("s"):
        return f"{Fraction(number.removesuffix('s')) / factor}"
    return token[0]


def shortened(duration: str, factor: int) -> str:
    """A duration of Prometheus' divided by a factor, in the largest unit in which it is whole; rounded up to ms."""
    total = sum(int(count) * _MILLISECONDS[unit] for count, unit in _DURATION.findall(duration))
    milliseconds = -(-total // factor)
    unit = next(unit for unit, size in _MILLISECONDS.items() if milliseconds % size == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"

"""Alerts, dashboard and runbook: each asks for metrics that are there, and each alert has a page for 3 a.m."""

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from receiver import metrics
from receiver.answers import METHOD_NOT_ALLOWED, NOT_FOUND, UNFORESEEN
from receiver.operations import OPERATIONS
from receiver.probing import Probed
from schemas.errors import AuthenticationError
from tests.programs import program
from tests.test_deploy import DEPLOY
from tests.test_documents import blocks, prose, slug

TESTS = Path(__file__).parent
RUNBOOK = DEPLOY / "README.md"
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
CASES: dict[str, Any] = yaml.safe_load((TESTS / "alert_cases.yaml").read_text())

#: What Prometheus itself says of each thing that it scrapes.
SCRAPED = {"job", "instance"}


def exported() -> dict[str, set[str]]:
    """Every series' name as Prometheus sees it, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        labels = set(metric._labelnames)
        for family in metric.describe():
            if family.type == "histogram":
                found |= {f"{family.name}_sum": labels, f"{family.name}_count": labels}
                found[f"{family.name}_bucket"] = labels | {"le"}
            else:
                found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


SERIES = exported()


def queries() -> dict[str, str]:
    """Every query by where it stands."""
    asked = {f"alert {rule['alert']}": rule["expr"] for rule in RULES}
    for panel in PANELS:
        asked |= {f"panel {panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    for case in CASES["tests"]:
        asked |= {f"case {case['name']} {one['series']}": one["series"] for one in case["input_series"]}
    return asked


QUERIES = queries()


def selectors(query: str) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Every series that a query asks for: its name, and its matchers as label → (operator, value)."""
    found = []
    for name, matchers in re.findall(r"\b(partyline_\w+|up)\b(?:\{([^}]*)\})?", query):
        parts = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers)
        found.append((name, {label: (operator, value) for label, operator, value in parts}))
    return found


def grouped(query: str) -> set[str]:
    """Every label by which a query groups or matches."""
    lists = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", query)
    return {label.strip() for text in lists for label in text.split(",") if label.strip()}


@pytest.mark.parametrize("place", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(place: str) -> None:
    """Each name is exported, with each label that is matched; what is grouped by is a label of something in it."""
    asked = selectors(QUERIES[place])
    names = {name for name, _ in asked}
    labels = {label for name in names - {"up"} for label in SERIES[name]} | SCRAPED

    assert asked
    assert names - set(SERIES) - {"up"} == set()
    assert [
        (name, label) for name, matchers in asked for label in set(matchers) - SERIES.get(name, set()) - SCRAPED
    ] == []
    assert grouped(QUERIES[place]) - labels == set()


def outcomes() -> set[str]:
    """Every word that a callback's outcome may be."""
    refusals = {refusal.reason for operation in OPERATIONS for refusal in operation.refusals}
    unproved = {error.reason for error in AuthenticationError.__subclasses__()}
    aside = {f"{how}_{reason}" for how in ("deferred", "quarantined") for reason in unproved}
    return refusals | unproved | aside | {"captured", "handshake", METHOD_NOT_ALLOWED.reason, UNFORESEEN.reason}


@pytest.mark.parametrize("place", QUERIES)
def test_an_outcome_in_a_query_is_a_word_of_ours(place: str) -> None:
    """Each alternative that is asked for is an outcome that a callback can have."""
    asked = [
        alternative
        for name, matchers in selectors(QUERIES[place])
        if name == "partyline_callbacks_total" and "outcome" in matchers
        for alternative in matchers["outcome"][1].split("|")
    ]
    words = outcomes()

    assert [each for each in asked if not any(re.fullmatch(each, word) for word in words)] == []


def test_every_metric_is_on_the_dashboard() -> None:
    """Nothing is exported that nobody would see; of a histogram, one of its series does."""
    shown = {name for panel in PANELS for target in panel["targets"] for name, _ in selectors(target["expr"])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}

    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES} == families


def test_every_refusal_is_watched_by_an_alert() -> None:
    """What may go wrong with a callback is asked for by some rule; what is on another port, or a probe, is none."""
    patterns = [
        matchers["outcome"][1]
        for rule in RULES
        for name, matchers in selectors(rule["expr"])
        if name == "partyline_callbacks_total" and matchers.get("outcome", ("", "captured"))[1] != "captured"
    ]
    of_callbacks = {
        refusal.reason
        for operation in OPERATIONS
        if operation.path.startswith("/webhooks/")
        for refusal in operation.refusals
        if refusal.reason not in {NOT_FOUND.reason, Probed.reason}
    }

    assert {word for word in of_callbacks if not any(re.fullmatch(each, word) for each in patterns)} == set()


# --- alerts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_what_happened_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Its words use labels that its query leaves; its page is the runbook's heading of the same name."""
    said = rule["annotations"]["summary"]
    used = set(re.findall(r"\$labels\.(\w+)", said))
    aggregated = re.search(r"^\s*(?:histogram_quantile\([\d.]+, )?(?:sum|max|group) by \(([^)]*)\)", rule["expr"])
    left = {label.strip() for label in aggregated[1].split(",")} if aggregated else {"job", "instance", "partition"}

    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert used - left == set()
    assert rule["annotations"]["runbook"] == f"deploy/README.md#{slug(rule['alert'])}"


def test_the_runbook_has_one_heading_for_each_alert_and_no_other() -> None:
    """In the order of the rules; below each, what it means, what to look at and what to do."""
    sections = re.split(r"^### (Partyline\w+)$", prose(RUNBOOK), flags=re.MULTILINE)[1:]
    names, texts = sections[::2], sections[1::2]

    assert names == [rule["alert"] for rule in RULES]
    assert [
        name
        for name, text in zip(names, texts, strict=True)
        if not all(f"**{what}**" in text for what in ("Means", "Look", "Do"))
    ] == []


def test_the_scrape_configuration_in_the_runbook_is_what_the_rules_expect() -> None:
    """The job that README.md tells Prometheus of is one that every rule means."""
    [shown] = [yaml.safe_load(block) for block in blocks(RUNBOOK, "yaml") if "scrape_configs" in block]
    asked = [matchers for rule in RULES for _, matchers in selectors(rule["expr"])]
    jobs = {matchers["job"][1] for matchers in asked if "job" in matchers}

    assert [bool(re.fullmatch("partyline.*", job["job_name"])) for job in shown["scrape_configs"]] == [True]
    assert jobs == {"partyline.*"}


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own tool in the folder of the tests."""
    command = [program("promtool"), *words]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules` finds every rule, and nothing wrong."""
    said = promtool("check", "rules", str(DEPLOY / "alerts.yaml"))

    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(RULES)} rules found" in said.stdout


def test_the_alerts_stand_when_they_should_and_only_then() -> None:
    """`promtool test rules` runs the cases: made-up histories, and which alerts stand at the end of each."""
    said = promtool("test", "rules", "alert_cases.yaml")

    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_has_a_case_in_which_it_stands_and_one_in_which_it_does_not() -> None:
    """None is there only because it never says anything."""
    checks = [check for case in CASES["tests"] for check in case.get("promql_expr_test", [])]
    samples = [sample.get("labels", check["expr"]) for check in checks for sample in check["exp_samples"]]
    standing = set(itertools.chain.from_iterable(re.findall(r'alertname="(\w+)"', text) for text in samples))
    silent = {
        check["alertname"]
        for case in CASES["tests"]
        for check in case.get("alert_rule_test", [])
        if not check.get("exp_alerts")
    }

    assert standing == {rule["alert"] for rule in RULES} == silent


# --- the dashboard ----------------------------------------------------------------------------------------


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    """Panels have ids of their own and do not lie on each other; the variables that are used are declared."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))

    assert len(ids) == len(set(ids))
    assert used == declared
    assert not [
        (one["title"], other["title"])
        for one, other in itertools.combinations(DASHBOARD["panels"], 2)
        if _overlap(one["gridPos"], other["gridPos"])
    ]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    apart = [
        one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in (("x", "w"), ("y", "h"))
    ]
    return not any(apart)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_asks_for_the_chosen_job(panel: dict[str, Any]) -> None:
    """A description for each; each query asks only for the job that was chosen, and its legend for labels it has."""
    known = {rule["alert"] for rule in RULES}

    assert panel["description"]
    assert set(re.findall(r"Partyline\w+", panel["description"])) - known == set()
    for target in panel["targets"]:
        assert {found.get("job") for _, found in selectors(target["expr"])} == {("=~", "$job")}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - grouped(target["expr"]) == set()

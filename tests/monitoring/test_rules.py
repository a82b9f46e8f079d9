"""The rules and dashboards of manifests/prometheus, by promtool: what fires when, and that all they read exists."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hack.dashboard import DASHBOARDS, DIRECTORY, render
from hack.tools import tool
from tests.monitoring.cases import CASES, Case
from tests.monitoring.expressions import ALERTS, MANIFESTS, RULES, Json, form, names, panels, recorded, wanted

DOCS = MANIFESTS.parents[1] / "docs/monitoring.md"
# What Prometheus adds to a target's series.
TARGET_LABELS = {"job", "instance", "namespace", "service", "pod"}


def promtool(*args: str | Path) -> None:
    done = subprocess.run([tool("promtool"), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def minutes(rule: Json) -> int:
    """How long it must be true."""
    found = re.fullmatch(r"(\d+)(m|h)", rule.get("for", "0m"))
    assert found
    return int(found[1]) * {"m": 1, "h": 60}[found[2]]


def expected(case: Case) -> Json:
    """The alert as Alertmanager gets it: its own texts, with the case's labels and value put in."""
    rule = ALERTS[case.alert]

    def put_in(found: re.Match[str]) -> str:
        return case.labels[found[2]] if found[1] == "labels." else case.value

    return {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {
            name: re.sub(r"\{\{ \$(labels\.|value)(\w*)[^}]*\}\}", put_in, text)
            for name, text in rule["annotations"].items()
        },
    }


def unit_test(case: Case) -> Json:
    """promtool's test file: not before its time, then firing; and silent at any time where it must be."""
    waits = minutes(ALERTS[case.alert])
    firing = {"eval_time": f"{waits + 30}m", "alertname": case.alert, "exp_alerts": [expected(case)]}
    early = [{"eval_time": f"{waits - 1}m", "alertname": case.alert, "exp_alerts": []}] if waits else []
    silent = [
        {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": []} for minute in range(0, waits + 60, 5)
    ]
    return {
        "rule_files": ["rules.yaml"],
        # By chance otherwise; and an alert on a series that another group records is then a minute behind.
        "group_eval_order": [group["name"] for group in RULES["groups"]],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": tests,
            }
            for series, tests in ((case.fires, [*early, firing]), (case.quiet, silent))
        ],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_when_it_should_and_only_then(case: Case, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(unit_test(case)))
    promtool("test", "rules", file)


def test_every_alert_has_one_case() -> None:
    assert sorted(case.alert for case in CASES) == sorted(ALERTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_the_series_of_a_case_are_those_that_a_running_memop_or_exporter_has(case: Case) -> None:
    real: dict[str, list[set[str]]] = {}
    for stored in recorded():
        name, _, labels = stored.removesuffix("}").partition("{")
        real.setdefault(name, []).append(set(labels.split(",")) - {""})
    for series in (*case.fires, *case.quiet):
        name, _, labels = form(series).removesuffix("}").partition("{")
        if name != "up":
            assert any(have <= set(labels.split(",")) <= have | TARGET_LABELS for have in real[name]), series


def test_rules_and_dashboards_read_only_what_a_running_memop_or_exporter_has() -> None:
    assert wanted() <= {stored.partition("{")[0] for stored in recorded()}
    assert "memcached_commands_total" in wanted()


def test_the_series_that_a_query_reads_are_told_apart_from_the_rest_of_it() -> None:
    query = (
        'sum by (le, name) (rate(a_total{x="b{c}"}[5m])) / on (pod) (d:e:f > 0) unless max(up) and g_bytes == h{} or i'
    )
    assert names(query) == {"a_total", "g_bytes", "h", "i"}


def test_every_recorded_series_is_read_by_a_rule_or_a_panel() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    records = {rule["record"] for rule in rules if "record" in rule}
    read = " ".join([rule["expr"] for rule in rules] + [query for _, query in panels()])
    assert {record for record in records if record not in read} == set()
    named = set(re.findall(r"\b\w+:\w+(?::\w+)?\b", re.sub(r'"[^"]*"', "", read)))
    assert named == records


def test_the_rules_are_well_formed(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(RULES))
    promtool("check", "rules", file)


def test_the_panels_queries_are_well_formed(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": query} for number, (_, query) in enumerate(panels())]
    assert rules
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{alert.lower()}"
    assert f"\n### {alert}\n" in DOCS.read_text(encoding="utf-8")


def test_the_docs_tell_of_no_alert_that_there_is_not() -> None:
    told = re.findall(r"^### (Mem\w+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(ALERTS)


def test_the_dashboards_are_those_that_hack_dashboard_makes() -> None:
    made = {f"{dashboard.name}.json": render(dashboard) for dashboard in DASHBOARDS}
    assert {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in DIRECTORY.iterdir()} == made

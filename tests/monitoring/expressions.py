"""What manifests/prometheus says to Prometheus, and the series that it goes by."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from hack.dashboard import queries

Json = dict[str, Any]

MANIFESTS = Path(__file__).parents[2] / "manifests/prometheus"
RULES: Json = yaml.safe_load((MANIFESTS / "rules.yaml").read_text(encoding="utf-8"))["spec"]
ALERTS: dict[str, Json] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
RECORDED = Path(__file__).parent / "recorded.txt"

# What Grafana puts in, and, for a dashboard's own variables, what anything goes for.
RATE_INTERVAL = {"$__rate_interval": "1m"}
ANYTHING = {"$namespace": ".*", "$service": ".*", "$proxy": ".*"}

_WORDS = {"and", "or", "unless"}
_NO_SERIES = re.compile(r'"[^"]*"|\b(?:by|on) \([^)]*\)|\[[^]]*\]|\{[^}]*\}')


def dashboards() -> list[Json]:
    """As they are shipped."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((MANIFESTS / "dashboards").glob("*.json"))]


def panels(chosen: dict[str, str] = ANYTHING) -> list[tuple[str, str]]:
    """Dashboard and title, and PromQL, of every panel's every query, with `chosen` in place of variables."""
    return [
        (f"{dashboard['title']}: {title}", put_in(query, chosen))
        for dashboard in dashboards()
        for title, query in queries(dashboard)
    ]


def put_in(query: str, chosen: dict[str, str]) -> str:
    for name, value in {**RATE_INTERVAL, **chosen}.items():
        query = query.replace(name, value)
    return query


def names(query: str) -> set[str]:
    """The series that a query reads, without those that rules record and `up`, which is Prometheus' own."""
    rest = _NO_SERIES.sub(" ", _NO_SERIES.sub(" ", query))
    found = re.findall(r"[a-zA-Z_][\w:]*\b(?!\s*\()", rest)
    return {name for name in found if ":" not in name and name not in _WORDS and name != "up"}


def wanted() -> set[str]:
    """All series that rules and dashboards read."""
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return set().union(*(names(query) for query in (*rules, *(query for _, query in panels()))))


def forms(text: str) -> set[str]:
    """`name{label,label}` of every series in what a /metrics endpoint serves."""
    samples = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {form(sample) for sample in samples}


def form(series: str) -> str:
    """Of one series, as PromQL writes it, with or without a value behind it."""
    name, _, rest = series.partition("{")
    labels = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', rest)
    return f"{name.split(' ')[0]}{{{','.join(sorted(labels))}}}"


def recorded() -> set[str]:
    """The forms that a memop, a server's exporter and a proxy's served to tests/e2e/test_prometheus.py."""
    return set(RECORDED.read_text(encoding="utf-8").splitlines())

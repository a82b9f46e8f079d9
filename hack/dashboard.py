"""The Grafana dashboards under manifests/prometheus/dashboards: `python -m hack.dashboard` writes them.

A panel is a title, a unit and its queries; where it stands follows from its place in the list. In queries MEMOP stands
for the matcher of memop's own series, POOLS and PROXIES for those of what the dashboard's variables choose.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]

DIRECTORY = Path(__file__).parents[1] / "manifests/prometheus/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MATCHERS = {
    "MEMOP": 'job="memop"',
    "POOLS": 'namespace=~"$namespace",service=~"$service"',
    "PROXIES": 'namespace=~"$namespace",service=~"$proxy"',
}
COLUMNS, NUMBER_SIZE, GRAPH_SIZE = 24, (4, 4), (8, 8)  # widths and heights in Grafana's grid

# Grafana's names of units.
COUNT, RATIO, SECONDS, BYTES, PER_SECOND, BYTES_PER_SECOND = "short", "percentunit", "s", "bytes", "ops", "Bps"

SERVICE, POD = "{{namespace}}/{{service}}", "{{namespace}}/{{pod}}"
CONTROLLER = "{{controller}}"


class Panel(NamedTuple):
    """One with a legend is a graph, else a number. `query` is PromQL; `more` are further queries by their legend."""

    title: str
    unit: str
    query: str
    legend: str = ""
    more: dict[str, str] = {}  # noqa: RUF012 - never written to
    help: str = ""


class Row(NamedTuple):
    title: str
    panels: Sequence[Panel]


class Dashboard(NamedTuple):
    """`variables` is name → the query of the labels that it may have."""

    name: str
    title: str
    variables: dict[str, str]
    rows: Sequence[Row]


OPERATOR = Dashboard(
    "memop-operator",
    "memop / operator",
    {},
    (
        Row(
            "At a glance",
            (
                Panel("Replicas of memop", COUNT, "sum(up{MEMOP})"),
                Panel("Leaders", COUNT, "sum(leader_election_master_status{MEMOP})", help="One, with --leader-elect."),
                Panel("Memcacheds", COUNT, "count(namespace_name:memcached_operator_instance_replicas_desired:max)"),
                Panel("Pods wanted", COUNT, "sum(namespace_name:memcached_operator_instance_replicas_desired:max)"),
                Panel("Pods ready", COUNT, "sum(namespace_name:memcached_operator_instance_replicas_ready:max)"),
                Panel(
                    "Webhooks' certificate ends in",
                    SECONDS,
                    "memop:webhook_certificate_seconds_left:min",
                    help="With --enable-webhooks. memop renews its own at two thirds of its time.",
                ),
            ),
        ),
        Row(
            "Reconciles",
            (
                Panel(
                    "Reconciles",
                    PER_SECOND,
                    "sum by (controller, result) (rate(controller_runtime_reconcile_total{MEMOP}[$__rate_interval]))",
                    "{{controller}} {{result}}",
                ),
                Panel(
                    "Failed reconciles in 30 minutes",
                    RATIO,
                    "controller:controller_runtime_reconcile_errors:ratio_rate30m",
                    CONTROLLER,
                ),
                Panel(
                    "Length of a reconcile, 99th percentile",
                    SECONDS,
                    "histogram_quantile(0.99, sum by (controller, le)"
                    " (rate(controller_runtime_reconcile_time_seconds_bucket{MEMOP}[$__rate_interval])))",
                    CONTROLLER,
                ),
                Panel(
                    "Children written",
                    PER_SECOND,
                    "sum by (resource_kind, result) (rate(memcached_operator_reconcile_resource_total"
                    '{MEMOP,result!="unchanged"}[$__rate_interval]))',
                    "{{resource_kind}} {{result}}",
                    help="None while nothing changes.",
                ),
                Panel(
                    "Pods wanted and not ready",
                    COUNT,
                    "namespace_name:memcached_operator_instance_replicas_desired:max"
                    " - namespace_name:memcached_operator_instance_replicas_ready:max",
                    "{{namespace}}/{{name}}",
                ),
                Panel(
                    "Busy workers",
                    COUNT,
                    "sum by (controller) (controller_runtime_active_workers{MEMOP})",
                    CONTROLLER,
                ),
            ),
        ),
        Row(
            "Queue",
            (
                Panel("Keys waiting", COUNT, "sum by (controller) (workqueue_depth{MEMOP})", CONTROLLER),
                Panel(
                    "Time in the queue, 99th percentile",
                    SECONDS,
                    "controller:workqueue_queue_duration_seconds:p99_rate5m",
                    CONTROLLER,
                ),
                Panel(
                    "Longest reconcile under way",
                    SECONDS,
                    "max by (controller) (workqueue_longest_running_processor_seconds{MEMOP})",
                    CONTROLLER,
                ),
            ),
        ),
        Row(
            "API server",
            (
                Panel(
                    "Requests",
                    PER_SECOND,
                    "sum by (method, code) (rate(rest_client_requests_total{MEMOP}[$__rate_interval]))",
                    "{{method}} {{code}}",
                ),
                Panel(
                    "Watch events",
                    PER_SECOND,
                    "sum by (resource) (rate(memop_informer_events_total{MEMOP}[$__rate_interval]))",
                    "{{resource}}",
                ),
                Panel(
                    "Failed lists and watches",
                    PER_SECOND,
                    "sum by (resource, error) (rate(memop_informer_failures_total{MEMOP}[$__rate_interval]))"
                    " or vector(0)",
                    "{{resource}} {{error}}",
                    help="NotFound: the kind is not installed.",
                ),
                Panel("Objects cached", COUNT, "max by (resource) (memop_informer_objects{MEMOP})", "{{resource}}"),
                Panel(
                    "Admission reviews",
                    PER_SECOND,
                    "sum by (webhook, code) (rate(controller_runtime_webhook_requests_total{MEMOP}[$__rate_interval]))",
                    "{{webhook}} {{code}}",
                    help="With --enable-webhooks.",
                ),
                Panel(
                    "Length of a review, 99th percentile",
                    SECONDS,
                    "histogram_quantile(0.99, sum by (webhook, le)"
                    " (rate(controller_runtime_webhook_latency_seconds_bucket{MEMOP}[$__rate_interval])))",
                    "{{webhook}}",
                ),
            ),
        ),
    ),
)

CACHES = Dashboard(
    "memop-caches",
    "memop / caches",
    {
        "namespace": "query_result(count by (namespace) (memcached_up))",
        "service": 'query_result(count by (service) (memcached_up{namespace=~"$namespace"}'
        " unless on (namespace, pod) memcached_proxy_backend_total))",
        "proxy": 'query_result(count by (service) (memcached_proxy_backend_total{namespace=~"$namespace"}))',
    },
    (
        Row(
            "At a glance",
            (
                Panel("Servers that answer", COUNT, "sum(memcached_up{POOLS})"),
                Panel(
                    "Hit ratio",
                    RATIO,
                    'sum(rate(memcached_commands_total{POOLS,command="get",status="hit"}[$__rate_interval]))'
                    ' / sum(rate(memcached_commands_total{POOLS,command="get"}[$__rate_interval]))',
                ),
                Panel("Items", COUNT, "sum(memcached_current_items{POOLS})"),
                Panel("Memory for items", BYTES, "sum(memcached_limit_bytes{POOLS})"),
                Panel("Memory in items", BYTES, "sum(memcached_current_bytes{POOLS})"),
                Panel("Connections", COUNT, "sum(memcached_current_connections{POOLS})"),
            ),
        ),
        Row(
            "Use",
            (
                Panel("Hit ratio", RATIO, "namespace_service:memcached_hits:ratio_rate5m{POOLS}", SERVICE),
                Panel(
                    "Commands",
                    PER_SECOND,
                    "sum by (command, status) (rate(memcached_commands_total{POOLS}[$__rate_interval]))",
                    "{{command}} {{status}}",
                ),
                Panel(
                    "Network",
                    BYTES_PER_SECOND,
                    "sum by (namespace, service) (rate(memcached_written_bytes_total{POOLS}[$__rate_interval]))",
                    f"{SERVICE} out",
                    more={
                        f"{SERVICE} in": "sum by (namespace, service)"
                        " (rate(memcached_read_bytes_total{POOLS}[$__rate_interval]))"
                    },
                ),
                Panel(
                    "CPU",
                    COUNT,
                    "rate(memcached_process_user_cpu_seconds_total{POOLS}[$__rate_interval])"
                    " + rate(memcached_process_system_cpu_seconds_total{POOLS}[$__rate_interval])",
                    POD,
                    help="Cores.",
                ),
                Panel("Connections of maxConnections", RATIO, "pod:memcached_connections:ratio{POOLS}", POD),
                Panel(
                    "Connections turned away",
                    PER_SECOND,
                    "rate(memcached_connections_rejected_total{POOLS}[$__rate_interval])"
                    " + rate(memcached_connections_listener_disabled_total{POOLS}[$__rate_interval])",
                    POD,
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    "Memory given out",
                    RATIO,
                    "pod:memcached_memory:ratio{POOLS}",
                    POD,
                    help="Of maxMemoryMB. memcached never takes back what it gave to a size class: a full cache stays "
                    "full.",
                ),
                Panel(
                    "Evictions",
                    PER_SECOND,
                    "namespace_service:memcached_evictions:rate5m{POOLS}",
                    SERVICE,
                ),
                Panel(
                    "Writes refused for want of memory",
                    PER_SECOND,
                    "rate(memcached_item_no_memory_total{POOLS}[$__rate_interval])",
                    POD,
                ),
                Panel(
                    "Oldest item",
                    SECONDS,
                    "max by (namespace, pod) (memcached_slab_items_age_seconds{POOLS})",
                    POD,
                    help="Of those not fetched of late. Short while items are evicted: the cache is too small.",
                ),
                Panel("Items", COUNT, "pod:memcached_items:count{POOLS}", POD),
                Panel(
                    "Fullest pod's items, of the average",
                    COUNT,
                    "namespace_service:memcached_items:max_over_avg{POOLS}",
                    SERVICE,
                    help="1: the ring is balanced.",
                ),
            ),
        ),
        Row(
            "Proxies",
            (
                Panel(
                    "Requests",
                    PER_SECOND,
                    "rate(memcached_proxy_conn_requests_total{PROXIES}[$__rate_interval])",
                    POD,
                ),
                Panel("Requests under way", COUNT, "memcached_proxy_req_active{PROXIES}", POD),
                Panel("Connections of clients", COUNT, "memcached_current_connections{PROXIES}", POD),
                Panel(
                    "Connections to servers taken for dead",
                    PER_SECOND,
                    "rate(memcached_proxy_backend_marked_bad_total{PROXIES}[$__rate_interval])",
                    POD,
                ),
                Panel("Connections to servers", COUNT, "memcached_proxy_backend_total{PROXIES}", POD),
                Panel(
                    "Configurations taken in",
                    COUNT,
                    "memcached_proxy_config_reloads_total{PROXIES}",
                    POD,
                    more={f"{POD} refused": "memcached_proxy_config_reload_fails_total{PROXIES}"},
                ),
            ),
        ),
    ),
)

DASHBOARDS = (OPERATOR, CACHES)


def queries(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Title and PromQL of each query of a dashboard's JSON."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def render(dashboard: Dashboard) -> Json:
    """What Grafana imports."""
    return {
        "uid": dashboard.name,
        "title": dashboard.title,
        "tags": ["memop", "memcached"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *(_variable(*item) for item in dashboard.variables.items())]},
        "panels": list(_panels(dashboard.rows)),
    }


def _source() -> Json:
    return {"type": "datasource", "name": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> Json:
    label = "namespace" if name == "namespace" else "service"
    return {
        "type": "query",
        "name": name,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "regex": f'/{label}="([^"]+)"/',
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    y = number = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y, x, height = y + 1, 0, 0
        for panel in row.panels:
            width, height = GRAPH_SIZE if panel.legend else NUMBER_SIZE
            if x + width > COLUMNS:
                x, y = 0, y + height
            number += 1
            yield _panel(panel, number, {"x": x, "y": y, "w": width, "h": height})
            x += width
        y += height


def _panel(panel: Panel, number: int, position: Json) -> Json:
    targets = {panel.legend: panel.query, **panel.more}
    return {
        "id": number,
        "type": "timeseries" if panel.legend else "stat",
        "title": panel.title,
        **({"description": panel.help} if panel.help else {}),
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": _matched(query), "legendFormat": legend}
            for place, (legend, query) in enumerate(targets.items())
        ],
    }


def _matched(query: str) -> str:
    for word, matcher in MATCHERS.items():
        query = query.replace(f"{{{word}", f"{{{matcher}")
    return query


def main() -> None:
    for dashboard in DASHBOARDS:
        text = json.dumps(render(dashboard), indent=1) + "\n"
        (DIRECTORY / f"{dashboard.name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

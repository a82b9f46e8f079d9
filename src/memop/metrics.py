"""Every series that memop exports, by controller-runtime's names, labels and buckets, so that its dashboards fit.

Built once in app.py on a registry of its own and handed down; a part takes the group that it reports to.
Sources: controller-runtime pkg/metrics and pkg/internal/controller/metrics, client-go tools/metrics.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from memop.refs import Key

T = TypeVar("T")

RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
CR_BUCKETS = (0.01, 0.1, 1.0, 10.0)  # few, as each CR has them
RESULTS = ("success", "error")
PIECE = 250  # CRs whose series are made into text at once
QUEUE_BUCKETS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000)


class ClientMetrics:
    """Requests to the API server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ["code", "method", "host"],
            registry=registry,
        )


class QueueMetrics:
    """What client-go's workqueue tells, labelled `name` and `controller` (both the controller's name)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["name", "controller"]
        self.depth = Gauge("workqueue_depth", "Current depth of workqueue", labels, registry=registry)
        self.adds = Counter("workqueue_adds_total", "Total adds handled by workqueue", labels, registry=registry)
        self.queue_duration = Histogram(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            labels,
            buckets=QUEUE_BUCKETS,
            registry=registry,
        )
        self.work_duration = Histogram(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            labels,
            buckets=QUEUE_BUCKETS,
            registry=registry,
        )
        self.unfinished = Gauge(
            "workqueue_unfinished_work_seconds",
            "Seconds of work in progress that work_duration has not observed yet; large values mean stuck workers.",
            labels,
            registry=registry,
        )
        self.longest = Gauge(
            "workqueue_longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.",
            labels,
            registry=registry,
        )
        self.retries = Counter(
            "workqueue_retries_total", "Total retries handled by workqueue", labels, registry=registry
        )


class ControllerMetrics:
    """What controller-runtime tells of its controllers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["controller"]
        self.total = Counter(
            "controller_runtime_reconcile_total",
            "Total number of reconciliations per controller",
            ["controller", "result"],
            registry=registry,
        )
        self.errors = Counter(
            "controller_runtime_reconcile_errors_total",
            "Total number of reconciliation errors per controller",
            labels,
            registry=registry,
        )
        self.terminal_errors = Counter(
            "controller_runtime_terminal_reconcile_errors_total",
            "Total number of terminal reconciliation errors per controller",
            labels,
            registry=registry,
        )
        self.panics = Counter(
            "controller_runtime_reconcile_panics_total",
            "Total number of reconciliation panics per controller",
            labels,
            registry=registry,
        )
        self.seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of time per reconciliation per controller",
            labels,
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self.active_workers = Gauge(
            "controller_runtime_active_workers",
            "Number of currently used workers per controller",
            labels,
            registry=registry,
        )
        self.max_workers = Gauge(
            "controller_runtime_max_concurrent_reconciles",
            "Maximum number of concurrent reconciles per controller",
            labels,
            registry=registry,
        )


class InformerMetrics:
    """How the caches stand, per kind and namespace (empty: all)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["resource", "namespace"]
        self.synced = Gauge(
            "memop_informer_synced", "1 when the cache has seen a complete list", labels, registry=registry
        )
        self.objects = Gauge("memop_informer_objects", "Objects in the cache", ["resource"], registry=registry)
        self.events = Counter(
            "memop_informer_events_total", "Watch events, by type", ["resource", "type"], registry=registry
        )
        self.lists = Counter("memop_informer_lists_total", "Complete lists", labels, registry=registry)
        self.failures = Counter(
            "memop_informer_failures_total",
            "Lists and watches that failed, by error",
            [*labels, "error"],
            registry=registry,
        )


class OperatorMetrics(Collector):
    """What the operator tells of its CRs and their children; the series of a deleted CR go with it.

    The series of a CR are eight numbers in one array: a Histogram of prometheus_client's own takes 5 KiB.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._crs: dict[Key, array[float]] = {}  # seconds in all; per result; per bucket
        self.resources = Counter(
            "memcached_operator_reconcile_resource_total",
            "Child objects looked at, by kind and result (created, updated, deleted, unchanged, contested, conflict, "
            "rejected)",
            ["resource_kind", "result"],
            registry=registry,
        )
        registry.register(self)

    @contextmanager
    def reconciling(self, key: Key) -> Iterator[None]:
        """Counts and times one reconcile of the CR `key`."""
        result, started = 1 + RESULTS.index("error"), time.perf_counter()
        try:
            yield
            result = 1 + RESULTS.index("success")
        finally:
            seconds = time.perf_counter() - started
            series = self._crs.get(key)
            if series is None:
                series = self._crs[key] = array("d", bytes(8 * (1 + len(RESULTS) + len(CR_BUCKETS) + 1)))
            series[0] += seconds
            series[result] += 1
            series[1 + len(RESULTS) + bisect_left(CR_BUCKETS, seconds)] += 1

    def forget(self, key: Key) -> None:
        """Drop the series of a CR that is gone; one that never had any is fine."""
        self._crs.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client; a family comes in pieces."""
        labels, bounds = ["name", "namespace"], [*map(str, CR_BUCKETS), "+Inf"]
        crs = list(self._crs.items())
        for piece in pieces(crs):
            total = CounterMetricFamily(
                "memcached_operator_reconcile",
                "Reconciles of a CR, by result (success, error)",
                labels=[*labels, "result"],
            )
            for key, series in piece:
                for number, result in enumerate(RESULTS, 1):
                    total.add_metric([key.name, key.namespace, result], series[number])
            yield total
        for piece in pieces(crs):
            duration = HistogramMetricFamily(
                "memcached_operator_reconcile_duration_seconds", "Length of time per reconcile of a CR", labels=labels
            )
            for key, series in piece:
                cumulative = accumulate(series[1 + len(RESULTS) :])
                duration.add_metric([key.name, key.namespace], list(zip(bounds, cumulative, strict=True)), series[0])
            yield duration


def pieces(crs: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time that neither the loop nor the memory notices a scrape; one piece, if need be an empty one."""
    for start in range(0, max(len(crs), 1), PIECE):
        yield crs[start : start + PIECE]


class LeaderMetrics:
    """Whether this process leads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.status = Gauge(
            "leader_election_master_status",
            "1 when this process holds the Lease of that name, 0 when not",
            ["name"],
            registry=registry,
        )


class WebhookMetrics:
    """What controller-runtime tells of its webhooks, labelled by path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "controller_runtime_webhook_latency_seconds",
            "Histogram of the latency of processing admission requests",
            ["webhook"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self._total = Counter(
            "controller_runtime_webhook_requests_total",
            "Total number of admission requests by HTTP status code.",
            ["webhook", "code"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "controller_runtime_webhook_requests_in_flight",
            "Current number of admission requests being served.",
            ["webhook"],
            registry=registry,
        )
        self.expiry = Gauge(
            "memop_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that webhooks are served with ends, in seconds since 1970; NaN without one",
            registry=registry,
        )

    def begin(self, webhook: str) -> None:
        """Have the series of a webhook from the start, as controller-runtime does."""
        self._seconds.labels(webhook)
        self._in_flight.labels(webhook)
        for code in ("200", "500"):
            self._total.labels(webhook, code)

    @contextmanager
    def serving(self, webhook: str) -> Iterator[None]:
        """Counts and times one request; what raises is answered with 500."""
        code, started = "500", time.perf_counter()
        self._in_flight.labels(webhook).inc()
        try:
            yield
            code = "200"
        finally:
            self._in_flight.labels(webhook).dec()
            self._seconds.labels(webhook).observe(time.perf_counter() - started)
            self._total.labels(webhook, code).inc()

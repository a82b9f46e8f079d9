"""The series that describe each `Memcached`, read from the cache at every scrape: they come and go with the CRs."""

from collections.abc import Iterable, Mapping

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memop.informers.store import StoreReader
from memop.metrics import pieces
from memop.reconcilers.memcached.instance import Options
from memop.reconcilers.memcached.observe import Observed, observe
from memop.reconcilers.objects import Live
from memop.refs import Key, Resource

log = structlog.stdlib.get_logger(__name__)


class InstanceCollector(Collector):
    """`memcached_operator_instance_{info,replicas_desired,replicas_ready}`."""

    def __init__(
        self, *, memcacheds: StoreReader[Live], workloads: Mapping[Resource, StoreReader[Live]], options: Options
    ) -> None:
        self._memcacheds = memcacheds
        self._workloads = workloads
        self._options = options

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client; a family comes in pieces."""
        labels, prefix = ["name", "namespace"], "memcached_operator_instance"
        counts: list[tuple[Key, int, int]] = []  # CR, pods wanted, pods ready
        for keys in pieces(list(self._memcacheds.keys())):
            info = GaugeMetricFamily(f"{prefix}_info", "1 for each CR, with its image", labels=[*labels, "image"])
            for key in keys:
                observed = self._observe(key)
                if observed is not None and observed.instance is not None:
                    info.add_metric([key.name, key.namespace, observed.instance.image], 1)
                    counts.append((key, observed.desired, observed.rollout.ready_replicas))
            yield info
        for piece in pieces(counts):
            desired = GaugeMetricFamily(f"{prefix}_replicas_desired", "Pods wanted", labels=labels)
            for key, wanted, _ in piece:
                desired.add_metric([key.name, key.namespace], wanted)
            yield desired
        for piece in pieces(counts):
            ready = GaugeMetricFamily(f"{prefix}_replicas_ready", "Pods ready", labels=labels)
            for key, _, count in piece:
                ready.add_metric([key.name, key.namespace], count)
            yield ready

    def _observe(self, key: Key) -> Observed | None:
        """None, logged, where observing fails: the other CRs' series must not go with this one's."""
        try:
            return observe(key, memcacheds=self._memcacheds, workloads=self._workloads, options=self._options)
        except Exception as error:  # noqa: BLE001 - a scrape outlives whatever one CR says
            log.warning("CR left out of the metrics", key=str(key), error=f"{type(error).__name__}: {error}")
            return None

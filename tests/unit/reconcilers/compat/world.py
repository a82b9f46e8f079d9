"""A reconciler of one foreign kind with its caches, a scripted API server behind it."""

import asyncio
import random
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from memop.errors import NotFound
from memop.informers.informer import Informer
from memop.metrics import InformerMetrics, OperatorMetrics
from memop.reconcilers.apply import Applier
from memop.reconcilers.compat.kinds import FOREIGN_KINDS, ForeignKind
from memop.reconcilers.compat.reconciler import FIELD_MANAGER, CompatReconciler
from memop.reconcilers.objects import Live, decoder
from memop.refs import MEMCACHED_CLUSTERS, Key, Resource
from tests.unit.reconcilers.memcached.test_reconciler import Script, Told
from tests.unit.virtual_time import VirtualClock

Json = dict[str, Any]

KEY = Key("default", "cache")
IANLEWIS, MCROUTER, MEMSHACK = FOREIGN_KINDS


class ForeignScript(Script):
    """The same for a foreign CR, which `get` finds while it is there."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource = resource

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes:
        if resource is not self._resource:
            return await super().get(resource, key, metadata_only=metadata_only)
        self.asked.append(("get", resource.kind))
        if self.gone:
            raise NotFound(f"{resource} {key} not found", status=404)
        return msgspec.json.encode(self.cr)


class World:
    def __init__(self, kind: ForeignKind, clock: VirtualClock) -> None:
        registry = CollectorRegistry()
        self.kind = kind
        self.client, self.events = ForeignScript(kind.resource), Told()
        informer_metrics = InformerMetrics(registry)

        def informer(resource: Resource, subresource: str = "") -> Informer[Live]:
            return Informer(
                self.client,
                resource,
                decoder(FIELD_MANAGER, subresource=subresource),
                clock=clock,
                metrics=informer_metrics,
                rng=random.Random(1),  # noqa: S311
            )

        self.foreign = informer(kind.resource, "status")
        self.clusters = informer(MEMCACHED_CLUSTERS)
        applier = Applier(
            self.client,
            resource=kind.resource,
            manager=FIELD_MANAGER,
            owners=self.foreign,
            children={MEMCACHED_CLUSTERS: self.clusters},
            optional=[MEMCACHED_CLUSTERS],
            clock=clock,
            metrics=OperatorMetrics(registry),
        )
        self.reconciler = CompatReconciler(
            kind, foreign=self.foreign, clusters=self.clusters, applier=applier, events=self.events, clock=clock
        )
        self._version = 1000

    async def sync(self) -> None:
        """List: nothing is there. The watches are not needed, as the tests put into the caches what those would."""
        async with asyncio.TaskGroup() as group:
            for informer in (self.foreign, self.clusters):
                task = group.create_task(informer.run())
                await informer.wait_settled()
                task.cancel()

    def give(self, spec: Any = None, *, generation: int = 1, **metadata: Any) -> None:
        """The CR as the watch brings it, with the status that was told; `spec` None leaves it out."""
        self._version = max(self._version, self.client.version) + 1
        held = self.foreign.reader.get(KEY)
        told: Json = {}
        if held is not None and held.claimed:
            entry = {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status"}
            metadata["managedFields"] = [{**entry, "fieldsV1": msgspec.Raw(held.owned)}]
            told["status"] = msgspec.Raw(held.status)
        self.client.cr = {
            "apiVersion": self.kind.resource.api_version,
            "kind": self.kind.resource.kind,
            "metadata": {
                "name": KEY.name,
                "namespace": KEY.namespace,
                "uid": "cr-uid",
                "generation": generation,
                "resourceVersion": f"{self._version}",
                **metadata,
            },
            **({} if spec is None else {"spec": spec}),
            **told,
        }
        self.client.version = self._version
        self.foreign.wrote(msgspec.json.encode(self.client.cr))

    def tell(self, *, generation: int = 1, **status: Any) -> None:
        """The child as the watch brings it, with its status."""
        self._version = max(self._version, self.client.version) + 1
        child = msgspec.json.decode(self.client.last[MEMCACHED_CLUSTERS.kind])
        child["metadata"] |= {"resourceVersion": f"{self._version}", "generation": generation}
        child["status"] = status
        self.client.version = self._version
        self.clusters.wrote(msgspec.json.encode(child))

    def asked(self) -> list[tuple[str, str]]:
        asked, self.client.asked = self.client.asked, []
        return asked

    @property
    def child(self) -> Json:
        """As it was last applied."""
        applied: Json = msgspec.json.decode(self.client.last[MEMCACHED_CLUSTERS.kind])
        return applied

    @property
    def status(self) -> Json:
        """As the cache has it."""
        held = self.foreign.reader.get(KEY)
        assert held is not None
        status: Json = msgspec.json.decode(held.status)
        return status

    def condition(self, type_: str) -> tuple[str, str, str]:
        """Status, reason and message; all empty where there is no such condition."""
        stated = (one for one in self.status["conditions"] if one["type"] == type_)
        found = next(stated, {"status": "", "reason": "", "message": ""})
        return found["status"], found["reason"], found["message"]

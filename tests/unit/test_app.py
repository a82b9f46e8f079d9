"""The composition: what is in flight when memop is told to stop is finished, within the grace that it has."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from memop.app import App
from memop.client import Page
from memop.errors import NotFound
from memop.refs import LEASES, MEMCACHEDS, Key, Resource
from memop.settings import Settings
from tests.unit.reconcilers.fields_v1 import fields_v1
from tests.unit.reconcilers.memcached.instances import memcached
from tests.unit.virtual_time import VirtualClock


class SlowServer:
    """One CR, no children, and every apply takes its time; keeps what was begun and what was finished."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.busy = asyncio.Event()
        self.begun: list[str] = []
        self.finished: list[str] = []
        self.lease: dict[str, Any] = {}

    def fence(self, may_write: Callable[[], bool]) -> None:
        self.may_write = may_write

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Page:
        items = [msgspec.Raw(memcached(version=5))] if resource is MEMCACHEDS else []
        return Page(items, "10", "", None)

    @asynccontextmanager
    async def watch(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async def silence() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        yield silence()

    async def get(self, resource: Resource, key: Key, **_: Any) -> bytes:
        if resource is LEASES and self.lease:
            return msgspec.json.encode(self.lease)
        raise NotFound("not found", status=404)

    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes:
        if resource is LEASES:
            self.lease = body
        return msgspec.json.encode(body)

    async def replace(self, resource: Resource, key: Key, body: Any) -> bytes:
        self.lease = body
        return msgspec.json.encode(body)

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], **_: Any) -> bytes:
        return await self._write(resource.kind, body)

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], **_: Any) -> bytes:
        return await self._write("status", body)

    async def _write(self, what: str, body: Mapping[str, Any]) -> bytes:
        self.begun.append(what)
        self.busy.set()
        await asyncio.sleep(self.seconds)
        self.finished.append(what)
        metadata = {"uid": "u", **body["metadata"], "resourceVersion": "20", "generation": 1}
        return msgspec.json.encode({**body, "metadata": metadata})


class ScaledMeanwhile(SlowServer):
    """The user scales the pool while its status is written; the answer shows it before the watch does."""

    async def apply(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str = "", **_: Any
    ) -> bytes:
        self.begun.append(f"{resource.kind} {body['spec'].get('replicas', '')}".strip())
        entry = {"manager": manager, "operation": "Apply", "fieldsV1": fields_v1(dict(body))}
        metadata = {"uid": "u", **body["metadata"], "resourceVersion": str(20 + len(self.begun))}
        return msgspec.json.encode({**body, "metadata": {**metadata, "managedFields": [entry]}})

    async def apply_status(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str = "", **_: Any
    ) -> bytes:
        self.begun.append(f"status {body['status']['observedGeneration']}")
        entry = {
            "manager": manager,
            "operation": "Apply",
            "subresource": "status",
            "fieldsV1": fields_v1({"status": body["status"]}),
        }
        return memcached(
            {"replicas": 3},
            version=20 + len(self.begun),
            generation=2,
            status=body["status"],
            managed_fields=[entry],
        )


SETTINGS = Settings(metrics_bind_address="0", health_probe_bind_address="0", leader_elect=True)


def build(server: SlowServer, clock: VirtualClock) -> App:
    client: Any = server
    return App(SETTINGS, client, namespace="memop-system", clock=clock, registry=CollectorRegistry())


async def stopped_during_the_first_write(server: SlowServer, clock: VirtualClock) -> float:
    """Run until a write is in flight, stop; how long the end took, in seconds."""
    stop = asyncio.Event()
    running = asyncio.create_task(build(server, clock).run(stop))
    await server.busy.wait()
    started = clock.monotonic()
    stop.set()
    await running
    return clock.monotonic() - started


@pytest.mark.parametrize("seconds", [0.5, 3.0])
async def test_a_reconcile_in_flight_is_finished_before_the_lease_is_released(
    clock: VirtualClock, seconds: float
) -> None:
    server = SlowServer(seconds)
    await stopped_during_the_first_write(server, clock)
    assert server.finished == ["Service", "Deployment", "status"]
    assert server.lease["spec"]["holderIdentity"] == ""


async def test_a_reconcile_that_hangs_is_cut_short_within_the_grace_period(clock: VirtualClock) -> None:
    server = SlowServer(1000.0)
    took = await stopped_during_the_first_write(server, clock)
    assert SETTINGS.shutdown_timeout <= took < 25
    assert server.finished == []
    assert server.lease["spec"]["holderIdentity"] == ""


async def test_told_to_stop_before_it_leads_it_ends_and_writes_nothing(clock: VirtualClock) -> None:
    server = SlowServer(1.0)
    server.lease = {"metadata": {}, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1000}}
    stop = asyncio.Event()
    running = asyncio.create_task(build(server, clock).run(stop))
    await asyncio.sleep(5)
    stop.set()
    await running
    assert (server.begun, server.lease["spec"]["holderIdentity"]) == ([], "other")


async def test_what_an_answer_to_a_status_write_shows_of_the_spec_is_acted_on(clock: VirtualClock) -> None:
    server = ScaledMeanwhile(0)
    stop = asyncio.Event()
    running = asyncio.create_task(build(server, clock).run(stop))
    await asyncio.sleep(60)
    stop.set()
    await running
    assert server.begun == ["Service", "Deployment 1", "status 1", "Deployment 3", "status 2"]

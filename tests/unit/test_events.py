"""What reaches the API server of what is recorded, on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog.testing

from memop import events
from memop.errors import AlreadyExists, ApiError, Forbidden, NotFound, Rejected, Unreachable
from memop.events import EventRecorder
from memop.refs import EVENTS, Key, ObjectReference, Resource
from tests.unit.virtual_time import EPOCH, VirtualClock

CACHE = ObjectReference("memcached.c5c3.io/v1beta1", "Memcached", "ns", "cache", "u1", "7")


class FakeSink:
    """Writes down what arrives; raises what stands next in `errors`."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[Key, dict[str, Any]]] = []
        self.errors: list[ApiError] = []

    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes:
        assert resource is EVENTS
        assert namespace == body["metadata"]["namespace"]
        if self.errors:
            raise self.errors.pop(0)
        self.created.append(body)
        return b"{}"

    async def patch(self, resource: Resource, key: Key, body: Any) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        self.patched.append((key, body))
        return b"{}"


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
async def recorder(sink: FakeSink, clock: VirtualClock) -> AsyncIterator[EventRecorder]:
    made = EventRecorder(sink, instance="memop-0", clock=clock, log=structlog.stdlib.get_logger())
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_an_event_has_what_the_api_demands(sink: FakeSink, recorder: EventRecorder) -> None:
    other = ObjectReference("v1", "Secret", "ns", "s", "u2")
    recorder.record(CACHE, "Warning", "SecretNotFound", "no secret s", related=other)
    await asyncio.sleep(1)
    (event,) = sink.created
    name = event["metadata"].pop("name")
    assert name.startswith("cache.")
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "ns"},
        "eventTime": EPOCH.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": "SecretNotFound",
        "note": "no secret s",
        "action": "Reconcile",
        "regarding": {
            "apiVersion": "memcached.c5c3.io/v1beta1",
            "kind": "Memcached",
            "namespace": "ns",
            "name": "cache",
            "uid": "u1",
            "resourceVersion": "7",
        },
        "related": {"apiVersion": "v1", "kind": "Secret", "namespace": "ns", "name": "s", "uid": "u2"},
        "reportingController": "memcached-operator",
        "reportingInstance": "memop-0",
    }


async def test_the_same_again_becomes_a_series_written_now_and_then(sink: FakeSink, recorder: EventRecorder) -> None:
    for _ in range(100):
        recorder.record(CACHE, "Warning", "Degraded", "it hurts")
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    assert len(sink.created) == 1
    assert len(sink.patched) == 4
    key, last = sink.patched[-1]
    assert key == Key("ns", sink.created[0]["metadata"]["name"])
    assert last["series"]["count"] == 100
    assert last["series"]["lastObservedTime"] == "2026-01-01T00:01:39.000000Z"


async def test_what_differs_or_is_long_ago_is_a_new_event(sink: FakeSink, recorder: EventRecorder) -> None:
    recorder.record(CACHE, "Normal", "Scaled", "to 2")
    recorder.record(CACHE, "Normal", "Scaled", "to 3")
    recorder.record(CACHE, "Warning", "Scaled", "to 3")
    recorder.record(ObjectReference("v1", "Node", "", "n", "u9"), "Normal", "Scaled", "to 3")
    await asyncio.sleep(events.SERIES_WINDOW + 1)
    recorder.record(CACHE, "Normal", "Scaled", "to 2")
    await asyncio.sleep(1)
    assert len(sink.created) == 5
    assert len({event["metadata"]["name"] for event in sink.created}) == 5
    assert sink.created[3]["metadata"]["namespace"] == "default"
    assert not sink.patched


async def test_one_object_cannot_flood(sink: FakeSink, recorder: EventRecorder) -> None:
    for number in range(100):
        recorder.record(CACHE, "Normal", "Scaled", f"to {number}")
    recorder.record(ObjectReference("v1", "Pod", "ns", "p", "u5"), "Normal", "Scaled", "other")
    await asyncio.sleep(1)
    assert len(sink.created) == 26
    assert recorder.dropped == 75
    await asyncio.sleep(300)
    recorder.record(CACHE, "Normal", "Scaled", "later")
    await asyncio.sleep(1)
    assert len(sink.created) == 27


async def test_the_queue_is_bounded_and_the_oldest_goes(
    sink: FakeSink, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_SERIES", 3)
    for number in range(5):
        recorder.record(ObjectReference("v1", "Pod", "ns", f"p{number}", f"u{number}"), "Normal", "Made", "it")
    await asyncio.sleep(1)
    assert [event["regarding"]["name"] for event in sink.created] == ["p2", "p3", "p4"]
    assert recorder.dropped == 2


async def test_a_note_is_cut_to_what_the_api_takes(sink: FakeSink, recorder: EventRecorder) -> None:
    recorder.record(CACHE, "Normal", "Long", "ä" * 2000)
    await asyncio.sleep(1)
    note = sink.created[0]["note"]
    assert 1020 <= len(note.encode()) <= 1024
    assert note.endswith("ä…")


async def test_an_unreachable_server_gets_them_later_and_not_for_ever(sink: FakeSink, recorder: EventRecorder) -> None:
    sink.errors = [Unreachable("no route"), Unreachable("no route")]
    recorder.record(CACHE, "Normal", "Made", "it")
    await asyncio.sleep(30)
    assert len(sink.created) == 1
    sink.errors = [Unreachable("no route")] * events.MAX_TRIES
    recorder.record(CACHE, "Normal", "Made", "another")
    await asyncio.sleep(600)
    assert len(sink.created) == 1
    assert recorder.dropped == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFound('namespaces "ns" not found', status=404), False),
        (Forbidden("unable to create: because it is being terminated", status=403), False),
        (Forbidden("no such right", status=403), True),
        (Rejected("invalid", status=422), True),
    ],
)
async def test_a_refused_event_is_given_up_and_a_vanished_namespace_is_no_news(
    sink: FakeSink, recorder: EventRecorder, error: ApiError, told: bool
) -> None:
    sink.errors = [error]
    with structlog.testing.capture_logs() as logs:
        recorder.record(CACHE, "Normal", "Made", "it")
        await asyncio.sleep(60)
        recorder.record(CACHE, "Normal", "Made", "another")
        await asyncio.sleep(1)
    assert [event["note"] for event in sink.created] == ["another"]
    assert any(entry["event"] == "an event was not accepted" for entry in logs) is told


async def test_a_lost_answer_makes_no_second_event_and_an_expired_one_is_made_anew(
    sink: FakeSink, recorder: EventRecorder
) -> None:
    sink.errors = [AlreadyExists("it is there", status=409)]
    recorder.record(CACHE, "Normal", "Made", "it")
    await asyncio.sleep(1)
    assert not sink.created
    sink.errors = [NotFound("expired", status=404)]
    recorder.record(CACHE, "Normal", "Made", "it")
    await asyncio.sleep(60)
    assert [event["series"]["count"] for event in sink.created] == [2]


async def test_recording_needs_no_running_sender(sink: FakeSink, clock: VirtualClock) -> None:
    idle = EventRecorder(sink, instance="x", clock=clock, log=structlog.stdlib.get_logger())
    for number in range(10_000):
        idle.record(ObjectReference("v1", "Pod", "ns", f"p{number}", f"u{number}"), "Normal", "Made", "it\ud800")
    assert idle.dropped == 10_000 - events.MAX_SERIES

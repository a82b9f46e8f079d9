"""From a changed object to keys."""

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from memop.informers import Cause, controller_owner, enqueue, own_key
from memop.metrics import QueueMetrics
from memop.refs import Key
from memop.workqueue import WorkQueue
from tests.unit.virtual_time import VirtualClock


@dataclass(frozen=True)
class Ref:
    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class Child:
    name: str
    owner: Ref | None = None
    resource_version: int = 1
    uid: str = "u"

    @property
    def key(self) -> Key:
        return Key("ns", self.name)


def owned_by(name: str, kind: str = "Memcached", api_version: str = "memcached.c5c3.io/v1beta1") -> Child:
    return Child("child", Ref(api_version, kind, name))


def another_owner(old: Child, new: Child) -> bool:
    return old.owner != new.owner


OWNER = controller_owner("memcached.c5c3.io", "Memcached")


@pytest.fixture
def queue(clock: VirtualClock) -> WorkQueue[Key]:
    return WorkQueue("test", clock=clock, metrics=QueueMetrics(CollectorRegistry()))


async def taken(queue: WorkQueue[Key]) -> list[str]:
    return [(await queue.get()).name for _ in range(len(queue))]


async def test_what_a_worker_wrote_itself_is_no_news_to_it_but_to_others(queue: WorkQueue[Key]) -> None:
    handle = enqueue(queue, OWNER)
    queue.add(Key("ns", "mine"))
    held = await queue.get()
    handle(None, owned_by("mine"), Cause.OWN)
    handle(None, owned_by("another"), Cause.OWN)
    queue.done(held)
    assert await taken(queue) == ["another"]
    handle(None, owned_by("mine"), Cause.OWN)
    assert await taken(queue) == ["mine"]


async def test_an_answer_to_a_write_of_our_own_that_shows_what_somebody_else_changed_is_news(
    queue: WorkQueue[Key],
) -> None:
    handle = enqueue(queue, own_key, changed=another_owner)
    queue.add(Key("ns", "child"))
    held = await queue.get()
    handle(owned_by("a"), owned_by("a"), Cause.OWN)
    queue.done(held)
    assert len(queue) == 0
    queue.add(held)
    held = await queue.get()
    handle(owned_by("a"), owned_by("b"), Cause.OWN)
    queue.done(held)
    assert await taken(queue) == ["child"]


async def test_initial_objects_wait_behind_live_ones(queue: WorkQueue[Key]) -> None:
    handle = enqueue(queue, own_key)
    handle(None, Child("old"), Cause.INITIAL)
    handle(None, Child("new"), Cause.TOLD)
    assert await taken(queue) == ["new", "old"]


async def test_both_owners_look_at_a_child_that_changed_hands(queue: WorkQueue[Key]) -> None:
    enqueue(queue, OWNER)(owned_by("a"), owned_by("b"), Cause.TOLD)
    assert await taken(queue) == ["a", "b"]


async def test_the_owner_looks_at_a_child_that_went(queue: WorkQueue[Key]) -> None:
    enqueue(queue, OWNER)(owned_by("a"), None, Cause.TOLD)
    assert await taken(queue) == ["a"]


async def test_an_update_that_does_not_matter_is_passed_over(queue: WorkQueue[Key]) -> None:
    handle = enqueue(queue, own_key, changed=another_owner)
    handle(Child("a"), Child("a", resource_version=2), Cause.TOLD)
    assert len(queue) == 0
    handle(Child("a"), Child("a", resource_version=2, uid="another"), Cause.TOLD)
    handle(None, Child("b"), Cause.TOLD)
    handle(Child("c"), None, Cause.TOLD)
    assert await taken(queue) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("child", "owners"),
    [
        (owned_by("a"), ["a"]),
        (owned_by("a", api_version="memcached.c5c3.io/v1alpha1"), ["a"]),
        (owned_by("a", kind="MemcachedCluster"), []),
        (owned_by("a", api_version="example.com/v1beta1"), []),
        (owned_by("a", api_version="v1"), []),
        (Child("child"), []),
    ],
)
def test_only_an_owner_of_the_group_and_kind_counts(child: Child, owners: list[str]) -> None:
    assert list(OWNER(child)) == [Key("ns", name) for name in owners]

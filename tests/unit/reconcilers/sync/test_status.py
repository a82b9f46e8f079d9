"""Each situation: who decides the size, which it is, and what the status says."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from memop.informers.store import Store
from memop.reconcilers.objects import Live, decoder
from memop.reconcilers.sync.observe import Observed, Unreadable, observe
from memop.reconcilers.sync.source import Source
from memop.reconcilers.sync.status import Verdict, condition, contested, decide, events, rejected
from memop.refs import Key
from tests.unit.reconcilers.memcached.instances import KEY, memcached

Json = dict[str, Any]
NOW, EARLIER = "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


@dataclass
class Workloads:
    sources: dict[tuple[str, str], Source] = field(default_factory=dict)  # kind and name
    refusal: str = ""

    def labelled(self, pool: Key) -> list[Source]:
        if self.refusal:
            raise Unreadable(self.refusal)
        return [source for (kind, _), source in self.sources.items() if (kind, source.feeds) == (D, pool.name)]

    def named(self, kind: str, key: Key) -> Source | None:
        if self.refusal:
            raise Unreadable(self.refusal)
        return self.sources.get((kind, key.name))


D, S = "Deployment", "StatefulSet"


def workloads(*sources: tuple[str, Source]) -> Workloads:
    return Workloads({(kind, source.key.name): source for kind, source in sources})


def source(name: str, replicas: int, feeds: str = "", **more: Any) -> Source:
    known: Json = {"uid": f"{name}-uid", "resource_version": 5, "deleting": False, "made_for": ""}
    return Source(key=Key(KEY.namespace, name), replicas=replicas, feeds=feeds, **{**known, **more})


def labelled(name: str = "web", replicas: int = 5, feeds: str = "cache", **more: Any) -> tuple[str, Source]:
    return D, source(name, replicas, feeds, **more)


def follow(name: str = "web", kind: str = D, **bounds: int) -> Json:
    return {"replicasFrom": {"kind": kind, "name": name, **bounds}}


def told(reason: str, generation: int = 1, message: str = "before") -> Json:
    """A status with our condition."""
    holds = "True" if reason in ("Synced", "Clamped") else "False"
    ours = {"type": "ReplicasSynced", "status": holds, "reason": reason, "message": message}
    stamps = {"observedGeneration": generation, "lastTransitionTime": EARLIER}
    other = {"type": "Ready", "status": "True", "reason": "MemcachedReady", "message": ""}
    return {"conditions": [{**other, **stamps}, {**ours, **stamps}]}


def live(raw: bytes) -> Live:
    return decoder("memop-memcached", subresource="status")(raw)


def seen(known: Workloads, spec: Json, *others: Live, **around: Any) -> Observed | None:
    store: Store[Live] = Store()
    crs = [live(memcached(spec, **around)), *others]
    store.listed("", {cr.key: cr for cr in crs}, 100)
    return observe(KEY, memcacheds=store.reader, workloads=known)


def verdict(known: Workloads, spec: Json, *others: Live, **around: Any) -> Verdict:
    observed = seen(known, spec, *others, **around)
    assert observed is not None
    return decide(observed)


AUTOSCALED: Json = {"autoscaling": {"enabled": True, "maxReplicas": 3}}
CLUSTER: Json = {"apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "MemcachedCluster", "name": "big", "uid": "b"}
PAUSED: Json = {"annotations": {"memcached.c5c3.io/paused": "true"}}
DELETING: Json = {"deleting": True}
TWO = (labelled("web", 5), labelled("api", 3))

SITUATIONS: dict[str, tuple[Workloads, Json, Json, str, int | None]] = {
    # name: workloads, spec, around it; reason, size
    "nothing is labelled": (workloads(labelled(feeds="other")), {"replicas": 2}, {}, "", None),
    "a label": (workloads(labelled()), {"replicas": 2}, {}, "Synced", 5),
    "a label, the same size": (workloads(labelled()), {"replicas": 5}, {}, "Synced", 5),
    "a label, no size yet": (workloads(labelled(replicas=1)), {}, {}, "Synced", 1),
    "a label, scaled to zero": (workloads(labelled(replicas=0)), {"replicas": 2}, {}, "Synced", 0),
    "a label, the largest": (workloads(labelled(replicas=64)), {}, {}, "Synced", 64),
    "a label, too large": (workloads(labelled(replicas=65)), {}, {}, "Clamped", 64),
    "a StatefulSet's label": (workloads((S, source("web", 5, "cache"))), {"replicas": 2}, {}, "", None),
    "two labels": (workloads(*TWO), {"replicas": 2}, {}, "ConflictingSources", None),
    "two labels of one size": (
        workloads(labelled("web"), labelled("api")),
        {"replicas": 2},
        {},
        "ConflictingSources",
        None,
    ),
    "two labels, one deleted": (workloads(TWO[0], labelled("api", 3, **DELETING)), {}, {}, "Synced", 5),
    "a label, being deleted": (workloads(labelled(**DELETING)), {"replicas": 2}, {}, "", None),
    "a label, being deleted, and was followed": (
        workloads(labelled(**DELETING)),
        {"replicas": 5},
        {"status": told("Synced")},
        "SourceNotFound",
        None,
    ),
    "the label is gone": (workloads(), {"replicas": 5}, {"status": told("Synced")}, "SourceNotFound", None),
    "the label is long gone": (workloads(), {}, {"status": told("SourceNotFound")}, "SourceNotFound", None),
    "the label is gone, was clamped": (workloads(), {}, {"status": told("Clamped")}, "SourceNotFound", None),
    "both labels are gone": (workloads(), {}, {"status": told("ConflictingSources")}, "SourceNotFound", None),
    "the label is gone, and the spec is another": (
        workloads(),
        {},
        {"status": told("SourceNotFound"), "generation": 2},
        "",
        None,
    ),
    "a label gone that was overruled": (workloads(), AUTOSCALED, {"status": told("Autoscaled")}, "", None),
    "a label gone that was its own": (workloads(), {}, {"status": told("FollowsItself")}, "", None),
    "a label is back": (workloads(labelled()), {}, {"status": told("SourceNotFound")}, "Synced", 5),
    "replicasFrom": (workloads((D, source("web", 5))), follow(), {}, "Synced", 5),
    "replicasFrom, a StatefulSet": (
        workloads((S, source("web", 4)), (D, source("web", 5))),
        follow(kind=S),
        {},
        "Synced",
        4,
    ),
    "replicasFrom, scaled to zero": (workloads((D, source("web", 0))), follow(), {}, "Synced", 0),
    "replicasFrom, below min": (workloads((D, source("web", 0))), follow(min=2), {}, "Clamped", 2),
    "replicasFrom, above max": (workloads((D, source("web", 5))), follow(max=4), {}, "Clamped", 4),
    "replicasFrom, at its bounds": (workloads((D, source("web", 4))), follow(min=4, max=4), {}, "Synced", 4),
    "replicasFrom, above all": (workloads((D, source("web", 2147483647))), follow(), {}, "Clamped", 64),
    "replicasFrom wins over labels": (workloads(*TWO, (S, source("web", 4))), follow(kind=S), {}, "Synced", 4),
    "replicasFrom, nobody there": (workloads(labelled("api")), follow(), {}, "SourceNotFound", None),
    "replicasFrom, being deleted": (workloads((D, source("web", 5, **DELETING))), follow(), {}, "SourceNotFound", None),
    "replicasFrom is gone": (workloads(), {"replicas": 5}, {"status": told("Synced"), "generation": 2}, "", None),
    "autoscaled with a label": (workloads(labelled()), AUTOSCALED, {}, "Autoscaled", None),
    "autoscaled with two labels": (workloads(*TWO), AUTOSCALED, {}, "Autoscaled", None),
    "autoscaled with replicasFrom": (
        workloads((D, source("web", 5))),
        {**AUTOSCALED, **follow()},
        {},
        "Autoscaled",
        None,
    ),
    "autoscaling is off": (workloads(labelled()), {"autoscaling": {"enabled": False}}, {}, "Synced", 5),
    "autoscaled, no label": (workloads(), AUTOSCALED, {}, "", None),
    "part of a cluster": (
        workloads(labelled()),
        {"replicas": 2},
        {"ownerReferences": [{**CLUSTER, "controller": True}]},
        "ClusterDecides",
        None,
    ),
    "part of a cluster, two labels": (
        workloads(*TWO),
        {"replicas": 2},
        {"ownerReferences": [{**CLUSTER, "controller": True}]},
        "ClusterDecides",
        None,
    ),
    "part of a cluster, no label": (
        workloads(),
        {"replicas": 2},
        {"ownerReferences": [{**CLUSTER, "controller": True}]},
        "",
        None,
    ),
    "owned by another": (
        workloads(labelled()),
        {},
        {"ownerReferences": [{**CLUSTER, "apiVersion": "example.com/v1", "controller": True}]},
        "Synced",
        5,
    ),
    "paused": (workloads(labelled()), {"replicas": 2}, PAUSED, "Paused", None),
    "paused at the right size": (workloads(labelled()), {"replicas": 5}, PAUSED, "Synced", 5),
    "not paused": (
        workloads(labelled()),
        {"replicas": 2},
        {"annotations": {"memcached.c5c3.io/paused": "false"}},
        "Synced",
        5,
    ),
    "paused, two labels": (workloads(*TWO), {"replicas": 2}, PAUSED, "ConflictingSources", None),
    "may not be read": (Workloads(refusal="forbidden"), follow(), {}, "SourceUnreadable", None),
    "labels may not be read": (Workloads(refusal="no"), {"replicas": 2}, {}, "", None),
    "labels may no longer be read": (
        Workloads(refusal="no"),
        {"replicas": 2},
        {"status": told("Synced")},
        "SourceUnreadable",
        None,
    ),
    "its own workload": (workloads(labelled(made_for="cache")), {"replicas": 2}, {}, "FollowsItself", None),
    "its own StatefulSet": (
        workloads((S, source("cache", 2, made_for="cache"))),
        {"replicas": 2, **follow("cache", S)},
        {},
        "FollowsItself",
        None,
    ),
    "another pool": (workloads(labelled("b", made_for="b")), {"replicas": 2}, {}, "Synced", 5),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_who_decides_the_size(situation: str) -> None:
    known, spec, around, reason, size = SITUATIONS[situation]
    decided = verdict(known, spec, **around)
    assert (decided.reason, decided.size) == (reason, size)


def pool(name: str, spec: Json, **metadata: Any) -> Live:
    return live(memcached(spec, name=name, uid=name, version=9, **metadata))


def own(name: str, feeds: str, replicas: int = 3, kind: str = D) -> tuple[str, Source]:
    """The workload of a pool, labelled for another."""
    return kind, source(name, replicas, feeds, made_for=name)


@pytest.mark.parametrize(
    ("known", "others", "way"),
    [
        ((own("b", "cache"), own("cache", "b")), [pool("b", {})], "cache → b → cache"),
        (
            (own("b", "cache"), own("c", "b"), own("cache", "c")),
            [pool("b", {}), pool("c", {})],
            "cache → b → c → cache",
        ),
        (
            (own("b", "cache"), own("cache", "", kind=S)),
            [pool("b", {**follow("cache", S), "replicas": 4})],
            "cache → b → cache",
        ),
    ],
)
def test_of_a_circle_no_pool_changes(known: tuple[tuple[str, Source], ...], others: list[Live], way: str) -> None:
    decided = verdict(workloads(*known), {"replicas": 2}, *others)
    assert (decided.reason, decided.size) == ("FollowsItself", None)
    assert decided.message.endswith(way)


@pytest.mark.parametrize(
    "others",
    [
        [pool("b", AUTOSCALED)],
        [pool("b", {}, ownerReferences=[{**CLUSTER, "controller": True}])],
        [pool("b", {}, deletionTimestamp=NOW)],
        [],
    ],
)
def test_what_somebody_else_decides_is_no_part_of_a_circle(others: list[Live]) -> None:
    decided = verdict(workloads(own("b", "cache"), own("cache", "b")), {"replicas": 2}, *others)
    assert (decided.reason, decided.size) == ("Synced", 3)


def test_a_conflict_is_no_part_of_a_circle() -> None:
    known = workloads(own("b", "cache"), own("cache", "b"), labelled("web", feeds="b"))
    assert verdict(known, {"replicas": 2}, pool("b", {})).reason == "Synced"


def test_who_follows_one_of_a_circle_follows_what_stays() -> None:
    circle = [pool("b", {}), pool("c", {**follow("b"), "replicas": 3})]
    decided = verdict(workloads(own("b", "cache"), own("c", "b")), {"replicas": 2}, *circle)
    assert (decided.reason, decided.size) == ("Synced", 3)


def test_messages_name_the_sources_in_order() -> None:
    assert verdict(workloads(*TWO), {}).message == (
        "the size stays as it is, until only one of Deployments api, web has the label"
    )
    assert verdict(workloads(labelled(replicas=99)), {}).message == (
        "64 pods, as 0 to 64 are allowed; Deployment web has 99 replicas"
    )
    assert verdict(workloads(), follow(kind=S)).message == "the size stays as it is, as there is no StatefulSet web"


@pytest.mark.parametrize("raw", [{"replicas": "3"}, {"replicasFrom": {"kind": "DaemonSet", "name": "web"}}])
def test_a_spec_that_cannot_be_read_is_left_alone(raw: Json) -> None:
    assert seen(workloads(labelled()), raw) is None


@pytest.mark.parametrize("metadata", [{"deletionTimestamp": NOW}, {"name": "other"}])
def test_a_cr_that_is_gone_or_going_is_left_alone(metadata: Json) -> None:
    assert seen(workloads(labelled()), {}, **metadata) is None


@pytest.mark.parametrize("status", [{"conditions": [{"type": "ReplicasSynced", "status": 3}]}, {"conditions": []}])
def test_a_status_that_cannot_be_read_tells_nothing(status: Json) -> None:
    assert verdict(workloads(), {}, status=status).reason == ""


# --- The condition

SYNCED = Verdict("Synced", "Deployment web has 5 replicas", 5)


def stated(verdict: Verdict, status: Json, generation: int = 1) -> Json | None:
    return condition(verdict, live(memcached(status=status, generation=generation)), NOW)


def test_a_condition_that_is_told_is_not_told_again() -> None:
    assert stated(SYNCED, told("Synced", message=SYNCED.message)) is None


@pytest.mark.parametrize(
    ("before", "time"),
    [
        ({}, NOW),
        (told("ConflictingSources"), NOW),
        (told("Clamped"), EARLIER),
        (told("Synced", message="Deployment web has 4 replicas"), EARLIER),
        (told("Synced", generation=2, message=SYNCED.message), EARLIER),
    ],
)
def test_a_condition_that_differs_is_told(before: Json, time: str) -> None:
    assert stated(SYNCED, before) == {
        "type": "ReplicasSynced",
        "status": "True",
        "reason": "Synced",
        "message": SYNCED.message,
        "observedGeneration": 1,
        "lastTransitionTime": time,
    }


@pytest.mark.parametrize(
    ("verdict", "holds", "words"),
    [
        (SYNCED, "True", "has 5 replicas"),
        (Verdict("Clamped", "64 pods", 64), "True", "64 pods"),
        (rejected(SYNCED, "no room"), "False", "5 is refused: no room"),
        (contested(SYNCED), "False", "an admission webhook or policy changes"),
        (Verdict("Autoscaled", "no"), "False", "no"),
    ],
)
def test_a_size_that_was_not_taken_does_not_hold(verdict: Verdict, holds: str, words: str) -> None:
    applied = stated(verdict, {})
    assert applied is not None
    assert applied["status"] == holds
    assert words in applied["message"]


# --- Events


def news(known: Workloads, spec: Json, **around: Any) -> list[tuple[str, str, str]]:
    observed = seen(known, spec, **around)
    assert observed is not None
    return [(e.about.kind, e.about.name, e.reason) for e in events(observed, decide(observed))]


CONFLICT = [
    ("Memcached", "cache", "ConflictingSources"),
    ("Deployment", "api", "ConflictingSources"),
    ("Deployment", "web", "ConflictingSources"),
]


def test_of_a_conflict_all_are_told() -> None:
    assert news(workloads(*TWO), {}) == CONFLICT
    assert news(workloads(*TWO), {}, status=told("Synced")) == CONFLICT
    assert news(workloads(*TWO), {}, status=told("ConflictingSources", message="other names")) == CONFLICT
    before = verdict(workloads(*TWO), {}).message
    assert news(workloads(*TWO), {}, status=told("ConflictingSources", generation=7, message=before)) == []


@pytest.mark.parametrize(
    ("known", "spec", "around", "told_of"),
    [
        (workloads(), follow(), {}, ["SourceNotFound"]),
        (workloads(), {}, {"status": told("Synced")}, ["SourceNotFound"]),
        (Workloads(refusal="no"), follow(), {}, ["SourceUnreadable"]),
        (workloads(labelled(made_for="cache")), {}, {}, ["FollowsItself"]),
        (workloads(labelled()), AUTOSCALED, {}, []),
        (workloads(labelled()), {}, PAUSED, []),
        (workloads(labelled()), {}, {}, []),
        (workloads(labelled(replicas=99)), {}, {}, []),
        (workloads(), {}, {}, []),
    ],
)
def test_trouble_is_told_of_and_wishes_are_not(known: Workloads, spec: Json, around: Json, told_of: list[str]) -> None:
    assert [reason for _, _, reason in news(known, spec, **around)] == told_of

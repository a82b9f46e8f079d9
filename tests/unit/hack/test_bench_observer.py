"""When a CR has all it should, told by watch events in any order."""

from itertools import count
from typing import Any, cast

import msgspec
import pytest

from hack.bench.api import Api
from hack.bench.errors import BenchError
from hack.bench.features import FULL, PLAIN, Features
from hack.bench.observer import Observer


class Watched:
    """An observer and the events that it is told, one second after another."""

    def __init__(self, features: Features = PLAIN) -> None:
        seconds = count()
        self.observer = Observer(cast("Api", None), features.children, clock=lambda: float(next(seconds)))

    def cr(self, *, generation: int = 1, observed: int = 0, replicas: int = 2) -> None:
        meta = {"name": "a", "namespace": "ns", "uid": "u1", "generation": generation, "resourceVersion": "5"}
        self._event("Memcached", meta, spec={"replicas": replicas}, status={"observedGeneration": observed})

    def child(self, kind: str, owner: str = "u1", type_: str = "ADDED", replicas: int = 2) -> None:
        reference = {"uid": owner, "controller": True}
        meta = {"name": "a", "namespace": "ns", "uid": kind, "ownerReferences": [reference]}
        self._event(kind, meta, type_, spec={"replicas": replicas} if kind == "Deployment" else {})

    def _event(self, kind: str, meta: dict[str, Any], type_: str = "MODIFIED", **fields: Any) -> None:
        self.observer.event(kind, msgspec.json.encode({"type": type_, "object": {"metadata": meta, **fields}}))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_cr_is_converged_with_both_children_and_a_status_of_its_generation(watched: Watched) -> None:
    watched.observer.expect({"ns/a": None})
    watched.cr()
    watched.child("Deployment")
    watched.cr(observed=1)
    assert watched.observer.missing() == "of 1 CRs 1 lack Service"
    assert not watched.observer.converged.is_set()
    watched.child("Service")

    assert watched.observer.converged.is_set()


def test_a_full_cr_is_converged_with_all_five_children() -> None:
    watched = Watched(FULL)
    watched.observer.expect({"ns/a": None})
    watched.cr(observed=1)
    for kind in ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"):
        watched.child(kind)
    assert watched.observer.missing() == "of 1 CRs 1 lack ServiceMonitor"
    watched.child("ServiceMonitor")

    assert watched.observer.converged.is_set()


def test_children_may_be_seen_before_their_cr(watched: Watched) -> None:
    watched.observer.expect({"ns/a": None})
    watched.child("Deployment")
    watched.child("Service")
    assert watched.observer.missing() == "of 1 CRs 1 lack the CR itself"
    watched.cr(observed=1)

    assert watched.observer.converged.is_set()
    assert watched.observer.by_key()["ns/a"].children["Deployment"] == 0.0


def test_a_child_of_another_uid_is_not_the_cr_s(watched: Watched) -> None:
    watched.observer.expect({"ns/a": None})
    watched.cr(observed=1)
    watched.child("Deployment", owner="earlier")
    watched.child("Service")

    assert watched.observer.missing() == "of 1 CRs 1 lack Deployment"


def test_new_replicas_are_there_when_the_deployment_has_them_and_the_status_knows(watched: Watched) -> None:
    watched.cr(observed=1)
    watched.child("Deployment")
    watched.child("Service")
    watched.observer.expect({"ns/a": 7})
    assert watched.observer.missing() == "of 1 CRs 1 lack its Deployment's replicas"
    # The Deployment's watch is ahead: the status that is known is that of the old generation.
    watched.child("Deployment", replicas=7)
    assert not watched.observer.converged.is_set()
    watched.cr(generation=2, observed=1, replicas=7)
    assert not watched.observer.converged.is_set()
    watched.cr(generation=2, observed=2, replicas=7)

    assert watched.observer.converged.is_set()


def test_a_wish_that_changes_takes_convergence_back(watched: Watched) -> None:
    watched.observer.expect({"ns/a": 2})
    watched.cr(observed=1)
    watched.child("Deployment")
    watched.child("Service")
    assert watched.observer.converged.is_set()
    watched.observer.want("ns/a", 9)

    assert not watched.observer.converged.is_set()
    assert watched.observer.done == 0


def test_a_child_that_is_deleted_is_missing(watched: Watched) -> None:
    watched.observer.expect({"ns/a": None})
    watched.cr(observed=1)
    watched.child("Deployment")
    watched.child("Service")
    watched.child("Service", type_="DELETED")

    assert watched.observer.missing() == "of 1 CRs 1 lack Service"
    assert not watched.observer.converged.is_set()


def test_a_watch_goes_on_after_the_last_version_or_starts_anew_when_that_is_gone(watched: Watched) -> None:
    bookmark = b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}'
    gone = b'{"type": "ERROR", "object": {"kind": "Status", "metadata": {}, "code": 410}}'

    assert watched.observer.event("Memcached", bookmark) == "12"
    assert watched.observer.event("Memcached", gone) == ""
    with pytest.raises(BenchError, match="watch of Memcached"):
        watched.observer.event("Memcached", gone.replace(b"410", b"500"))

"""A converged object costs nothing: not when it is touched, not when memop restarts. Counted by the API server."""

import json
import time
from collections import Counter
from pathlib import Path

from tests.support.apiserver import writes
from tests.support.kubectl import Kubectl, eventually, memcached
from tests.support.operator import Operator

CRS = 500


def test_touching_and_restarting_over_500_converged_crs_writes_nothing(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.apply(*(memcached(f"pool-{number}", replicas=number % 5) for number in range(CRS)))
    before = writes(kubectl)
    with Operator(tmp_path / "cold.log", f"--watch-namespaces={kubectl.namespace}") as operator:
        started = time.monotonic()
        eventually(lambda: assert_converged(kubectl), timeout=120)
        print(f"\n{CRS} CRs converged after {time.monotonic() - started:.1f} s")  # noqa: T201 - a figure, for pytest -s
        cold = settled(kubectl, operator) - before
        assert cold["APPLY deployments"] == cold["APPLY services"] == cold["APPLY memcacheds/status"] == CRS
        touched = settled(kubectl, operator)
        kubectl("annotate", "memcacheds", "--all", "touched=yes")
        eventually(lambda: assert_reconciled(operator, more_than=CRS), timeout=60)
        assert +(settled(kubectl, operator) - touched) == {"PATCH memcacheds": CRS}  # the annotations themselves
    restarted = writes(kubectl)
    with Operator(tmp_path / "restart.log", f"--watch-namespaces={kubectl.namespace}") as operator:
        eventually(lambda: assert_reconciled(operator, more_than=CRS - 1), timeout=60)
        assert +(settled(kubectl, operator) - restarted) == {}


def assert_converged(kubectl: Kubectl) -> None:
    """Each CR has its Deployment and Service, and a status that says so."""
    crs = {cr["metadata"]["name"]: cr for cr in kubectl.list("memcacheds")}
    for kind in ("deployments", "services"):
        made = {child["metadata"]["name"] for child in kubectl.list(kind)}
        assert made == crs.keys(), f"{len(made)} of {len(crs)} {kind}"
    told = [cr for cr in crs.values() if cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"]]
    assert len(told) == len(crs), f"{len(told)} of {len(crs)} have a status"
    for child in kubectl.list("deployments"):
        assert child["spec"]["replicas"] == crs[child["metadata"]["name"]]["spec"]["replicas"]


def assert_reconciled(operator: Operator, *, more_than: int) -> None:
    total = sum(
        float(line.split()[-1])
        for line in operator.metrics().splitlines()
        if line.startswith('controller_runtime_reconcile_total{controller="memcached"')
    )
    assert total > more_than, f"{total} reconciles"


def settled(kubectl: Kubectl, operator: Operator, quiet: float = 3.0) -> Counter[str]:
    """The writes so far, once the queue is empty and none came for `quiet` seconds."""

    def assert_idle() -> Counter[str]:
        assert 'workqueue_depth{controller="memcached",name="memcached"} 0.0' in operator.metrics()
        first = writes(kubectl)
        time.sleep(quiet)
        assert writes(kubectl) == first, json.dumps(writes(kubectl) - first)
        return first

    return eventually(assert_idle, timeout=60)

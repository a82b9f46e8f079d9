"""Fault tests: memop behind a proxy that makes trouble, on a cluster of level 2. `make test-faults` runs them."""

import subprocess
import sys

import pytest

from tests.support import crds as definitions
from tests.support.fixtures import cluster, kubectl, start_operator
from tests.support.fixtures import crds as own_crds
from tests.support.kubectl import Json, Kubectl, eventually

ORPHAN = "of-an-owner-that-never-was"


@pytest.fixture(scope="session")
def crds(own_crds: None, worker_id: str) -> None:
    """memop's CRDs, the foreign kinds', and those of the kinds that it makes where a cluster serves them.

    Garbage collection learns of a new kind within half a minute. Until then it does not orphan such objects with their
    owner, and deletes them once it does.
    """
    home = Kubectl("default")
    command = (sys.executable, "-m", "memop.cli", "crds", "--compat")
    home.install(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for path in (definitions.servicemonitors(), definitions.certificates()):
        home.install(path.read_text())
    name = f"{ORPHAN}-{worker_id}"
    home.apply(
        _orphan("monitoring.coreos.com/v1", "ServiceMonitor", name, {"selector": {}, "endpoints": []}),
        _orphan("cert-manager.io/v1", "Certificate", name, {"secretName": "none", "issuerRef": {"name": "none"}}),
        _orphan("memcached.c5c3.io/v1beta1", "Memcached", ORPHAN, {}),
        _orphan("memcached.c5c3.io/v1alpha1", "MemcachedCluster", ORPHAN, {}),
    )

    def assert_collected() -> None:
        kinds = ("servicemonitor", "certificate", "memcacheds", "memcachedclusters.memcached.c5c3.io")
        left = home("get", ",".join(kinds), "-o", "name").stdout.split()
        assert not left, f"garbage collection does not know all kinds yet: {left}"

    eventually(assert_collected, timeout=90, interval=1)


def _orphan(api_version: str, kind: str, name: str, spec: Json) -> Json:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": ORPHAN, "uid": "00000000-0000-4000-8000-000000000000"}
    metadata = {"name": name, "ownerReferences": [owner]}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


__all__ = ["cluster", "crds", "kubectl", "own_crds", "start_operator"]

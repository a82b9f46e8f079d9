"""Fault tests: memop behind a proxy that makes trouble, on a cluster of level 2. `make test-faults` runs them."""

from tests.support.fixtures import cluster, crds, kubectl, start_operator

__all__ = ["cluster", "crds", "kubectl", "start_operator"]

"""Tests against real pods: what users see. `make test-e2e` runs them."""

from tests.support.fixtures import cluster, crds, kubectl, operator, start_operator

__all__ = ["cluster", "crds", "kubectl", "operator", "start_operator"]

"""Tests against a real API server alone: what it accepts, stores and counts. `make test-api` runs them."""

from tests.support.fixtures import cluster, crds, kubectl, operator, start_operator

__all__ = ["cluster", "crds", "kubectl", "operator", "start_operator"]

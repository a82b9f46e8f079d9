"""Fault tests: memop behind a proxy that makes trouble, on a cluster of level 2. `make test-faults` runs them."""

import pytest

from tests.support import crds as definitions
from tests.support.fixtures import cluster, kubectl, start_operator
from tests.support.fixtures import crds as own_crds
from tests.support.kubectl import Kubectl


@pytest.fixture(scope="session")
def crds(own_crds: None) -> None:
    """memop's CRDs, and those of the kinds that it makes where a cluster serves them."""
    for path in (definitions.servicemonitors(), definitions.certificates()):
        Kubectl("default").install(path.read_text())


__all__ = ["cluster", "crds", "kubectl", "own_crds", "start_operator"]

"""Tests against real pods: what users see. `make test-e2e` runs them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import service_account
from tests.support.fixtures import cluster, crds, kubectl, operator, start_operator
from tests.support.operator import Operator

__all__ = ["cluster", "crds", "kubectl", "operator", "start_operator"]


@pytest.fixture(scope="session", autouse=True)
def rights(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """memop acts with the rights of the shipped manifests, and asks for nothing beyond them in any test.

    The API server's audit log tells, which `make test-e2e` turns on and $MEMOP_TEST_AUDIT_LOG names; on a developer's
    own cluster, where that is not set, memop has the same rights and nobody looks.
    """
    service_account.install()
    Operator.kubeconfig = service_account.kubeconfig(tmp_path_factory.mktemp("memop"))
    yield
    Operator.kubeconfig = None
    if "MEMOP_TEST_AUDIT_LOG" not in os.environ:
        return
    log = Path(os.environ["MEMOP_TEST_AUDIT_LOG"])
    assert any(service_account.audited(log)), f"{log} tells nothing of {service_account.USER}"
    assert not service_account.refused(log)

"""Fixtures of every test against a real cluster; KUBECONFIG comes from `python -m hack.cluster exec`."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.operator import Operator

OperatorFactory = Callable[..., Operator]
CRD = "memcacheds.memcached.c5c3.io"


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Refuse to run against whatever cluster the user's own kubeconfig names."""
    if "KUBECONFIG" not in os.environ:
        pytest.exit("no KUBECONFIG: run these through `make test-api` or `make test-e2e`", returncode=2)


@pytest.fixture(scope="session")
def crds(cluster: None) -> None:
    """memop's CRDs, as `memop crds | kubectl apply --server-side -f -` installs them."""
    printed = subprocess.run([sys.executable, "-m", "memop.cli", "crds"], capture_output=True, text=True, check=True)
    Kubectl("default").install(printed.stdout)


@pytest.fixture
def kubectl(crds: None) -> Iterator[Kubectl]:
    """kubectl in a namespace that the test has for itself."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    kubectl = Kubectl(namespace)
    kubectl("create", "namespace", namespace)
    yield kubectl
    kubectl("delete", "memcacheds", "--all", "--wait=false")
    kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def start_operator(tmp_path: Path, kubectl: Kubectl) -> Iterator[OperatorFactory]:
    """Start `memop run` with flags, watching the test's own namespace unless told otherwise; stopped at the end."""
    started: list[Operator] = []

    def start(*flags: str, all_namespaces: bool = False, ready: bool = True) -> Operator:
        scope = () if all_namespaces else (f"--watch-namespaces={kubectl.namespace}",)
        operator = Operator(tmp_path / f"memop-{len(started)}.log", *scope, *flags)
        started.append(operator)
        operator.start(ready=ready)
        return operator

    yield start
    for operator in started:
        operator.__exit__()


@pytest.fixture
def operator(start_operator: OperatorFactory) -> Operator:
    """memop, running and ready."""
    return start_operator()


__all__ = ["cluster", "crds", "kubectl", "operator", "start_operator"]

"""Definitions of kinds that a cluster may lack, as their projects publish them: `kubectl apply --server-side -f`."""

from pathlib import Path

from hack.cluster.crds import CrdStore
from hack.cluster.layout import cache_dir
from hack.cluster.progress import Progress
from hack.cluster.versions import crds, load_versions


def servicemonitors() -> Path:
    """The Prometheus operator's."""
    return _definition("servicemonitors.monitoring.coreos.com")


def certificates() -> Path:
    """cert-manager's."""
    return _definition("certificates.cert-manager.io")


def _definition(name: str) -> Path:
    """From the cache, which `up` filled: a node's network, where tests run, leads nowhere."""
    crd = crds(load_versions())[name]
    store = CrdStore(cache_dir(), Progress())
    store.ensure([crd])
    return store.cached(crd)

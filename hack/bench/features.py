"""What the CRs of a bench ask for, and what that takes: plain ones the least, full ones everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.cluster.crds import CrdStore
from hack.cluster.layout import cache_dir
from hack.cluster.progress import Progress
from hack.cluster.versions import Crd, crds, load_versions


@dataclass(frozen=True, eq=False)
class Features:
    """`spec` is every CR's, besides its replicas; `children` are what an operator makes of it: kind -> collection."""

    name: str
    children: Mapping[str, str]
    spec: Mapping[str, Any] = field(default_factory=dict)
    secret: str = ""  # made in every namespace
    definitions: tuple[str, ...] = ()  # CRDs besides memop's
    quiet: float = 0.03  # of a CPU: an operator that uses less has nothing to do

    def crds(self) -> list[Path]:
        """The files of `definitions`, which `fetch` has put there."""
        store = CrdStore(cache_dir(), Progress())
        return [store.cached(crd) for crd in self._pinned()]

    def fetch(self, progress: Progress) -> None:
        """Raises: ClusterError."""
        CrdStore(cache_dir(), progress).ensure(self._pinned())

    def _pinned(self) -> list[Crd]:
        known = crds(load_versions())
        return [known[name] for name in self.definitions]


_PLAIN = {"Deployment": "/apis/apps/v1/deployments", "Service": "/api/v1/services"}
_TLS = "bench-tls"
PLAIN = Features("plain", _PLAIN)
FULL = Features(
    "full",
    {
        **_PLAIN,
        "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
        "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
        "ServiceMonitor": "/apis/monitoring.coreos.com/v1/servicemonitors",
    },
    {
        "highAvailability": {
            "antiAffinityPreset": "soft",
            # Valid with any number of replicas, none included.
            "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
            "gracefulShutdown": {"enabled": True},
        },
        "monitoring": {"enabled": True, "serviceMonitor": {}},
        "security": {
            "tls": {"enabled": True, "certificateSecretRef": {"name": _TLS}},
            "networkPolicy": {"enabled": True},
        },
    },
    secret=_TLS,
    # Certificates are not made here, and yet an operator may watch them, and would try again and again.
    definitions=("servicemonitors.monitoring.coreos.com", "certificates.cert-manager.io"),
    # Secrets are read again on schedule: that never ends, and is no work of a phase.
    quiet=0.3,
)

"""Pod templates, whole: what a release builds for a spec, the next one builds, too.

A pod template that changes replaces the pods of everybody who has such a CR, and their caches with them, as soon as
memop is upgraded.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop.reconcilers.memcached.workload import pod_template
from tests.unit.reconcilers.memcached.instances import instance

GOLDEN = Path(__file__).parent / "golden"
REWRITE = "MEMOP_REWRITE_GOLDEN"

SASL = {"sasl": {"enabled": True, "credentialsSecretRef": {"name": "users"}}}
TLS = {"enabled": True, "certificateSecretRef": {"name": "pair"}}
EVERYTHING: dict[str, Any] = {
    "image": "mirror:5000/memcached:1.6.38",
    "resources": {"requests": {"cpu": "1"}},
    "memcached": {
        "maxMemoryMB": 1024,
        "maxConnections": 4096,
        "threads": 8,
        "maxItemSize": "8m",
        "verbosity": 2,
        "extraArgs": ["-F"],
    },
    "highAvailability": {
        "antiAffinityPreset": "hard",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "gracefulShutdown": {"enabled": True, "preStopDelaySeconds": 20, "terminationGracePeriodSeconds": 60},
    },
    "monitoring": {
        "enabled": True,
        "exporterImage": "mirror:5000/exporter:1",
        "exporterResources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "serviceMonitor": {},
    },
    "security": {
        "podSecurityContext": {"fsGroup": 11211},
        "containerSecurityContext": {"runAsUser": 1000},
        **SASL,
        "tls": {"enabled": True, "issuerRef": {"name": "ca"}, "enableClientCert": True},
        "networkPolicy": {"enabled": True},
    },
    "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 5},
    "podIdentity": "Stable",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "cache", "operator": "Exists"}],
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "pull"}],
    "podLabels": {"team": "blue"},
    "podAnnotations": {"mesh/inject": "false"},
}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "image": {"image": "mirror:5000/memcached:1.6.38"},
    "image-by-digest": {"image": "memcached@sha256:" + "0" * 64},
    "resources": {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
    "memcached": {"memcached": EVERYTHING["memcached"]},
    "high-availability": {"highAvailability": {}},
    "anti-affinity-hard": {"highAvailability": {"antiAffinityPreset": "hard"}},
    "topology-spread": {
        "highAvailability": {
            "topologySpreadConstraints": EVERYTHING["highAvailability"]["topologySpreadConstraints"],
        }
    },
    "pod-disruption-budget": {"highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": 0}}},
    "graceful-shutdown": {"highAvailability": {"gracefulShutdown": {"enabled": True}}},
    "monitoring": {"monitoring": {"enabled": True}},
    "service-monitor": {"monitoring": {"enabled": True, "serviceMonitor": {}}},
    "pod-security-context": {"security": {"podSecurityContext": {"fsGroup": 11211, "runAsUser": 1000}}},
    "container-security-context": {"security": {"containerSecurityContext": {"readOnlyRootFilesystem": False}}},
    "sasl": {"security": SASL},
    "tls": {"security": {"tls": TLS}},
    "tls-client-certificates": {"security": {"tls": {**TLS, "enableClientCert": True}}},
    "tls-allow-plaintext": {"security": {"tls": {**TLS, "allowPlaintext": True}}},
    "tls-issuer": {"security": {"tls": {"enabled": True, "issuerRef": {"name": "ca"}}}},
    "tls-monitoring": {"security": {"tls": TLS}, "monitoring": {"enabled": True}},
    "network-policy": {"security": {"networkPolicy": {"enabled": True}}},
    "autoscaling": {"autoscaling": {"enabled": True, "maxReplicas": 5}},
    "stable": {"podIdentity": "Stable"},
    "service": {"service": {"annotations": {"a": "b"}, "publishNotReadyAddresses": True}},
    "scheduling": {name: EVERYTHING[name] for name in ("nodeSelector", "tolerations", "priorityClassName")},
    "image-pull-secrets": {"imagePullSecrets": [{"name": "pull"}]},
    "pod-labels": {"podLabels": {"team": "blue"}},
    "pod-annotations": {"podAnnotations": {"mesh/inject": "false"}},
    "everything": EVERYTHING,
}
AROUND: dict[str, dict[str, Any]] = {
    "secret-hash": {"secret_hash": "0123456789abcdef"},
    "restart-trigger": {"restart_trigger": "2026-01-01"},
    "no-default-uid": {"default_uid": False},
    "everything": {"secret_hash": "0123456789abcdef", "restart_trigger": "2026-01-01"},
}


class Dumper(yaml.SafeDumper):
    """Without anchors: what is shared in memory is said again."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(template: dict[str, Any]) -> str:
    return yaml.dump(template, Dumper=Dumper, sort_keys=False)


@pytest.mark.parametrize("name", sorted(SPECS.keys() | AROUND.keys()))
def test_the_pod_template_is_the_golden_one(name: str) -> None:
    built = pod_template(instance(SPECS.get(name), **AROUND.get(name, {})))
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get(REWRITE):
        path.write_text(dump(built))
    golden = yaml.safe_load(path.read_text()) if path.exists() else None
    if golden != built:
        pytest.fail(
            f"the pod template of {path.stem!r} is not the golden one. Released like this, it would roll the pods of "
            "every pool with such a spec when memop is upgraded, and empty their caches. If the release notes are to "
            f"say that it must be: run this test with {REWRITE}=1, and review the diff of {GOLDEN.name}/."
            f"\n\nNow it is:\n{dump(built)}",
            pytrace=False,
        )


def test_every_golden_file_belongs_to_a_spec() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == SPECS.keys() | AROUND.keys()

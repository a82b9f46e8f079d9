"""The proxies' pod templates, whole: what a release builds for a spec, the next one builds, too.

One that changes replaces all proxies of everybody who has such a cluster, as soon as memop is upgraded.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop.reconcilers.cluster.workload import pod_template
from tests.unit.reconcilers.cluster.instances import instance

GOLDEN = Path(__file__).parent / "golden" / "pods"
REWRITE = "MEMOP_REWRITE_GOLDEN"

MONITORED: dict[str, Any] = {
    "monitoring": {
        "enabled": True,
        "exporterImage": "mirror:5000/exporter:1",
        "exporterResources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "serviceMonitor": {},
    }
}
EVERYTHING: dict[str, Any] = {
    "shards": 3,
    "replicasPerShard": 2,
    "memcached": MONITORED,
    "proxy": {
        "replicas": 3,
        "port": 5000,
        "builtin": {"image": "mirror:5000/memcached:1.6.39"},
        "readPolicy": "latest",
        "writePolicy": "all",
        "resources": {"requests": {"cpu": "1"}},
        "security": {
            "podSecurityContext": {"fsGroup": 11211},
            "containerSecurityContext": {"runAsUser": 1000},
        },
        "service": {"annotations": {"a": "b"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "cache", "operator": "Exists"}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "podLabels": {"team": "blue"},
        "podAnnotations": {"mesh/inject": "false"},
    },
}
SPECS: dict[str, dict[str, Any]] = {
    "builtin": {},
    "mcrouter": {"proxy": {"mcrouter": {}}},
    "mcrouter-fifos": {"proxy": {"mcrouter": {"debugFifoRoot": "/var/fifos"}}},
    "twemproxy": {"shards": 2, "proxy": {"twemproxy": {"image": "mirror/twemproxy:0.5.0"}}},
    "image-by-digest": {"proxy": {"builtin": {"image": "memcached@sha256:" + "0" * 64}}},
    "monitoring": {"memcached": {"monitoring": {"enabled": True}}, "proxy": {"port": 5000}},
    "mcrouter-monitoring": {"memcached": {"monitoring": {"enabled": True}}, "proxy": {"mcrouter": {}}},
    "everything": EVERYTHING,
}
AROUND: dict[str, dict[str, Any]] = {
    "restart-trigger": {"restart_trigger": "2026-01-01"},
    "no-default-uid": {"default_uid": False},
    "everything": {"restart_trigger": "2026-01-01"},
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
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(built))
    golden = yaml.safe_load(path.read_text()) if path.exists() else None
    if golden != built:
        pytest.fail(
            f"the proxies' pod template of {path.stem!r} is not the golden one. Released like this, it would replace "
            "the proxies of every cluster with such a spec when memop is upgraded. If the release notes are to say "
            f"that it must be: run this test with {REWRITE}=1, and review the diff of {GOLDEN.name}/."
            f"\n\nNow it is:\n{dump(built)}",
            pytrace=False,
        )


def test_every_golden_file_belongs_to_a_spec() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == SPECS.keys() | AROUND.keys()

"""Spec in, the proxies' Deployment out; golden/pods has the whole of each pod template."""

from typing import Any

import pytest

from memop.api.memcached import RESERVED_POD_LABELS
from memop.api.memcached_cluster import RESERVED_PROXY_ANNOTATIONS
from memop.reconcilers.cluster.config import PROXIES, config_hash, config_map
from memop.reconcilers.cluster.workload import deployment, pod_template
from tests.unit.reconcilers.cluster.instances import PROXY_SELECTOR, instance

HASH = "memcached.c5c3.io/config-hash"
KINDS: dict[str, dict[str, Any]] = {"builtin": {}, "twemproxy": {"twemproxy": {}}, "mcrouter": {"mcrouter": {}}}
MONITORED = {"monitoring": {"enabled": True}}


def pod(proxy: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_template(instance({"proxy": proxy or {}, **spec}))["spec"]
    return found


def annotations(spec: dict[str, Any], **around: Any) -> dict[str, str]:
    found: dict[str, str] = pod_template(instance(spec, **around))["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize(
    ("kind", "tag"), [("builtin", "1.6.38"), ("mcrouter", "v2026.06.29.00"), ("twemproxy", "0.5.0")]
)
def test_proxies_come_from_a_deployment_that_says_what_they_are(kind: str, tag: str) -> None:
    built = deployment(instance({"proxy": {**KINDS[kind], "replicas": 3}}))
    template = built["spec"].pop("template")
    labels = {**PROXY_SELECTOR, "app.kubernetes.io/version": tag}
    assert built == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "cache-proxy",
            "namespace": "default",
            "labels": labels,
            "annotations": {"memcached.c5c3.io/proxy": kind},
        },
        "spec": {
            "replicas": 3,
            "paused": False,
            "selector": {"matchLabels": PROXY_SELECTOR},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    }
    assert template["metadata"]["labels"] == labels


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_proxy_that_does_not_reload_is_replaced_for_a_new_config(kind: str) -> None:
    spec = {"shards": 3, "proxy": KINDS[kind]}
    expected = {} if PROXIES[instance(spec).spec.proxy.kind].RELOADS else {HASH: config_hash(instance(spec))}
    assert annotations(spec) == expected
    assert bool(expected) is (kind == "twemproxy")
    unchanged = pod_template(instance(spec)) == pod_template(instance({**spec, "shards": 4}))
    assert unchanged is not bool(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_restart_trigger_replaces_every_proxy(kind: str) -> None:
    told = annotations({"proxy": KINDS[kind]}, restart_trigger="now")
    assert told["memcached.c5c3.io/restart-trigger"] == "now"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("monitored", [{}, MONITORED])
def test_pods_meet_the_restricted_profile(kind: str, monitored: dict[str, Any]) -> None:
    built = pod(KINDS[kind], memcached=monitored)
    uid = PROXIES[instance({"proxy": KINDS[kind]}).spec.proxy.kind].UID
    profile = {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert built["securityContext"] == profile
    for container in built["containers"]:
        assert container["securityContext"] == {
            **profile,
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": [], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }
    assert built["automountServiceAccountToken"] is False
    assert (built["hostNetwork"], built["hostPID"], built["hostIPC"]) == (False, False, False)


def test_given_contexts_win_field_by_field_and_the_containers_is_the_proxys_alone() -> None:
    contexts = {"podSecurityContext": {"fsGroup": 7}, "containerSecurityContext": {"readOnlyRootFilesystem": False}}
    built = pod({"security": contexts}, memcached=MONITORED)
    assert (built["securityContext"]["fsGroup"], built["securityContext"]["runAsUser"]) == (7, 11211)
    proxy, exporter = (container["securityContext"] for container in built["containers"])
    assert (proxy["readOnlyRootFilesystem"], proxy["runAsUser"]) == (False, 11211)
    assert exporter["readOnlyRootFilesystem"] is True


def test_openshift_chooses_the_uid() -> None:
    built = pod_template(instance(default_uid=False))["spec"]
    for context in (built["securityContext"], built["containers"][0]["securityContext"]):
        assert not {"runAsUser", "runAsGroup"} & context.keys()
        assert context["runAsNonRoot"] is True


def test_keys_that_memop_uses_are_never_the_users_whatever_was_let_in() -> None:
    theirs = {
        "podLabels": {**dict.fromkeys(RESERVED_POD_LABELS, "x"), "team": "blue"},
        "podAnnotations": {**dict.fromkeys(RESERVED_PROXY_ANNOTATIONS, "x"), "mesh/inject": "false"},
    }
    metadata = pod_template(instance({"proxy": theirs}))["metadata"]
    assert metadata == {
        "labels": {**PROXY_SELECTOR, "app.kubernetes.io/version": "1.6.38", "team": "blue"},
        "annotations": {"mesh/inject": "false"},
    }


@pytest.mark.parametrize(
    ("kind", "monitored", "names"),
    [
        ("builtin", MONITORED, ["proxy", "exporter"]),
        ("builtin", {}, ["proxy"]),
        ("builtin", {"monitoring": {"enabled": False}}, ["proxy"]),
        ("mcrouter", MONITORED, ["proxy"]),
        ("twemproxy", MONITORED, ["proxy"]),
    ],
)
def test_an_exporter_stands_beside_the_proxy_that_it_can_ask(
    kind: str, monitored: dict[str, Any], names: list[str]
) -> None:
    assert [container["name"] for container in pod(KINDS[kind], memcached=monitored)["containers"]] == names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "given"), [(5000, 5000), (1024, 1024), (1023, 11211), (80, 11211)])
def test_proxies_listen_on_the_services_port_unless_it_takes_a_capability(kind: str, asked: int, given: int) -> None:
    proxy = {**KINDS[kind], "port": asked}
    container = pod(proxy)["containers"][0]
    assert container["ports"] == [{"name": "proxy", "containerPort": given, "protocol": "TCP"}]
    config = config_map(instance({"proxy": proxy}))["data"]
    assert str(given) in " ".join([*container["command"], *config.values()]).replace("=", " ").replace(":", " ").split()


def test_the_exporter_asks_where_the_proxy_listens_whatever_the_services_port_is() -> None:
    asked = {"enabled": True, "exporterImage": "mirror/exporter:1", "exporterResources": {"limits": {"memory": "9Mi"}}}
    proxy, exporter = pod({"port": 5000}, memcached={"monitoring": asked})["containers"]
    assert exporter["args"] == [f"--memcached.address=127.0.0.1:{proxy['ports'][0]['containerPort']}"]
    assert exporter["ports"] == [{"name": "metrics", "containerPort": 9150, "protocol": "TCP"}]
    assert (exporter["image"], exporter["resources"]) == ("mirror/exporter:1", {"limits": {"memory": "9Mi"}})


@pytest.mark.parametrize("kind", KINDS)
def test_every_volume_is_mounted_and_the_config_is_a_directory(kind: str) -> None:
    built = pod(KINDS[kind])
    mounts = built["containers"][0]["volumeMounts"]
    assert {mount["name"] for mount in mounts} == {volume["name"] for volume in built["volumes"]}
    assert built["volumes"][0] == {"name": "config", "configMap": {"name": "cache-proxy", "defaultMode": 0o444}}
    # kubelet never brings a changed file through a subPath.
    assert all("subPath" not in mount for mount in mounts)


TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {
        "matchLabels": {"app.kubernetes.io/name": "memcached-proxy", "app.kubernetes.io/instance": "cache"},
    },
}


@pytest.mark.parametrize(
    ("proxy", "field", "value"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "nodeSelector", {"disk": "ssd"}),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations", [{"operator": "Exists"}]),
        ({"priorityClassName": "high"}, "priorityClassName", "high"),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, "imagePullSecrets", [{"name": "a"}]),
        (
            {},
            "affinity",
            {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": TERM}]
                }
            },
        ),
    ],
)
def test_where_proxies_run_is_the_proxys_to_say_and_not_the_pools(
    proxy: dict[str, Any], field: str, value: Any
) -> None:
    pool = {"nodeSelector": {"disk": "hdd"}, "priorityClassName": "low"}
    built = pod(proxy, memcached=pool)
    assert built[field] == value
    assert "hdd" not in str(built)


@pytest.mark.parametrize(
    ("asked", "resources"),
    [
        (None, {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1Gi"}}),
    ],
)
def test_resources_are_the_specs_or_enough(asked: dict[str, Any] | None, resources: dict[str, Any]) -> None:
    assert pod({"resources": asked})["containers"][0]["resources"] == resources

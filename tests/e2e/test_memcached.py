"""`Memcached`: a manifest becomes a cache that real clients use, and stays one."""

import json
from functools import partial
from typing import Any

import pytest

from tests.support.cache import addresses, assert_serves, pods, ready_pods, stats
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator

pytestmark = pytest.mark.usefixtures("operator")

STRANGER: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "pool", "labels": {"team": "blue"}},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "theirs"}},
        "template": {
            "metadata": {"labels": {"app": "theirs"}},
            "spec": {"containers": [{"name": "main", "image": "memcached:1.6"}]},
        },
    },
}


def make(kubectl: Kubectl, name: str = "pool", version: str = "v1beta1", **spec: Any) -> list[Json]:
    """A pool whose pods are ready and whose status says so; its pods."""
    kubectl.apply(memcached(name, version, **spec))
    found = ready_pods(kubectl, name, int(str(spec.get("replicas", 1))))
    eventually(lambda: assert_ready(kubectl, name))
    return found


def assert_ready(kubectl: Kubectl, name: str = "pool") -> Json:
    cr = kubectl.get("memcached", name)
    assert condition(cr, "Ready")["status"] == "True", cr.get("status")
    assert condition(cr, "Progressing")["status"] == "False", cr["status"]
    assert cr["status"]["observedGeneration"] == cr["metadata"]["generation"]
    return cr


def events(kubectl: Kubectl, reason: str) -> list[Json]:
    return [event for event in kubectl.list("events.events.k8s.io") if event["reason"] == reason]


def assert_event(kubectl: Kubectl, reason: str, text: str) -> None:
    notes = [event["note"] for event in events(kubectl, reason)]
    assert any(text in note for note in notes), notes


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
def test_two_replicas_serve_each_its_own_values(kubectl: Kubectl, version: str) -> None:
    found = make(kubectl, version=version, replicas=2)
    for address in addresses(found):
        assert_serves(address)
    cr = assert_ready(kubectl)
    status = cr["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert status["serverList"] == [f"pool.{kubectl.namespace}:11211"]
    states = {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}
    assert states == {
        "Available": ("True", "Available"),
        "Progressing": ("False", "ProgressingComplete"),
        "Degraded": ("False", "NotDegraded"),
        "Ready": ("True", "MemcachedReady"),
    }
    eventually(lambda: assert_event(kubectl, "MemcachedReady", "2 of 2 pods ready"))
    assert resolve(kubectl, found[0], f"pool.{kubectl.namespace}.svc.cluster.local") == addresses(found)


def resolve(kubectl: Kubectl, pod: Json, name: str) -> set[str]:
    """What the cluster's DNS tells a pod about a name."""
    done = kubectl("exec", pod["metadata"]["name"], "--", "getent", "ahostsv4", name)
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_memcached_runs_with_what_the_spec_says(kubectl: Kubectl) -> None:
    config = {"maxMemoryMB": 128, "maxConnections": 77, "threads": 2, "maxItemSize": "2m", "verbosity": 1}
    [pod] = make(kubectl, memcached={**config, "extraArgs": ["-o", "hash_algorithm=murmur3"]})
    running = stats(pod["status"]["podIP"])
    assert running["maxbytes"] == str(128 * 1024 * 1024)
    assert (running["maxconns"], running["num_threads"], running["verbosity"]) == ("77", "2", "1")
    assert (running["item_size_max"], running["hash_algorithm"]) == (str(2 * 1024 * 1024), "murmur3")
    changed = {**config, "threads": 3}
    kubectl.apply(memcached("pool", memcached=changed))

    def assert_replaced() -> None:
        assert pod["metadata"]["uid"] not in {other["metadata"]["uid"] for other in pods(kubectl, "pool")}

    eventually(assert_replaced, timeout=90)
    [pod_after] = ready_pods(kubectl, "pool", 1)
    assert stats(pod_after["status"]["podIP"])["num_threads"] == "3"


def test_pods_are_restricted_and_hold_no_api_token(kubectl: Kubectl) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("label", "namespace", kubectl.namespace, label)
    [pod] = make(kubectl)
    assert_serves(pod["status"]["podIP"])
    name = pod["metadata"]["name"]
    assert kubectl("exec", name, "--", "id", "-u").stdout.strip() == "11211"
    assert kubectl("exec", name, "--", "ls", "/var/run/secrets/kubernetes.io", check=False).returncode != 0
    assert kubectl("exec", name, "--", "sh", "-c", "echo x > /x", check=False).returncode != 0


def test_scaling_up_and_down_through_the_scale_subresource(kubectl: Kubectl) -> None:
    first = addresses(make(kubectl, replicas=1))
    kubectl("scale", "memcached/pool", "--replicas=3")
    grown = ready_pods(kubectl, "pool", 3)
    assert first < addresses(grown)
    for address in addresses(grown):
        assert_serves(address)
    assert eventually(lambda: assert_ready(kubectl))["status"]["readyReplicas"] == 3
    kubectl("scale", "memcached/pool", "--replicas=0")
    ready_pods(kubectl, "pool", 0)

    def assert_empty() -> None:
        status = kubectl.get("memcached", "pool")["status"]
        assert (status["replicas"], status["readyReplicas"], "serverList" in status) == (0, 0, False)

    eventually(assert_empty)
    kubectl("scale", "memcached/pool", "--replicas=1")
    [pod] = ready_pods(kubectl, "pool", 1)
    assert_serves(pod["status"]["podIP"])


def test_deleting_a_pool_deletes_everything_of_it(kubectl: Kubectl) -> None:
    make(kubectl, replicas=2)
    kubectl.delete("memcached", "pool")

    def assert_gone() -> None:
        for kind in ("deployments", "services", "replicasets", "pods", "endpointslices"):
            assert kubectl.list(kind) == [], kind

    eventually(assert_gone)


def test_a_killed_pod_is_replaced_and_told_of(kubectl: Kubectl) -> None:
    found = make(kubectl, replicas=2)
    victim = found[0]["metadata"]["name"]
    kubectl("delete", "pod", victim, "--grace-period=0", "--force")

    def assert_told() -> None:
        degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
        assert (degraded["status"], degraded["reason"]) == ("True", "Degraded")

    eventually(assert_told, interval=0.05)
    replaced = ready_pods(kubectl, "pool", 2)
    assert victim not in {pod["metadata"]["name"] for pod in replaced}
    for address in addresses(replaced):
        assert_serves(address)
    eventually(lambda: assert_ready(kubectl))


def test_a_deleted_service_and_deployment_come_back(kubectl: Kubectl) -> None:
    make(kubectl)
    for kind in ("Service", "Deployment"):
        before = kubectl.get(kind, "pool")["metadata"]["uid"]
        kubectl.delete(kind, "pool")
        assert eventually(partial(kubectl.get, kind, "pool"))["metadata"]["uid"] != before
        eventually(partial(assert_event, kubectl, "DriftRepaired", f"{kind} pool"))
    [pod] = ready_pods(kubectl, "pool", 1)
    eventually(lambda: assert_resolves(kubectl, pod))


def assert_resolves(kubectl: Kubectl, pod: Json) -> None:
    assert resolve(kubectl, pod, f"pool.{kubectl.namespace}.svc.cluster.local") == {pod["status"]["podIP"]}


def test_what_somebody_changed_is_put_back(kubectl: Kubectl) -> None:
    make(kubectl, replicas=1)
    kubectl("scale", "deployment/pool", "--replicas=3")
    args = [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["-m", "16"]}]
    kubectl("patch", "deployment", "pool", "--type=json", "-p", json.dumps(args))
    kubectl.patch("service", "pool", {"spec": {"publishNotReadyAddresses": True, "selector": {"extra": "no"}}})

    def assert_put_back() -> None:
        deployment = kubectl.get("deployment", "pool")["spec"]
        assert deployment["replicas"] == 1
        assert deployment["template"]["spec"]["containers"][0]["args"][:2] == ["-m", "64"]
        assert "extra" not in kubectl.get("service", "pool")["spec"]["selector"]

    eventually(assert_put_back)
    [pod] = ready_pods(kubectl, "pool", 1)
    assert stats(pod["status"]["podIP"])["maxbytes"] == str(64 * 1024 * 1024)
    eventually(lambda: assert_event(kubectl, "DriftRepaired", "spec.replicas"))


def test_labels_of_others_stay_and_ours_come_back(kubectl: Kubectl) -> None:
    make(kubectl)
    kubectl("label", "deployment/pool", "team=blue")
    kubectl("label", "deployment/pool", "app.kubernetes.io/managed-by-", "app.kubernetes.io/name-")
    kubectl("label", "service/pool", "app.kubernetes.io/instance=other", "--overwrite")

    def assert_back() -> None:
        labels = kubectl.get("deployment", "pool")["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "memcached-operator"
        assert (labels["app.kubernetes.io/name"], labels["team"]) == ("memcached", "blue")
        service = kubectl.get("service", "pool")["metadata"]["labels"]
        assert service["app.kubernetes.io/instance"] == "pool"

    eventually(assert_back)


def test_a_strangers_deployment_is_left_alone_and_reported_until_it_goes(kubectl: Kubectl) -> None:
    before = kubectl.create(STRANGER)
    kubectl.apply(memcached("pool", replicas=1))

    def assert_reported() -> None:
        degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
        assert (degraded["status"], degraded["reason"]) == ("True", "ObjectConflict")
        assert f"Deployment {kubectl.namespace}/pool exists" in degraded["message"]

    eventually(assert_reported)
    eventually(lambda: assert_event(kubectl, "ObjectConflict", "left alone"))
    kubectl.get("service", "pool")  # everything else goes on
    after = kubectl.get("deployment", "pool")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert "ownerReferences" not in after["metadata"]
    kubectl.delete("memcached", "pool")
    kubectl.get("deployment", "pool")
    kubectl.apply(memcached("pool", replicas=1))
    eventually(assert_reported)
    kubectl.delete("deployment", "pool")
    [pod] = ready_pods(kubectl, "pool", 1)
    assert_serves(pod["status"]["podIP"])
    eventually(lambda: assert_ready(kubectl))


def test_a_pool_that_lost_its_owner_is_adopted_without_a_restart(kubectl: Kubectl) -> None:
    [pod] = make(kubectl)
    kubectl("delete", "memcached", "pool", "--cascade=orphan")
    assert_serves(pod["status"]["podIP"])
    kubectl.apply(memcached("pool"))
    cr = eventually(lambda: assert_ready(kubectl))
    for kind in ("deployment", "service"):
        [owner] = kubectl.get(kind, "pool")["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (cr["metadata"]["uid"], True)
    assert [p["metadata"]["uid"] for p in pods(kubectl, "pool")] == [pod["metadata"]["uid"]]


def test_a_paused_pool_is_left_alone_and_says_so(kubectl: Kubectl) -> None:
    make(kubectl)
    kubectl("annotate", "memcached/pool", "memcached.c5c3.io/paused=true")

    def assert_paused() -> None:
        assert condition(kubectl.get("memcached", "pool"), "Paused")["status"] == "True"

    eventually(assert_paused)
    kubectl("scale", "memcached/pool", "--replicas=2")
    kubectl.delete("service", "pool")

    def assert_seen() -> None:
        cr = kubectl.get("memcached", "pool")
        assert cr["status"]["observedGeneration"] == cr["metadata"]["generation"]
        assert condition(cr, "Degraded")["message"] == "1 of 2 pods ready"

    eventually(assert_seen)
    assert kubectl.find("service", "pool") is None
    assert kubectl.get("deployment", "pool")["spec"]["replicas"] == 1
    kubectl("annotate", "memcached/pool", "memcached.c5c3.io/paused-")
    ready_pods(kubectl, "pool", 2)
    kubectl.get("service", "pool")
    assert condition(eventually(lambda: assert_ready(kubectl)), "Paused")["status"] == ""


def test_the_restart_trigger_replaces_the_pods(kubectl: Kubectl) -> None:
    [before] = make(kubectl)
    kubectl("annotate", "memcached/pool", "memcached.c5c3.io/restart-trigger=now")

    def assert_replaced() -> None:
        assert before["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods(kubectl, "pool")}

    eventually(assert_replaced, timeout=90)
    [pod] = ready_pods(kubectl, "pool", 1)
    assert pod["metadata"]["annotations"]["memcached.c5c3.io/restart-trigger"] == "now"


def test_a_refusal_by_the_api_server_becomes_a_condition_with_its_words(kubectl: Kubectl) -> None:
    kubectl("create", "quota", "none", "--hard=count/services=0")
    kubectl.apply(memcached("pool"))

    def assert_told() -> None:
        degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
        assert (degraded["reason"], "exceeded quota" in degraded["message"]) == ("Rejected", True), degraded

    eventually(assert_told)
    kubectl.get("deployment", "pool")  # everything else goes on
    kubectl("delete", "quota", "none")
    eventually(lambda: assert_ready(kubectl))
    kubectl.get("service", "pool")


def test_metrics_carry_the_promised_names_and_go_with_the_cr(kubectl: Kubectl, operator: Operator) -> None:
    make(kubectl, replicas=2)
    labels = f'name="pool",namespace="{kubectl.namespace}"'

    def assert_told() -> None:
        told = operator.metrics()
        assert f'memcached_operator_instance_info{{image="memcached:1.6",{labels}}} 1.0' in told
        assert f"memcached_operator_instance_replicas_desired{{{labels}}} 2.0" in told
        assert f"memcached_operator_instance_replicas_ready{{{labels}}} 2.0" in told
        assert f'memcached_operator_reconcile_total{{{labels},result="success"}}' in told
        assert f"memcached_operator_reconcile_duration_seconds_count{{{labels}}}" in told
        assert 'memcached_operator_reconcile_resource_total{resource_kind="Deployment",result="created"} 1.0' in told

    eventually(assert_told)
    kubectl.delete("memcached", "pool")
    eventually(lambda: assert_forgotten(operator))


def assert_forgotten(operator: Operator) -> None:
    assert 'name="pool"' not in operator.metrics()

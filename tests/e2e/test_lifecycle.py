"""A pool through its life: changed under load, drained, rebuilt, refused; its features on and off; its end."""

import json
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.cache import addresses, assert_serves, pods, ready_pods, stats
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.load import Application
from tests.support.operator import Operator
from tests.support.tls import Authority, Cache

DEFAULT_IMAGE = "memcached:1.6.38"
LABELS = {
    "app.kubernetes.io/name": "memcached",
    "app.kubernetes.io/instance": "pool",
    "app.kubernetes.io/managed-by": "memcached-operator",
}
KINDS = (
    *("deployments", "replicasets", "statefulsets", "controllerrevisions", "pods", "services", "endpointslices"),
    *("poddisruptionbudgets", "networkpolicies", "horizontalpodautoscalers"),
)


@pytest.fixture(scope="module", autouse=True)
def operator(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """memop for all tests here and all namespaces, with a default image of its own."""
    log = tmp_path_factory.mktemp("memop") / "memop.log"
    with Operator(log, f"--memcached-image={DEFAULT_IMAGE}") as running:
        yield running


def assert_ready(kubectl: Kubectl, name: str = "pool") -> Json:
    cr = kubectl.get("memcached", name)
    stated = {type_: condition(cr, type_)["status"] for type_ in ("Ready", "Progressing", "Degraded")}
    assert stated == {"Ready": "True", "Progressing": "False", "Degraded": "False"}, cr.get("status")
    assert cr["status"]["observedGeneration"] == cr["metadata"]["generation"]
    return cr


# --- changes under load


def rolled(kubectl: Kubectl, name: str, before: list[Json]) -> list[Json]:
    """As many pods as before, all of them new and ready."""

    def check() -> list[Json]:
        found = ready_pods(kubectl, name, len(before))
        assert not {pod["metadata"]["uid"] for pod in found} & {pod["metadata"]["uid"] for pod in before}
        return found

    return eventually(check, timeout=90)


def assert_pods(kubectl: Kubectl, count: int) -> None:
    """Those that are on their way out included."""
    assert len(kubectl.list("pods")) == count


SETTINGS: Json = {
    "maxMemoryMB": 128,
    "maxConnections": 99,
    "threads": 2,
    "maxItemSize": "2m",
    "verbosity": 1,
    "extraArgs": ["-F", "-o", "hash_algorithm=murmur3"],
}
SHOWN = {
    "maxbytes": str(128 * 1024 * 1024),
    "maxconns": "99",
    "num_threads": "2",
    "item_size_max": str(2 * 1024 * 1024),
    "verbosity": "1",
    "flush_enabled": "no",
    "hash_algorithm": "murmur3",
}


def test_graceful_pools_fail_no_request_while_they_are_changed_and_restarted(kubectl: Kubectl) -> None:
    """Misses are the price of new pods; errors and answers later than a second are not."""
    shutdown = {"enabled": True, "preStopDelaySeconds": 4, "terminationGracePeriodSeconds": 10}
    spec: Json = {"replicas": 2, "highAvailability": {"gracefulShutdown": shutdown}}
    kubectl.apply(memcached("changed", **spec), memcached("restarted", **spec))
    before = {name: ready_pods(kubectl, name, 2) for name in ("changed", "restarted")}
    with Application(kubectl, "changed") as one, Application(kubectl, "restarted") as other:
        kubectl.apply(memcached("changed", **spec, memcached=SETTINGS))
        kubectl("annotate", "memcached/restarted", "memcached.c5c3.io/restart-trigger=1")
        after = {name: rolled(kubectl, name, before[name]) for name in before}
        eventually(partial(assert_pods, kubectl, 4))
    for address in addresses(after["changed"]):
        running = stats(address)
        assert {name: running[name] for name in SHOWN} == SHOWN
    for name, client in (("changed", one), ("restarted", other)):
        tally, met = client.tally, addresses([*before[name], *after[name]])
        assert (tally.failures, tally.wrong) == ([], []), name
        # Each pod was talked to for a while, and each was empty once.
        assert set(tally.served) == met
        assert min(tally.served.values()) > 20, tally.served
        assert tally.misses == len(met)


# --- disruptions


def evict(kubectl: Kubectl, pod: Json) -> str:
    """What `kubectl drain` does to one pod; the server's refusal, empty where it agreed."""
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    done = kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body), check=False)
    return done.stderr if done.returncode else ""


def budgeted(**bounds: Any) -> Json:
    return memcached("pool", replicas=2, highAvailability={"podDisruptionBudget": {"enabled": True, **bounds}})


def assert_budget(kubectl: Kubectl, bounds: Json, allowed: int) -> None:
    """What the budget says, and that the disruption controller, which counts pods, has read it."""
    budget = kubectl.get("pdb", "pool")
    assert budget["spec"] == {**bounds, "selector": {"matchLabels": LABELS}}
    status = budget["status"]
    assert status["observedGeneration"] == budget["metadata"]["generation"]
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (2, allowed), status


def test_a_drain_takes_no_more_pods_than_the_budget_allows(kubectl: Kubectl) -> None:
    kubectl.apply(budgeted(minAvailable=1))
    one, other = ready_pods(kubectl, "pool", 2)
    eventually(partial(assert_budget, kubectl, {"minAvailable": 1}, 1))
    assert evict(kubectl, one) == ""
    assert "violate the pod's disruption budget" in evict(kubectl, other)

    kubectl.apply(budgeted(maxUnavailable="0%"))
    eventually(partial(assert_budget, kubectl, {"maxUnavailable": "0%"}, 0))
    assert "violate the pod's disruption budget" in evict(kubectl, other)

    kubectl.apply(memcached("pool", replicas=2, highAvailability={"podDisruptionBudget": {"enabled": False}}))
    eventually(lambda: assert_absent(kubectl, "pdb"))
    assert evict(kubectl, other) == ""


def assert_absent(kubectl: Kubectl, kind: str) -> None:
    assert kubectl.find(kind, "pool") is None


# --- the network


def test_a_network_policy_names_the_ports_that_are_open_and_nothing_else(kubectl: Kubectl) -> None:
    """The object alone: nothing enforces policies in this cluster."""
    sources: list[Json] = [
        {"podSelector": {"matchLabels": {"app": "web"}}},
        {"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    tls = {"enabled": True, "certificateSecretRef": {"name": "none"}}

    def assert_policy(ports: list[int], sources: list[Json]) -> None:
        rule: Json = {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}
        if sources:
            rule["from"] = sources
        policy = kubectl.get("networkpolicy", "pool")
        assert policy["spec"] == {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Ingress"], "ingress": [rule]}
        assert policy["metadata"]["labels"] == LABELS

    def apply(sources: list[Json], *, monitoring: bool = False, **security: Any) -> None:
        policy = {"enabled": True, "allowedSources": sources}
        security = {"networkPolicy": policy, **security}
        kubectl.apply(memcached("pool", replicas=0, monitoring={"enabled": monitoring}, security=security))

    apply(sources, monitoring=True, tls=tls)
    eventually(partial(assert_policy, [11211, 11212, 9150], sources))
    apply(sources[:1], tls=tls)
    eventually(partial(assert_policy, [11211, 11212], sources[:1]))
    apply([], monitoring=True)
    eventually(partial(assert_policy, [11211, 9150], []))
    kubectl.apply(
        memcached("pool", replicas=0, security={"networkPolicy": {"enabled": False, "allowedSources": sources}})
    )
    eventually(lambda: assert_absent(kubectl, "networkpolicy"))


def resolve(kubectl: Kubectl, pod: str, name: str) -> set[str]:
    """What the cluster's DNS tells a pod about a name; nothing where it does not know it."""
    done = kubectl("exec", pod, "-c", "memcached", "--", "getent", "ahostsv4", name, check=False)
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_a_service_takes_annotations_and_publishes_pods_that_are_not_ready(kubectl: Kubectl) -> None:
    """A pod whose second container has no image serves, and is not ready."""
    broken: Json = {"monitoring": {"enabled": True, "exporterImage": "memcached:missing"}}
    name = f"pool.{kubectl.namespace}"

    def apply(**service: Any) -> None:
        kubectl.apply(memcached("pool", **broken, service=service))

    def annotations() -> Json:
        return dict(kubectl.get("service", "pool")["metadata"].get("annotations", {}))

    def assert_annotated(expected: Json) -> None:
        assert annotations() == expected

    def assert_resolves(known: bool) -> None:
        [pod] = pods(kubectl, "pool")
        assert condition(pod, "Ready")["status"] == "False"
        found = resolve(kubectl, pod["metadata"]["name"], name)
        assert found == ({pod["status"].get("podIP")} if known else set())

    apply(annotations={"a": "1", "b": "2"}, publishNotReadyAddresses=True)
    eventually(partial(assert_resolves, known=True))
    [pod] = pods(kubectl, "pool")
    assert_serves(pod["status"]["podIP"])
    assert_annotated({"a": "1", "b": "2"})
    kubectl("annotate", "service/pool", "theirs=stays")
    apply(annotations={"b": "3"})
    eventually(partial(assert_annotated, {"b": "3", "theirs": "stays"}))
    eventually(partial(assert_resolves, known=False))
    assert [other["metadata"]["uid"] for other in pods(kubectl, "pool")] == [pod["metadata"]["uid"]]


# --- all features of one pool


@pytest.fixture
def priority_class(kubectl: Kubectl) -> Iterator[str]:
    """Priority classes are the cluster's, so it has a name of its own."""
    name = f"caches-{uuid.uuid4().hex[:8]}"
    kubectl("create", "priorityclass", name, "--value=1000")
    yield name
    kubectl("delete", "priorityclass", name)


FULL: Json = {
    "image": "docker.io/library/memcached:1.6.39",
    "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 3},
    "resources": {"requests": {"cpu": "10m"}},
    "highAvailability": {
        "antiAffinityPreset": "soft",
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "gracefulShutdown": {"enabled": True, "preStopDelaySeconds": 1, "terminationGracePeriodSeconds": 5},
    },
    "monitoring": {"enabled": True},
    "security": {
        "tls": {"enabled": True, "certificateSecretRef": {"name": "tls"}},
        "networkPolicy": {"enabled": True},
    },
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "cache", "operator": "Equal", "value": "only", "effect": "NoSchedule"}],
    "podLabels": {"team": "blue"},
    "podAnnotations": {"note": "größer als nötig"},
}


def objects(kubectl: Kubectl) -> set[str]:
    """What memop made of the pool: all is of one name."""
    kinds = (kind for kind in KINDS if kind not in ("replicasets", "pods", "endpointslices"))
    return {kind for kind in kinds if kubectl.find(kind, "pool") is not None}


def assert_placed(pod: Json, priority_class: str) -> None:
    spec, metadata = pod["spec"], pod["metadata"]
    assert spec["nodeSelector"] == FULL["nodeSelector"]
    assert FULL["tolerations"][0] in spec["tolerations"]
    assert (spec["priorityClassName"], spec["priority"]) == (priority_class, 1000)
    assert metadata["labels"]["team"] == "blue"
    assert metadata["annotations"]["note"] == "größer als nötig"


def assert_image(pod: Json, image: str, version: str | None) -> None:
    assert pod["spec"]["containers"][0]["image"] == image
    assert pod["metadata"]["labels"].get("app.kubernetes.io/version") == version


def test_every_feature_goes_on_off_and_on_again_and_leaves_nothing(kubectl: Kubectl, priority_class: str) -> None:
    full = {**FULL, "priorityClassName": priority_class}
    ca = Authority()
    name = f"pool.{kubectl.namespace}.svc"
    lost = memcached("lost", nodeSelector={"no": "node"})
    kubectl.apply(ca.issue(name).secret(), memcached("plain", replicas=0), lost, memcached("pool", **full))

    def assert_encrypted(pod: Json) -> None:
        cache = Cache(pod["status"]["podIP"], 11212, trusted=ca.trusted(), name=name)
        assert (cache.set("k", "v"), cache.get("k")) == ("STORED", "v")

    def template(name: str = "pool") -> Json:
        return dict(kubectl.get("deployment", name)["spec"]["template"])

    [pod] = ready_pods(kubectl, "pool", 1)
    eventually(partial(assert_ready, kubectl))
    assert_encrypted(pod)
    assert_placed(pod, priority_class)
    assert_image(pod, FULL["image"], "1.6.39")
    every = {"deployments", "services", "poddisruptionbudgets", "networkpolicies", "horizontalpodautoscalers"}
    assert objects(kubectl) == every
    before = template()
    [waiting] = pods(kubectl, "lost")
    assert condition(waiting, "PodScheduled")["reason"] == "Unschedulable"

    # The same image by its digest, as the node has it: nothing is pulled here.
    digest = next(s["imageID"] for s in pod["status"]["containerStatuses"] if s["name"] == "memcached")
    kubectl.apply(memcached("pool", replicas=1), memcached("lost", image=digest))
    [pod] = rolled(kubectl, "pool", [pod])
    eventually(partial(assert_ready, kubectl))
    assert_serves(pod["status"]["podIP"])
    assert objects(kubectl) == {"deployments", "services"}
    # Like one that never had anything, and with the operator's image.
    plain, bare = template("plain"), template()
    assert bare["spec"] == plain["spec"]
    assert bare["metadata"] == {**plain["metadata"], "labels": {**plain["metadata"]["labels"], **LABELS}}
    assert_image(pod, DEFAULT_IMAGE, "1.6.38")
    assert [port["name"] for port in kubectl.get("service", "pool")["spec"]["ports"]] == ["memcached"]
    [found] = ready_pods(kubectl, "lost", 1)
    assert_serves(found["status"]["podIP"])
    assert_image(found, digest, None)

    kubectl.apply(memcached("pool", **full))
    [pod] = rolled(kubectl, "pool", [pod])
    eventually(partial(assert_ready, kubectl))
    assert_encrypted(pod)
    assert objects(kubectl) == every
    assert template() == before


# --- the end, and a new beginning


def assert_nothing(kubectl: Kubectl) -> None:
    left = {kind: [item["metadata"]["name"] for item in kubectl.list(kind)] for kind in KINDS}
    assert not any(left.values()), left


def test_a_pool_made_again_while_its_pods_still_go_is_a_new_one(kubectl: Kubectl) -> None:
    shutdown = {"enabled": True, "preStopDelaySeconds": 4, "terminationGracePeriodSeconds": 8}
    spec: Json = {"replicas": 2, "highAvailability": {"gracefulShutdown": shutdown}}
    stable: Json = {**spec, "podIdentity": "Stable", "replicas": 1}
    kubectl.apply(memcached("pool", **spec), memcached("named", **stable))
    before = [*ready_pods(kubectl, "pool", 2), *ready_pods(kubectl, "named", 1)]
    kubectl("delete", "memcached", "pool", "named", "--wait=true")
    # Those of the Stable one are in the way of its successor's, which has the same names.
    eventually(partial(assert_going, kubectl, before))
    kubectl.apply(memcached("pool", **spec), memcached("named", **stable))
    after = [*ready_pods(kubectl, "pool", 2), *ready_pods(kubectl, "named", 1)]
    assert not {pod["metadata"]["uid"] for pod in before} & {pod["metadata"]["uid"] for pod in after}
    for pod in after:
        assert_serves(pod["status"]["podIP"])
    for kind, name in (("deployment", "pool"), ("statefulset", "named")):
        cr = eventually(partial(assert_ready, kubectl, name))
        [owner] = kubectl.get(kind, name)["metadata"]["ownerReferences"]
        assert owner["uid"] == cr["metadata"]["uid"]


def assert_going(kubectl: Kubectl, before: list[Json]) -> None:
    found = {pod["metadata"]["uid"]: pod for pod in kubectl.list("pods")}
    assert all("deletionTimestamp" in found[pod["metadata"]["uid"]]["metadata"] for pod in before)


def test_of_a_pool_deleted_while_it_is_made_nothing_remains(kubectl: Kubectl) -> None:
    availability = {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 1}}
    security = {"networkPolicy": {"enabled": True}}
    for number in range(4):
        spec: Json = {"podIdentity": "Stable" if number % 2 else "Ephemeral", "security": security}
        kubectl.apply(memcached(f"pool-{number}", highAvailability=availability, **spec))
        if number > 1:
            eventually(partial(kubectl.get, "service", f"pool-{number}"), interval=0.01)
        kubectl.delete("memcached", f"pool-{number}", wait=False)
    eventually(partial(assert_nothing, kubectl), timeout=90)


# --- limits


def test_names_and_annotations_at_their_limits(kubectl: Kubectl) -> None:
    long, stable, odd = "p" + "o" * 61 + "l", "s" + "t" * 50 + "e", "odd"
    notes = {"note": 'größer 🚀 кэш\n\t"quoted"', "huge": "x" * 200 * 1024}
    kubectl.apply(
        memcached(long, annotations=notes),
        memcached(stable, podIdentity="Stable"),
        memcached(odd, podAnnotations={"note": notes["note"]}),
    )
    [one] = ready_pods(kubectl, long, 1)
    [two] = ready_pods(kubectl, stable, 1)
    [three] = ready_pods(kubectl, odd, 1)
    for pod in (one, two, three):
        assert_serves(pod["status"]["podIP"])
    for name in (long, stable, odd):
        eventually(partial(assert_ready, kubectl, name))
    assert three["metadata"]["annotations"]["note"] == notes["note"]
    asking = three["metadata"]["name"]
    for name, pod in ((long, one), (f"{stable}-0.{stable}", two)):
        eventually(partial(assert_resolves, kubectl, asking, f"{name}.{kubectl.namespace}", pod))
    # It is alive to changes, too.
    kubectl("scale", f"memcached/{long}", "--replicas=0")
    ready_pods(kubectl, long, 0)


def assert_resolves(kubectl: Kubectl, asking: str, name: str, pod: Json) -> None:
    assert resolve(kubectl, asking, name) == {pod["status"]["podIP"]}


# --- refusals


def test_a_quota_is_told_in_the_servers_words_and_heals_when_lifted(kubectl: Kubectl) -> None:
    budget = {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 1}}
    kubectl("create", "quota", "few", "--hard=count/pods=1,count/services=0,count/poddisruptionbudgets.policy=0")

    def assert_told(*words: str) -> None:
        degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
        assert degraded["reason"] == "Rejected", degraded
        assert all(word in degraded["message"] for word in words), degraded

    kubectl.apply(memcached("pool", replicas=2, highAvailability=budget))
    words = ('pods "pool-', "Service", "PodDisruptionBudget", "exceeded quota: few, requested: count/services=1")
    eventually(partial(assert_told, *words))
    eventually(partial(assert_pods, kubectl, 1))
    kubectl("delete", "quota", "few")
    ready_pods(kubectl, "pool", 2)
    eventually(partial(assert_ready, kubectl))
    kubectl.get("pdb", "pool")

"""Other operators' manifests against a real API server: taken as they are, served, converted."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop.api.schema import foreign_kinds
from tests.support.apiserver import writes
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, condition, eventually
from tests.support.operator import Operator

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests/samples/compat").glob("*.yaml"))
CLUSTERS = "memcachedclusters.memcached.c5c3.io"
PLURALS = {kind.kind: kind.crd_name for kind in foreign_kinds()}
VERSIONS = {kind.kind: kind.api_version for kind in foreign_kinds()}


def memop(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memop.cli", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def definitions(crds: None) -> Iterator[str]:
    """The foreign kinds, as `memop crds --compat` prints them; installed for these tests alone."""
    kubectl = Kubectl("default")
    printed = memop("crds", "--compat").stdout
    kubectl.install(printed)
    yield printed
    kubectl("delete", "--ignore-not-found", "-f", "-", input=printed)


@pytest.fixture(autouse=True)
def swept(kubectl: Kubectl) -> Iterator[None]:
    """No garbage collection runs here."""
    yield
    kubectl("delete", CLUSTERS, "--all", "--wait=false")


@pytest.fixture
def other(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a second namespace."""
    other = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    other("create", "namespace", other.namespace)
    yield other
    other("delete", CLUSTERS, "--all", "--wait=false")
    other("delete", "namespace", other.namespace, "--wait=false")


def manifest(kind: str, name: str = "cache", **spec: Any) -> Json:
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": {"name": name}, "spec": spec}


def served(kubectl: Kubectl, kind: str, name: str, generation: int = 1) -> Json:
    """The foreign object, once memop has told of this generation."""

    def check() -> Json:
        found = kubectl.get(PLURALS[kind], name)
        assert found.get("status", {}).get("observedGeneration") == generation, found.get("status")
        return found

    return eventually(check, timeout=30)


def made_of(kubectl: Kubectl, cluster: str) -> Json:
    """What memop has made for a cluster, without what tells one namespace from another."""

    def check() -> Json:
        service, config = kubectl.get("service", cluster), kubectl.get("configmap", f"{cluster}-proxy")
        proxies = kubectl.get("deployment", f"{cluster}-proxy")["spec"]
        pools = [pool for pool in kubectl.list("memcacheds") if pool["metadata"]["name"].startswith(f"{cluster}-r")]
        assert len(pools) == kubectl.get(CLUSTERS, cluster)["spec"]["replicasPerShard"]
        return {
            "ports": [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]],
            "selector": service["spec"]["selector"],
            "config": {file: text.replace(f".{kubectl.namespace}.", ".") for file, text in config["data"].items()},
            "proxies": proxies["replicas"],
            "labels": proxies["template"]["metadata"]["labels"],
            "containers": proxies["template"]["spec"]["containers"],
            "pools": {pool["metadata"]["name"]: pool["spec"] for pool in pools},
        }

    return eventually(check, timeout=30)


def test_the_definitions_are_established_without_warnings(kubectl: Kubectl) -> None:
    applied = kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests/compat"))
    assert applied.stderr == ""
    for crd_name in PLURALS.values():
        conditions = {one["type"]: one["status"] for one in kubectl.get("crd", crd_name)["status"]["conditions"]}
        assert conditions["Established"] == conditions["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_manifest_as_in_its_documentation_is_served_and_converted_gives_the_same(
    sample: Path, kubectl: Kubectl, other: Kubectl, start_operator: OperatorFactory
) -> None:
    old = yaml.safe_load(sample.read_text(encoding="utf-8"))
    kind, name = old["kind"], old["metadata"]["name"]
    child = f"{name}-memshack" if kind == "Memshack" else name
    where = Kubectl(old["metadata"].get("namespace", kubectl.namespace))
    start_operator(f"--watch-namespaces={where.namespace},{other.namespace}", all_namespaces=True)
    applied = where("apply", "-f", str(sample))
    assert "Warning" not in applied.stderr
    try:
        status = served(where, kind, name)
        assert condition(status, "Translated")["status"] == "True"
        assert condition(status, "Degraded")["reason"] != "InvalidSpec"
        for type_ in ("Available", "Progressing", "Ready"):
            assert condition(status, type_)["reason"]
        cluster = where.get(CLUSTERS, child)
        assert [owner["uid"] for owner in cluster["metadata"]["ownerReferences"]] == [status["metadata"]["uid"]]
        made = made_of(where, child)
        assert made["ports"][0] == (old["spec"].get("mcrouter_port", 11211), "proxy")

        converted = memop("convert", "-f", str(sample))
        assert (converted.returncode, converted.stderr) == (0, "")
        native = yaml.safe_load(converted.stdout)
        native["metadata"].pop("namespace", None)  # the sample's own
        other("apply", "-f", "-", input=yaml.safe_dump(native))
        assert other.get(CLUSTERS, child)["spec"] == cluster["spec"]
        assert made_of(other, child) == made
    finally:
        where("delete", PLURALS[kind], name)
        for plural in (CLUSTERS, "memcacheds", "services", "deployments", "configmaps", "poddisruptionbudgets"):
            where("delete", plural, "-l", "app.kubernetes.io/managed-by=memcached-operator", "--wait=false")


def test_fields_that_memop_does_not_know_are_taken_kept_and_told_of(kubectl: Kubectl, operator: Operator) -> None:
    spec: Json = {"replicas": 2, "cluster": {"type": "sharded"}, "proxy": {"twemproxy": {"image": "t:1", "old": [1]}}}
    done = kubectl("create", "--validate=strict", "-f", "-", input=json.dumps(manifest("MemcachedCluster", **spec)))
    assert "Warning" not in done.stderr
    cr = served(kubectl, "MemcachedCluster", "cache")
    assert cr["spec"] == spec
    assert condition(cr, "Translated") == {
        **condition(cr, "Translated"),
        "status": "False",
        "reason": "NoEquivalent",
        "message": "spec.cluster: unknown, and so without effect; "
        "spec.proxy.twemproxy.old: unknown, and so without effect",
    }
    assert kubectl.get(CLUSTERS, "cache")["spec"]["shards"] == 2

    def assert_told() -> None:
        assert "NoEquivalent" in {event["reason"] for event in kubectl.list("events.events.k8s.io")}

    eventually(assert_told)


REFUSED: list[tuple[str, Json, str]] = [
    ("MemcachedCluster", {"replicas": 0}, "spec.replicas: Invalid value: 0"),
    ("MemcachedCluster", {"replicas": 100}, "spec.replicas: Invalid value: 100"),
    ("MemcachedCluster", {"memcachedImage": 1}, "spec.memcachedImage: Invalid value"),
    ("MemcachedCluster", {"proxy": {"twemproxy": {"hash": "x"}}}, "spec.proxy.twemproxy.hash: Unsupported value"),
    ("Mcrouter", {"memcached_pool_size": "3"}, "spec.memcached_pool_size: Invalid value"),
    ("Mcrouter", {"memcached_pool_size": 9}, "at most 8 copies of each key: lower memcached_pool_size, or set"),
    ("Mcrouter", {"debug_fifo_root": "fifos"}, "spec.debug_fifo_root: Invalid value"),
    ("Mcrouter", {"pool_setup": "mirrored"}, "spec.pool_setup: Unsupported value"),
    ("Memshack", {"mcrouter_port": 11211}, "11211 is memcached's own port: choose another, such as 5000"),
    ("Memshack", {"num_replicas": 9}, "spec.num_replicas: Invalid value: 9"),
]


def test_what_no_cluster_can_be_made_of_is_refused_and_the_rest_is_not(kubectl: Kubectl) -> None:
    def create(body: Json) -> subprocess.CompletedProcess[str]:
        return kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(body), check=False)

    for kind, spec, words in REFUSED:
        assert words in create(manifest(kind, **spec)).stderr
    for kind, longest in (("MemcachedCluster", 49), ("Mcrouter", 49), ("Memshack", 40)):
        assert create(manifest(kind, "c" * longest)).returncode == 0
        for name in ("c" * (longest + 1), "my.cache"):
            assert f"must be a DNS-1035 label of at most {longest} characters" in create(manifest(kind, name)).stderr
    assert create(manifest("Mcrouter", memcached_pool_size=64, pool_setup="sharded")).returncode == 0
    # null is as good as absent: it is dropped.
    assert create(manifest("Mcrouter", memcached_pool_size=None)).returncode == 0


def test_a_kind_that_is_installed_later_is_served_from_then_on(
    kubectl: Kubectl, definitions: str, start_operator: OperatorFactory
) -> None:
    kubectl("delete", "-f", "-", input=definitions)
    operator = start_operator()
    code, told = operator.probe("readyz?verbose")
    assert code == 200, told
    kubectl.install(definitions)
    kubectl.apply(manifest("Memshack"))
    served(kubectl, "Memshack", "cache")
    assert kubectl.get(CLUSTERS, "cache-memshack")["spec"]["shards"] == 3


def test_changes_are_followed_drift_is_put_back_and_a_paused_one_is_left_alone(
    kubectl: Kubectl, operator: Operator
) -> None:
    kubectl.apply(manifest("Mcrouter", memcached_pool_size=2))
    served(kubectl, "Mcrouter", "cache")
    kubectl.apply(manifest("Mcrouter", memcached_pool_size=3, pool_setup="sharded"))
    served(kubectl, "Mcrouter", "cache", generation=2)

    def assert_is(shards: int) -> None:
        spec = kubectl.get(CLUSTERS, "cache")["spec"]
        assert (spec["shards"], spec["replicasPerShard"], "readPolicy" in spec["proxy"]) == (shards, 1, False)

    assert_is(3)
    kubectl.patch(CLUSTERS, "cache", {"spec": {"shards": 7}})
    eventually(lambda: assert_is(3))
    kubectl("annotate", PLURALS["Mcrouter"], "cache", "memcached.c5c3.io/paused=true")

    def assert_paused(status: str) -> None:
        assert condition(kubectl.get(PLURALS["Mcrouter"], "cache"), "Paused")["status"] == status

    eventually(lambda: assert_paused("True"))
    kubectl.patch(CLUSTERS, "cache", {"spec": {"shards": 7}})
    kubectl("annotate", PLURALS["Mcrouter"], "cache", "touched=yes")
    with pytest.raises(AssertionError):
        eventually(lambda: assert_is(3), timeout=3)
    kubectl("annotate", PLURALS["Mcrouter"], "cache", "memcached.c5c3.io/paused-")
    eventually(lambda: assert_is(3))
    eventually(lambda: assert_paused(""))


def test_another_cluster_of_the_childs_name_is_left_alone(kubectl: Kubectl, operator: Operator) -> None:
    theirs = {"apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "MemcachedCluster", "metadata": {"name": "cache"}}
    kubectl.create({**theirs, "spec": {"shards": 1}})
    before = kubectl.get(CLUSTERS, "cache")["spec"]
    kubectl.apply(manifest("Mcrouter"))

    def assert_conflict() -> None:
        degraded = condition(kubectl.get(PLURALS["Mcrouter"], "cache"), "Degraded")
        assert degraded["reason"] == "ObjectConflict", degraded

    eventually(assert_conflict)
    found = kubectl.get(CLUSTERS, "cache")
    assert found["spec"] == before
    assert "ownerReferences" not in found["metadata"]


def test_the_status_of_another_operator_gives_way_to_memops(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    kubectl.create(manifest("Mcrouter"))
    theirs = {
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "Failed",
                "message": "m",
                "lastTransitionTime": "2018-12-03T13:45:57Z",
            }
            for kind in ("Failure", "Running")
        ]
    }
    kubectl(
        "patch",
        PLURALS["Mcrouter"],
        "cache",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": theirs}),
    )
    start_operator()
    cr = served(kubectl, "Mcrouter", "cache")
    assert condition(cr, "Failure")["status"] == ""
    assert condition(cr, "Running")["reason"] == "Running"


def test_a_restart_over_served_objects_writes_nothing(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    operator = start_operator()
    for kind in VERSIONS:
        kubectl.apply(manifest(kind, kind.lower()))
    for kind in VERSIONS:
        served(kubectl, kind, kind.lower())

    def assert_quiet() -> None:
        first = writes(kubectl)
        with pytest.raises(AssertionError):
            eventually(lambda: assert_more(first), timeout=2)

    def assert_more(first: Any) -> None:
        assert writes(kubectl) != first

    eventually(assert_quiet, timeout=60)
    operator.stop()
    before = writes(kubectl)
    operator.start()
    assert_quiet()
    assert writes(kubectl) == before

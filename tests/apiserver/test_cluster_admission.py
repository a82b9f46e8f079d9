"""Admission of `MemcachedCluster` as the API server does it: `test_admission` and `test_crd` of the second kind."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.api.schema import crd
from tests.apiserver.test_admission import CONFIG, Answer, Api, cel_rules, configurations, kinds, plain, without_rules
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator, free_port
from tests.unit.webhooks.bad_clusters import BAD_CLUSTERS

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests/samples/cluster").glob("*.yaml"))
DENIED = 'admission webhook "validate.memcachedcluster.memcached.c5c3.io" denied the request: '
PROXY = {"replicas": 2, "port": 11211, "readPolicy": "failover", "writePolicy": "fastest"}
DEFAULTS = {"shards": 5, "replicasPerShard": 1, "memcached": {"memcached": CONFIG}, "proxy": PROXY}
TWO_PROXIES: Json = {"proxy": {"builtin": {}, "mcrouter": {}}}


def cluster(name: str, **spec: object) -> Json:
    return {
        "apiVersion": MEMCACHED_CLUSTER.api_version,
        "kind": MEMCACHED_CLUSTER.kind,
        "metadata": {"name": name},
        "spec": spec,
    }


class Clusters(Api):
    def path(self, name: str = "", version: str = "v1alpha1", *, dry_run: bool = True) -> str:
        return super().path(name, version, dry_run=dry_run).replace("/memcacheds", "/memcachedclusters")


@pytest.fixture
def api(kubectl: Kubectl, tmp_path: Path) -> Iterator[Clusters]:
    api = Clusters(kubectl, tmp_path)
    yield api
    api.close()


@contextmanager
def serving(kubectl: Kubectl, start_operator: OperatorFactory) -> Iterator[Operator]:
    """memop serving admission for the test's namespace."""
    port = free_port()
    flags = ("--enable-webhooks", f"--webhook-port={port}", f"--leader-election-namespace={kubectl.namespace}")
    with configurations(kubectl, port):
        operator = start_operator(*flags)
        eventually(lambda: kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(cluster("x"))), timeout=20)
        yield operator


@pytest.fixture
def webhooks(kubectl: Kubectl, start_operator: OperatorFactory) -> Iterator[Operator]:
    with serving(kubectl, start_operator) as operator:
        yield operator


@contextmanager
def no_cel(api: Clusters, refused: Callable[[Answer], None], taken: Callable[[Answer], None]) -> Iterator[None]:
    """The CRD without its rules for a while; what is said then of two proxies, and what before and after."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{MEMCACHED_CLUSTER.crd_name}"
    versions = crd(MEMCACHED_CLUSTER)["spec"]["versions"]

    def install(versions: list[Json], check: Callable[[Answer], None]) -> None:
        patch = [{"op": "replace", "path": "/spec/versions", "value": versions}]
        assert api.ask("PATCH", path, patch, Content_Type="application/json-patch+json").code == 200
        eventually(lambda: check(api.create(cluster("probe", **TWO_PROXIES))))

    try:
        install(without_rules(versions), taken)
        yield
    finally:
        install(versions, refused)


def is_taken(answer: Answer) -> None:
    assert answer.code == 201


def by_webhook(answer: Answer) -> None:
    assert answer.body["message"].startswith(DENIED)


def by_cel(answer: Answer) -> None:
    assert answer.code == 422
    assert not answer.body["message"].startswith(DENIED)


# --- Defaults and good objects


@pytest.mark.parametrize("server_side", [False, True])
def test_defaults_are_stored_by_every_way_of_applying(
    kubectl: Kubectl, webhooks: Operator, *, server_side: bool
) -> None:
    flags = ["--server-side"] if server_side else []
    for body in (cluster("cache"), cluster("cache", shards=3, proxy={"twemproxy": {"image": "t:1"}})):
        kubectl("apply", *flags, "-f", "-", input=json.dumps(body))
    twemproxy = {
        "image": "t:1",
        "hash": "fnv1a_64",
        "distribution": "ketama",
        "serverFailureLimit": 1,
        "serverRetryTimeout": 2000,
    }
    filled = {**DEFAULTS, "shards": 3, "proxy": {**PROXY, "twemproxy": twemproxy}}
    assert kubectl.get("mcc", "cache")["spec"] == filled
    # The proxy can be changed by naming another: no default of the first stands in the way.
    kubectl("apply", *flags, "-f", "-", input=json.dumps(cluster("cache", proxy={"mcrouter": {}})))
    assert kubectl.get("mcc", "cache")["spec"] == {**DEFAULTS, "proxy": {**PROXY, "mcrouter": {}}}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_accepted(path: Path, kubectl: Kubectl, webhooks: Operator) -> None:
    done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert "Warning" not in done.stderr


def test_the_longest_name_is_taken(api: Clusters) -> None:
    assert api.create(cluster("n" * 49)).code == 201


# --- Refusals


def message(name: str, errors: list[str]) -> str:
    told = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    return f'MemcachedCluster.memcached.c5c3.io "{name}" is invalid: {told}'


def test_every_bad_object_of_the_table_is_refused_in_its_words(api: Clusters, webhooks: Operator) -> None:
    wrong = []
    for bad in BAD_CLUSTERS:
        answer = api.create(bad.manifest)
        ours = answer.body.get("message", "").startswith(DENIED)
        if bad.apiserver is None:
            right = ours and answer.body["message"] == DENIED + message(bad.name, bad.errors)
            right = right and answer.causes == [plain(error) for error in bad.errors]
        else:
            right = not ours and answer.code == 422 and sorted(answer.causes) == sorted(map(plain, bad.apiserver))
        if not right or (answer.code, answer.body["reason"]) != (422, "Invalid"):
            wrong.append((bad.spec, answer))
    assert wrong == []
    assert sum(bad.apiserver is None for bad in BAD_CLUSTERS) > 15


def test_what_cel_refuses_the_webhook_refuses_in_the_same_words(api: Clusters, webhooks: Operator) -> None:
    """The API server looks at CEL first, so without CEL is seen what the webhook says of the same object."""
    rules = set(cel_rules(crd(MEMCACHED_CLUSTER)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    assert len(rules) > 15
    said = [api.create(bad.manifest) for bad in BAD_CLUSTERS]
    with no_cel(api, by_cel, by_webhook):
        without = [api.create(bad.manifest) for bad in BAD_CLUSTERS]
    pairs = [(one, other) for one, other in zip(said, without, strict=True) if other.body["message"].startswith(DENIED)]
    for field, words in rules:
        assert any(kinds(one, field, words) for one, _ in pairs), f"no object of the table breaks {field}: {words}"
        for one, other in pairs:
            found = kinds(one, field, words)
            assert not found or kinds(other, field, words) == found, (field, words, other)


def test_an_object_older_than_the_rules_can_be_changed_but_not_made_worse(
    api: Clusters, kubectl: Kubectl, start_operator: OperatorFactory
) -> None:
    old = cluster("old", **TWO_PROXIES, memcached={"security": {"containerSecurityContext": {"privileged": True}}})
    with no_cel(api, by_cel, is_taken):
        assert api.create(old, dry_run=False).code == 201
    with serving(kubectl, start_operator):
        changed = api.merge("old", {"spec": {"shards": 3}})
        assert changed.code == 200
        assert changed.body["spec"]["replicasPerShard"] == 1, "what was not there before is filled in"
        tls = {"enabled": True, "certificateSecretRef": {"name": "s"}}
        worse = api.merge("old", {"spec": {"proxy": {"mcrouter": None}, "memcached": {"security": {"tls": tls}}}})
        words = "builtin and twemproxy speak plain text to the pool: choose proxy.mcrouter, or set enabled to false"
        assert worse.causes == [f"spec.memcached.security.tls.enabled: Forbidden: {words}"]
        assert worse.body["message"].startswith("MemcachedCluster"), "by CEL"
        worse = api.merge("old", {"spec": {"proxy": {"security": {"podSecurityContext": {"runAsUser": 0}}}}})
        words = "the proxy would run as root: remove it, or have the operator run with --allow-privileged-pods"
        assert worse.causes == [f"spec.proxy.security.podSecurityContext.runAsUser: Forbidden: {words}"]
        assert api.merge("old", {"spec": {"proxy": {"mcrouter": None}}}).code == 200
        assert api.merge("old", {"spec": {"proxy": {"mcrouter": {}}}}).code == 422


# What a cluster decides itself.
@pytest.mark.parametrize("field", ["replicas", "replicasFrom", "autoscaling", "podIdentity"])
def test_the_pool_has_no_size_of_its_own(field: str, kubectl: Kubectl, api: Clusters) -> None:
    value = {"replicas": 3, "podIdentity": "Stable"}.get(field, {})
    body = cluster("cache", memcached={field: value, "image": "m:1"})
    refused = kubectl("create", "-f", "-", input=json.dumps(body), check=False)
    assert f'unknown field "spec.memcached.{field}"' in refused.stderr
    assert kubectl.find("mcc", "cache") is None
    answer = api.create(body)
    assert answer.body["spec"] == {"memcached": {"image": "m:1"}}, "who does not ask for strictness, loses it"


# --- Warnings


def test_warnings_come_through_and_tell_what_a_change_does_to_keys(api: Clusters, webhooks: Operator) -> None:
    made = api.create(cluster("cache", proxy={"replicas": 1}), dry_run=False)
    assert made.code == 201
    assert made.warnings == ["spec.proxy.replicas: while the one proxy is replaced, nobody is served; 2 are safe"]
    changed = api.merge("cache", {"spec": {"shards": 2, "proxy": {"replicas": 2, "mcrouter": {}}}})
    assert changed.code == 200
    assert changed.warnings == [
        "spec.shards: from 5 to 2: the last shards' keys are lost",
        "spec.proxy: from builtin to mcrouter: nearly all keys get another shard, and miss until they are set again",
    ]


# --- Scale


def test_scale_changes_shards_within_the_rules(kubectl: Kubectl, webhooks: Operator) -> None:
    budget = {"highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": 2}}}
    kubectl.apply(cluster("cache", memcached=budget))
    kubectl("scale", "mcc/cache", "--replicas=7")
    assert kubectl.get("mcc", "cache")["spec"]["shards"] == 7
    for shards, words in ((2, "must be less than shards"), (0, "should be greater than or equal to 1"), (65, "64")):
        refused = kubectl("scale", "mcc/cache", f"--replicas={shards}", check=False)
        assert words in refused.stderr
    assert kubectl.get("mcc", "cache")["spec"]["shards"] == 7


def test_what_leaves_the_spec_alone_needs_no_memop(kubectl: Kubectl, api: Clusters, webhooks: Operator) -> None:
    kubectl.apply(cluster("cache"))
    assert webhooks.stop() == 0
    kubectl("annotate", "mcc/cache", "memcached.c5c3.io/paused=true")
    kubectl("scale", "mcc/cache", "--replicas=6")
    refused = api.merge("cache", {"spec": {"shards": 3}})
    assert refused.code == 500
    assert 'failed calling webhook "mutate.memcachedcluster.memcached.c5c3.io"' in refused.body["message"]
    assert kubectl.get("mcc", "cache")["spec"]["shards"] == 6

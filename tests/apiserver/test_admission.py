"""Admission as the API server does it: defaults, refusals and warnings through memop's webhooks and certificate."""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from memop.api.memcached import MEMCACHED
from memop.api.schema import crd
from tests.support.fixtures import CRD, OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator, free_port
from tests.unit.webhooks.bad_objects import BAD

MANIFESTS = Path(__file__).parents[2] / "manifests/webhook"
NAME = "memop-webhook"
KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
CONFIG = {"maxMemoryMB": 64, "maxConnections": 1024, "threads": 4, "maxItemSize": "1m", "verbosity": 0}


def configuration(file: str, namespace: str, port: int) -> Json:
    """The shipped one, for the test's namespace and memop in it, beside the API server and so reached by a URL."""
    body: Json = yaml.safe_load((MANIFESTS / file).read_text(encoding="utf-8"))
    for webhook in body["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"https://localhost:{port}{path}"}
        for condition in webhook["matchConditions"]:
            condition["expression"] = condition["expression"].replace("memop-system", namespace)
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return body


def memcached(name: str, version: str = "v1beta1", **spec: object) -> Json:
    return {
        "apiVersion": f"memcached.c5c3.io/{version}",
        "kind": "Memcached",
        "metadata": {"name": name},
        "spec": spec,
    }


class Answer(NamedTuple):
    code: int
    body: Json
    warnings: list[str]

    @property
    def causes(self) -> list[str]:
        """Every error, `plain`; that some rules could not be looked at, which the API server adds, is none."""
        causes = self.body["details"]["causes"]
        return [plain(f"{one['field']}: {one['message']}") for one in causes if one["field"] != "<nil>"]


def plain(error: str) -> str:
    """An error in words that all API servers have: 1.30 says a length otherwise, and 1.36 no object's type."""
    error = re.sub(r"may not be longer than (\d+)$", r"may not be more than \1 bytes", error)
    return re.sub(r'Invalid value: ("object"|null): ', "Invalid value: ", error)


class Api:
    """The API server, asked without kubectl: it tells codes, warnings and whole messages. One request at a time."""

    def __init__(self, kubectl: Kubectl, directory: Path) -> None:
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        client = directory / "client.pem"
        client.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        context.load_cert_chain(client)
        self._host = cluster["server"].removeprefix("https://")
        self._context = context
        self._namespace = kubectl.namespace
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, verb: str, path: str, body: Json | list[Json] | None = None, **headers: str) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(self._host, context=self._context, timeout=30)
        sent = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self._connection.request(verb, path, None if body is None else json.dumps(body), sent)
        answer = self._connection.getresponse()
        warnings = [re.sub(r'^299 - "(.*)"$', r"\1", line) for line in answer.headers.get_all("Warning", [])]
        return Answer(answer.status, json.loads(answer.read()), warnings)

    def path(self, name: str = "", version: str = "v1beta1", *, dry_run: bool = True) -> str:
        where = f"/apis/memcached.c5c3.io/{version}/namespaces/{self._namespace}/memcacheds"
        return where + (f"/{name}" if name else "") + ("?dryRun=All" if dry_run else "")

    def create(self, manifest: Json, *, dry_run: bool = True) -> Answer:
        return self.ask("POST", self.path(version=manifest["apiVersion"].split("/")[1], dry_run=dry_run), manifest)

    def merge(self, name: str, patch: Json, **headers: str) -> Answer:
        """A merge patch, stored."""
        headers = {"Content_Type": "application/merge-patch+json", **headers}
        return self.ask("PATCH", self.path(name, dry_run=False), patch, **headers)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def api(kubectl: Kubectl, tmp_path: Path) -> Iterator[Api]:
    api = Api(kubectl, tmp_path)
    yield api
    api.close()


@contextmanager
def configurations(kubectl: Kubectl, port: int, ca: str = "") -> Iterator[None]:
    """Both of them, for as long as the test takes."""
    try:
        for file in ("mutating.yaml", "validating.yaml"):
            body = configuration(file, kubectl.namespace, port)
            if ca:
                for webhook in body["webhooks"]:
                    webhook["clientConfig"]["caBundle"] = base64.b64encode(ca.encode()).decode()
            kubectl("create", "-f", "-", input=json.dumps(body))
        yield
    finally:
        for kind in KINDS:
            kubectl("delete", kind, NAME, "--ignore-not-found")
        Kubectl("default")("delete", "secret", f"{NAME}-cert", "--ignore-not-found")


@pytest.fixture
def webhooks(kubectl: Kubectl, start_operator: OperatorFactory) -> Iterator[Operator]:
    """memop serving admission for the test's namespace."""
    port = free_port()
    flags = ("--enable-webhooks", f"--webhook-port={port}", f"--leader-election-namespace={kubectl.namespace}")
    with configurations(kubectl, port):
        operator = start_operator(*flags)
        eventually(lambda: told(kubectl), timeout=20)
        yield operator


def told(kubectl: Kubectl) -> None:
    """Whether the API server trusts memop."""
    for kind in KINDS:
        hooks = json.loads(kubectl("get", kind, NAME, "-o", "json").stdout)["webhooks"]
        assert all(hook["clientConfig"].get("caBundle") for hook in hooks)
    kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(memcached("probe")))


# --- Defaults


def test_defaults_are_stored_in_both_versions_and_by_every_way_of_applying(
    kubectl: Kubectl, webhooks: Operator
) -> None:
    for version in ("v1alpha1", "v1beta1"):
        body = json.dumps(memcached(f"client-{version}", version))
        kubectl("apply", "-f", "-", input=body)
        assert kubectl.get("mc", f"client-{version}")["spec"] == {"replicas": 1, "memcached": CONFIG}
    kubectl.apply(memcached("server"))
    stored = kubectl.get("mc", "server")
    assert stored["spec"] == {"replicas": 1, "memcached": CONFIG}
    # What admission fills in has no owner: that is how memop knows its default again.
    specs = [entry["fieldsV1"].get("f:spec", {}) for entry in stored["metadata"]["managedFields"]]
    assert not any("f:replicas" in spec for spec in specs)


@pytest.mark.parametrize("server_side", [False, True])
def test_autoscaling_can_be_turned_on_later(kubectl: Kubectl, webhooks: Operator, *, server_side: bool) -> None:
    flags = ["--server-side"] if server_side else []
    plain = memcached("pool")
    kubectl("apply", *flags, "-f", "-", input=json.dumps(plain))
    assert kubectl.get("mc", "pool")["spec"]["replicas"] == 1
    scaled = memcached("pool", autoscaling={"enabled": True, "maxReplicas": 3}, resources={"requests": {"cpu": "10m"}})
    kubectl("apply", *flags, "-f", "-", input=json.dumps(scaled))
    assert "replicas" not in kubectl.get("mc", "pool")["spec"]
    explicit = memcached("given", replicas=1)
    kubectl("apply", *flags, "-f", "-", input=json.dumps(explicit))
    explicit["spec"] |= scaled["spec"]
    refused = kubectl("apply", *flags, "-f", "-", input=json.dumps(explicit), check=False)
    assert "the autoscaler decides the number of pods" in refused.stderr


# --- Refusals

DENIED = 'admission webhook "validate.memcached.c5c3.io" denied the request: '


def message(name: str, errors: Sequence[str]) -> str:
    told = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    return f'Memcached.memcached.c5c3.io "{name}" is invalid: {told}'


def test_every_bad_object_of_the_table_is_refused_in_its_words(api: Api, webhooks: Operator) -> None:
    wrong = []
    for bad in BAD:
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
    assert sum(bad.apiserver is None for bad in BAD) > 50


def cel_rules(node: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Field and message of every rule in a schema."""
    for rule in node.get("x-kubernetes-validations", ()):
        yield (path + rule.get("fieldPath", "")).removeprefix("."), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from cel_rules(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from cel_rules(node[name], f"{path}[]")


def without_rules(node: Any) -> Any:
    """A schema without CEL."""
    if isinstance(node, list):
        return [without_rules(item) for item in node]
    if isinstance(node, dict):
        return {name: without_rules(child) for name, child in node.items() if name != "x-kubernetes-validations"}
    return node


def kinds(answer: Answer, field: str, words: str) -> set[str]:
    """`Invalid value`, `Forbidden` …: what kind of error these words are, if they are said."""
    told = (one for one in answer.causes if one.startswith(f"{field}: ") and one.endswith(f": {words}"))
    return {one.removeprefix(f"{field}: ").partition(": ")[0] for one in told}


def test_what_cel_refuses_the_webhook_refuses_in_the_same_words(kubectl: Kubectl, api: Api, webhooks: Operator) -> None:
    """The API server looks at CEL first, so without CEL is seen what the webhook says of the same object."""
    rules = set(cel_rules(crd(MEMCACHED)["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]))
    assert len(rules) > 15
    assert api.create(memcached("stays"), dry_run=False).code == 201

    def refusals() -> dict[int, Answer]:
        found = {number: api.create(bad.manifest) for number, bad in enumerate(BAD)}
        return {**found, -1: api.merge("stays", {"spec": {"podIdentity": "Stable"}})}

    by_cel = refusals()
    versions = crd(MEMCACHED)["spec"]["versions"]
    try:
        set_versions(api, without_rules(versions))
        eventually(lambda: denied(api.create(NOT_BOTH), by_webhook=True))
        by_webhook = refusals()
    finally:
        set_versions(api, versions)
        eventually(lambda: denied(api.create(NOT_BOTH), by_webhook=False))

    # The schema speaks first in both cases.
    by_webhook = {number: one for number, one in by_webhook.items() if one.body["message"].startswith(DENIED)}
    for field, words in rules:
        by_both = {number: kinds(by_cel[number], field, words) for number in by_webhook}
        assert any(by_both.values()), f"no object of the table breaks {field}: {words}"
        for number, said in by_both.items():
            assert not said or kinds(by_webhook[number], field, words) == said, (field, words, by_webhook[number])


NOT_BOTH = memcached("x", replicas=1, replicasFrom={"kind": "Deployment", "name": "web"})


def set_versions(api: Api, versions: list[Json]) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}"
    patch = [{"op": "replace", "path": "/spec/versions", "value": versions}]
    assert api.ask("PATCH", path, patch, Content_Type="application/json-patch+json").code == 200


def denied(answer: Answer, *, by_webhook: bool) -> None:
    assert answer.code == 422
    assert answer.body["message"].startswith(DENIED) is by_webhook


def test_warnings_come_through(api: Api, webhooks: Operator) -> None:
    answer = api.create(memcached("pool", image="memcached:latest"))
    assert answer.code == 201
    assert answer.warnings == ["spec.image: latest: pods may run different versions; name a version"]


def test_megabytes_are_refused_in_time_and_in_few_words(api: Api, webhooks: Operator) -> None:
    many = api.create(memcached("pool", memcached={"extraArgs": ["-m1"] * 10_000}))
    assert len(many.causes) == 50
    assert many.causes[-1] == "spec: Forbidden: 9951 more errors like these: mend them first"
    for argument in ("-" + "v" * 1_000_000, "-" + "d" * 2_000_000):
        much = api.create(memcached("pool", memcached={"extraArgs": [argument]}))
        assert much.body["message"] == DENIED + message("pool", ["spec: Too long: may not be more than 131072 bytes"])


# --- Updates


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_an_object_from_before_the_webhooks_can_be_changed_but_not_made_worse(
    kubectl: Kubectl, api: Api, start_operator: OperatorFactory, version: str
) -> None:
    port = free_port()
    old = memcached("pool", version, security={"containerSecurityContext": {"privileged": True}})
    assert api.create(old, dry_run=False).code == 201
    with configurations(kubectl, port):
        start_operator("--enable-webhooks", f"--webhook-port={port}")
        eventually(lambda: told(kubectl), timeout=20)
        path, kind = api.path("pool", version, dry_run=False), {"Content_Type": "application/merge-patch+json"}
        changed = api.ask("PATCH", path, {"spec": {"nodeSelector": {"disk": "ssd"}}}, **kind)
        assert changed.code == 200
        assert changed.body["apiVersion"] == f"memcached.c5c3.io/{version}"
        assert changed.body["spec"] == old["spec"] | {
            "nodeSelector": {"disk": "ssd"},
            "replicas": 1,
            "memcached": CONFIG,
        }
        worse = {"spec": {"security": {"containerSecurityContext": {"runAsUser": 0}}}}
        answer = api.ask("PATCH", path, worse, **kind)
        words = "memcached would run as root: remove it, or have the operator run with --allow-privileged-pods"
        assert answer.causes == [f"spec.security.containerSecurityContext.runAsUser: Forbidden: {words}"]
        better = {"spec": {"security": {"containerSecurityContext": {"privileged": None}}}}
        assert api.ask("PATCH", path, better, **kind).code == 200
        back = {"spec": {"security": {"containerSecurityContext": {"privileged": True}}}}
        assert api.ask("PATCH", path, back, **kind).code == 422


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_a_dry_run_is_judged_like_the_rest_and_leaves_nothing(
    kubectl: Kubectl, api: Api, webhooks: Operator, version: str
) -> None:
    before = webhooks.metrics()
    good = api.create(memcached("pool", version))
    assert good.code == 201
    assert good.body["spec"] == {"replicas": 1, "memcached": CONFIG}
    bad = api.create(memcached("pool", version, security={"containerSecurityContext": {"privileged": True}}))
    assert bad.body["message"].startswith(DENIED)
    assert kubectl.find("mc", "pool") is None
    assert [calls(webhooks.metrics(), task) - calls(before, task) for task in ("mutate", "validate")] == [2, 2]


def calls(metrics: str, task: str) -> int:
    """Answers of a webhook so far."""
    found = re.findall(
        rf'^controller_runtime_webhook_requests_total\{{code="200",webhook="/{task}-.*\}} (.*)$', metrics, re.MULTILINE
    )
    return sum(int(float(value)) for value in found)


# --- Without memop


def test_what_leaves_the_spec_alone_needs_no_memop(kubectl: Kubectl, api: Api, webhooks: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=1))
    assert webhooks.stop() == 0
    kubectl("annotate", "mc/pool", "memcached.c5c3.io/paused=true")
    kubectl("scale", "mc/pool", "--replicas=2")
    kubectl("patch", "mc/pool", "--subresource=status", "--type=merge", "-p", '{"status":{"readyReplicas":1}}')
    refused = api.merge("pool", {"spec": {"replicas": 3}})
    assert refused.code == 500
    assert 'failed calling webhook "mutate.memcached.c5c3.io"' in refused.body["message"]
    assert "connection refused" in refused.body["message"]
    assert kubectl.get("mc", "pool")["spec"]["replicas"] == 2
    kubectl.patch("mc", "pool", {"metadata": {"finalizers": ["example.com/hold"]}})
    kubectl.delete("mc", "pool", wait=False)
    # What goes is let go: together with the finalizer even the spec may change.
    assert api.merge("pool", {"metadata": {"finalizers": None}, "spec": {"threads": 2}}).code == 200
    assert kubectl.find("mc", "pool") is None


def test_metrics_tell_of_webhooks(kubectl: Kubectl, webhooks: Operator) -> None:
    assert calls(webhooks.metrics(), "mutate") > 0
    assert "memop_webhook_certificate_expiry_timestamp_seconds 1." in webhooks.metrics()

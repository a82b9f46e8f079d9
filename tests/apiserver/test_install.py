"""The manifests as a real API server takes them: kustomizations, and the chart with every option at least once."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hack.manifests import CHART, MANIFESTS, built, from_source, leftovers, stale
from hack.tools import tool
from memop import rights
from tests.support import crds as definitions
from tests.support.kubectl import Json, Kubectl, eventually
from tests.unit.test_manifests import VALUES, paths, taken

KUSTOMIZATIONS = (
    *("default", "overlays/cert-manager", "overlays/no-webhooks", "overlays/namespaced"),
    *("prometheus", "compat", "rbac/compat", "webhook"),
)
FOREIGN_DEFINITIONS = (
    *("certificates.cert-manager.io", "issuers.cert-manager.io"),
    *("servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"),
)
DEFINITION = "CustomResourceDefinition"  # seconds each for the API server, so judged once
WITH_DEFINITIONS = ("default", "compat")
HELMS_LABELS = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"}
KEPT = {"helm.sh/resource-policy": "keep"}


@pytest.fixture(scope="module")
def installable(crds: None) -> Iterator[None]:
    """What an administrator makes first: memop's namespace, and the definitions of others' kinds.

    The namespace stays: at level 1 nothing would end it.
    """
    namespace = (MANIFESTS / "namespace/namespace.yaml").read_text(encoding="utf-8")
    run("kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-", input_=namespace)
    found = [definitions._definition(name) for name in FOREIGN_DEFINITIONS]
    for path in found:
        Kubectl("default").install(path.read_text(encoding="utf-8"))
    yield
    for path in found:
        run("kubectl", "delete", "-f", str(path))


@pytest.fixture(scope="module")
def helm_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """None of the user's own repositories and plugins."""
    home = tmp_path_factory.mktemp("helm")
    return {f"HELM_{what}_HOME": str(home / what) for what in ("CACHE", "CONFIG", "DATA")}


class Helm:
    """helm with KUBECONFIG from the environment; `--version` of nothing is asked for, nothing is fetched."""

    def __init__(self, home: dict[str, str], chart: Path = MANIFESTS / CHART) -> None:
        self._environ = {**os.environ, **home}
        self._chart = chart

    def __call__(self, command: str, *args: str, values: Json | None = None, check: bool = True) -> str:
        """`helm COMMAND memop CHART`; its output, or, where it fails and may, what it says."""
        chart = [] if command == "uninstall" else [str(self._chart), "--values=-"]
        return run(
            *(str(tool("helm")), command, "memop", *chart, *args),
            input_=json.dumps(values or {}),
            environ=self._environ,
            check=check,
        )

    def template(self, values: Json | None = None, namespace: str = rights.NAMESPACE) -> list[Json]:
        return objects(self("template", f"--namespace={namespace}", values=values))


@pytest.fixture(scope="module")
def helm(helm_home: dict[str, str]) -> Helm:
    return Helm(helm_home)


def run(*command: str, input_: str = "", environ: dict[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(
        command, input=input_, capture_output=True, text=True, timeout=120, check=False, env=environ or os.environ
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout
    assert done.returncode, f"{' '.join(command)} succeeded"
    return done.stderr


def objects(text: str) -> list[Json]:
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def name(item: Json) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def kustomize(directory: str) -> list[Json]:
    return objects(_built(directory))


@cache
def _built(directory: str) -> str:
    return run("kubectl", "kustomize", str(MANIFESTS / directory))


def one(items: Iterable[Json], kind: str, called: str = "memop") -> Json:
    (found,) = (item for item in items if (item["kind"], item["metadata"]["name"]) == (kind, called))
    return found


def assert_accepted(items: list[Json]) -> None:
    """By admission too, Pod Security among it, without a warning; nothing is stored."""
    done = subprocess.run(
        ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(items)


def pod_spec(items: Iterable[Json]) -> Json:
    spec: Json = one(items, "Deployment")["spec"]["template"]["spec"]
    return spec


def arguments(items: Iterable[Json]) -> list[str]:
    found: list[str] = pod_spec(items)["containers"][0]["args"]
    return found


@pytest.mark.usefixtures("installable")
@pytest.mark.parametrize("directory", KUSTOMIZATIONS)
def test_a_kustomization_is_accepted(directory: str) -> None:
    assert_accepted(
        [item for item in kustomize(directory) if directory in WITH_DEFINITIONS or item["kind"] != DEFINITION]
    )


@pytest.mark.usefixtures("installable")
def test_a_pod_that_is_not_restricted_would_be_warned_of() -> None:
    items = kustomize("overlays/no-webhooks")
    del pod_spec(items)["securityContext"]["seccompProfile"]
    with pytest.raises(AssertionError, match="seccompProfile"):
        assert_accepted(items)


def test_what_is_built_of_the_kustomizations_is_current() -> None:
    files = built()
    assert stale(files) == [], "run: python -m hack.manifests"
    assert leftovers([*from_source(), *files]) == []


@pytest.mark.parametrize("directory", KUSTOMIZATIONS[:4])
def test_memop_takes_the_arguments_of_every_overlay(directory: str) -> None:
    container = pod_spec(kustomize(directory))["containers"][0]
    environ = {variable["name"]: variable["value"] for variable in container.get("env", ())}
    settings = taken(container["args"], environ)
    assert settings.leader_elect
    assert settings.enable_webhooks is (directory in ("default", "overlays/cert-manager"))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports.get("webhook") == (settings.webhook_port if settings.enable_webhooks else None)


def test_without_webhooks_nothing_of_them_is_left() -> None:
    left = {name(item) for item in kustomize("overlays/no-webhooks")}
    assert {name(item) for item in kustomize("default")} - left == {
        ("Role", "memop-system", "memop-webhook"),
        ("RoleBinding", "memop-system", "memop-webhook"),
        ("ClusterRole", "", "memop-webhook"),
        ("ClusterRoleBinding", "", "memop-webhook"),
        ("Service", "memop-system", "memop-webhook"),
        ("MutatingWebhookConfiguration", "", "memop-webhook"),
        ("ValidatingWebhookConfiguration", "", "memop-webhook"),
    }


def test_with_cert_manager_memop_gets_no_right_to_make_certificates() -> None:
    items = kustomize("overlays/cert-manager")
    assert [item for item in items if "Role" in item["kind"] and item["metadata"]["name"] == "memop-webhook"] == []
    certificate = one(items, "Certificate", "memop-webhook")
    settings = taken(arguments(items))
    (volume,) = (volume for volume in pod_spec(items)["volumes"] if "secret" in volume)
    (mount,) = (m for m in pod_spec(items)["containers"][0]["volumeMounts"] if m["name"] == volume["name"])
    assert mount["mountPath"] == settings.webhook_cert_path
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"] != f"{settings.webhook_name}-cert"
    assert certificate["spec"]["issuerRef"]["name"] == one(items, "Issuer", "memop-webhook")["metadata"]["name"]
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        configuration = one(items, kind, "memop-webhook")
        assert configuration["metadata"]["annotations"] == {
            "cert-manager.io/inject-ca-from": "memop-system/memop-webhook"
        }
        for webhook in configuration["webhooks"]:
            service = webhook["clientConfig"]["service"]
            assert f"{service['name']}.{service['namespace']}.svc" in certificate["spec"]["dnsNames"]


def test_a_namespaced_installation_has_roles_alone() -> None:
    items = kustomize("overlays/namespaced")
    assert {item["kind"] for item in items} == {
        *("ServiceAccount", "Role", "RoleBinding", "Deployment", "PodDisruptionBudget", "Service")
    }
    assert all(item["metadata"]["namespace"] in ("memop-system", "default") for item in items)
    (served,) = (item for item in items if name(item) == ("Role", "default", "memop"))
    assert served["rules"] == rights.served()
    container = pod_spec(items)["containers"][0]
    settings = taken(container["args"], {variable["name"]: variable["value"] for variable in container["env"]})
    assert settings.watch_namespaces == ("default",)
    assert not settings.metrics_secure, "TokenReview is a cluster-wide right"


def test_roles_let_users_do_what_their_names_say(kubectl: Kubectl) -> None:
    default = kustomize("default")
    roles = [one(default, "ClusterRole", role) for role in ("memop-edit", "memop-view", "memop-status")]
    kubectl.apply(*roles, *(binding(role["metadata"]["name"]) for role in roles))

    def may(user: str, *what: str) -> bool:
        return kubectl("auth", "can-i", *what, f"--as={user}", check=False).stdout.strip() == "yes"

    for verb in ("create", "update", "patch", "delete"):
        assert may("memop-edit", verb, "memcacheds.memcached.c5c3.io")
        assert not may("memop-view", verb, "memcachedclusters.memcached.c5c3.io")
    assert may("memop-view", "watch", "memcachedclusters.memcached.c5c3.io")
    assert may("memop-edit", "update", "memcacheds.memcached.c5c3.io", "--subresource=scale")
    for user in ("memop-edit", "memop-view", "memop-status"):
        assert not may(user, "patch", "memcacheds.memcached.c5c3.io", "--subresource=status")
        assert not may(user, "get", "secrets")
        assert not may(user, "create", "pods")
        assert not may(user, "create", "serviceaccounts", "--subresource=token")
    # As `memop status` asks: a websocket begins with a GET.
    forward = f"/api/v1/namespaces/{kubectl.namespace}/pods/none/portforward?ports=1"
    assert "not found" in kubectl("get", "--raw", forward, "--as=memop-status", check=False).stderr
    assert "cannot get" in kubectl("get", "--raw", forward, "--as=memop-edit", check=False).stderr


def binding(role: str) -> Json:
    """For a user of the role's name."""
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api, "kind": "User", "name": role}],
    }


def comparable(items: list[Json]) -> dict[tuple[str, str, str], Json]:
    """Without what Helm alone adds."""
    for item in items:
        metadata = item["metadata"]
        labels = {label: value for label, value in metadata.get("labels", {}).items() if label not in HELMS_LABELS}
        if item["kind"] == DEFINITION:
            assert metadata.pop("annotations", KEPT) == KEPT
        item["metadata"] = {**metadata, "labels": labels}
    return {name(item): item for item in items}


def test_the_chart_makes_what_the_default_manifests_make(helm: Helm) -> None:
    default = comparable(kustomize("default"))
    del default["Namespace", "", "memop-system"]  # `helm install --create-namespace`
    assert comparable(helm.template()) == default


def test_the_chart_and_cert_manager_make_what_that_overlay_makes(helm: Helm) -> None:
    overlay = comparable(kustomize("overlays/cert-manager"))
    del overlay["Namespace", "", "memop-system"]
    assert comparable(helm.template({"webhooks": {"certManager": {"enabled": True}}})) == overlay


class Option(NamedTuple):
    """Values, and what they make of an object: at `path`, `expected`; it is absent where that is None."""

    values: Json
    kind: str
    path: str
    expected: Any
    name: str = "memop"


POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
TOLERATION = {"key": "dedicated", "operator": "Exists"}
AFFINITY: Json = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
ISSUER = {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "internal"}
PEER = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
DIGEST = f"sha256:{'0' * 64}"
NS = "kubernetes.io/metadata.name"
# Those of one list are also given together, for the API server to judge.
OPTIONS: dict[str, list[Option]] = {
    "more": [
        Option({"replicas": 3}, "Deployment", "spec.replicas", 3),
        Option(
            {"image": {"repository": "mirror/memop", "tag": "1"}}, "Deployment", f"{CONTAINER}.image", "mirror/memop:1"
        ),
        Option({"image": {"digest": DIGEST}}, "Deployment", f"{CONTAINER}.image", f"docker.io/memop/memop@{DIGEST}"),
        Option({"image": {"pullPolicy": "Always"}}, "Deployment", f"{CONTAINER}.imagePullPolicy", "Always"),
        Option({"imagePullSecrets": [{"name": "r"}]}, "Deployment", f"{POD}.imagePullSecrets", [{"name": "r"}]),
        *(
            Option(
                {"images": {value: "mirror/x:1"}}, "Deployment", f"{CONTAINER}.args.-1", f"--{flag}-image=mirror/x:1"
            )
            for value, flag in (
                *(("memcached", "memcached"), ("builtinProxy", "builtin-proxy"), ("twemproxy", "twemproxy")),
                *(("mcrouter", "mcrouter"), ("exporter", "exporter")),
            )
        ),
        Option({"logLevel": "debug"}, "Deployment", f"{CONTAINER}.args.3", "--log-level=debug"),
        Option({"extraArgs": ["--no-default-uid"]}, "Deployment", f"{CONTAINER}.args.-1", "--no-default-uid"),
        Option(
            {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
            *("Deployment", f"{CONTAINER}.resources.limits.memory", "2Gi"),
        ),
        Option(
            {"priorityClassName": "system-cluster-critical"},
            "Deployment",
            f"{POD}.priorityClassName",
            "system-cluster-critical",
        ),
        Option({"nodeSelector": {"a": "b"}}, "Deployment", f"{POD}.nodeSelector", {"a": "b"}),
        Option({"tolerations": [TOLERATION]}, "Deployment", f"{POD}.tolerations", [TOLERATION]),
        Option({"affinity": AFFINITY}, "Deployment", f"{POD}.affinity", AFFINITY),
        Option({"podLabels": {"a": "b"}}, "Deployment", "spec.template.metadata.labels.a", "b"),
        Option({"podAnnotations": {"a": "b"}}, "Deployment", "spec.template.metadata.annotations.a", "b"),
        Option({"serviceAccount": {"annotations": {"a": "b"}}}, "ServiceAccount", "metadata.annotations.a", "b"),
        Option(
            {"webhooks": {"certManager": {"enabled": True, "issuerRef": ISSUER}}},
            *("Certificate", "spec.issuerRef", ISSUER, "memop-webhook"),
        ),
        Option(
            {"metrics": {"readers": [{"namespace": "monitoring", "name": "prometheus"}]}},
            *("ClusterRoleBinding", "subjects.0.namespace", "monitoring", "memop-metrics-reader"),
        ),
        Option(
            {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "x"}}}},
            *("ServiceMonitor", "metadata.labels.release", "x"),
        ),
        Option(
            {"metrics": {"rules": {"enabled": True, "labels": {"release": "x"}}}},
            *("PrometheusRule", "metadata.labels.release", "x"),
        ),
        Option(
            {"metrics": {"dashboard": {"enabled": True, "labels": {"grafana": "x"}}}},
            *("ConfigMap", "metadata.labels.grafana", "x", "memop-dashboards"),
        ),
        Option(
            {"networkPolicy": {"enabled": True, "metricsFrom": [PEER], "apiServerPorts": [8443]}},
            *("NetworkPolicy", "spec.ingress.1.from", [PEER]),
        ),
        Option(
            {"networkPolicy": {"enabled": True, "apiServerPorts": [8443]}},
            *("NetworkPolicy", "spec.egress.0.ports", [{"port": 8443}]),
        ),
        Option(
            {"crds": {"keep": False}},
            *(DEFINITION, "metadata.annotations", None, "memcacheds.memcached.c5c3.io"),
        ),
        Option(
            {"compat": {"install": True}},
            *(DEFINITION, "metadata.annotations", KEPT, "mcrouters.mcrouter.example.com"),
        ),
        Option(
            {"compat": {"install": True}},
            *("ClusterRole", "rules.0.apiGroups.0", rights.OTHERS_KINDS[0].group, "memop-compat-edit"),
        ),
    ],
    "less": [
        Option({"podDisruptionBudget": {"enabled": False}}, "PodDisruptionBudget", "", None),
        Option({"webhooks": {"enabled": False}}, "MutatingWebhookConfiguration", "", None, "memop-webhook"),
        Option({"webhooks": {"enabled": False}}, "ClusterRole", "", None, "memop-webhook"),
        Option({"metrics": {"secure": False}}, "ClusterRole", "", None, "memop-metrics-auth"),
        Option(
            {"metrics": {"secure": False, "serviceMonitor": {"enabled": True}}},
            *("ServiceMonitor", "spec.endpoints.0.scheme", "http"),
        ),
        Option({"crds": {"install": False}}, DEFINITION, "", None, "memcacheds.memcached.c5c3.io"),
        Option({"userRoles": {"create": False}}, "ClusterRole", "", None, "memop-edit"),
    ],
    "namespaced": [
        Option({"watchNamespaces": ["default", "kube-public"]}, "ClusterRole", "", None),
        Option(
            {"watchNamespaces": ["default"]},
            *("ValidatingWebhookConfiguration", "webhooks.1.namespaceSelector.matchExpressions.0"),
            *({"key": NS, "operator": "In", "values": ["default"]}, "memop-webhook"),
        ),
        Option({"watchNamespaces": ["default"]}, "Role", "metadata.namespace", "default"),
    ],
}
ALL = [option for options in OPTIONS.values() for option in options]


def at(item: Any, path: str) -> Any:
    """What stands at `a.b.0`; None where nothing does."""
    for key in filter(None, path.split(".")):
        if isinstance(item, list):
            item = item[int(key)]
        elif item is not None:
            item = item.get(key)
    return item


def merged(values: Iterable[Json]) -> Json:
    """All of them together, the last one's word last."""
    whole: Json = {}
    for part in values:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged([whole[key], value]) if both else value
    return whole


def told(items: Iterable[Json], option: Option) -> Any:
    found = [item for item in items if (item["kind"], item["metadata"]["name"]) == (option.kind, option.name)]
    return at(found[0] if found else None, option.path)


@pytest.fixture(scope="module")
def unchanged(helm: Helm) -> list[Json]:
    return helm.template()


@pytest.mark.parametrize("option", ALL, ids=lambda option: json.dumps(option.values)[:60])
def test_an_option_has_its_effect(option: Option, helm: Helm, unchanged: list[Json]) -> None:
    items = helm.template(option.values)
    assert told(items, option) == option.expected
    assert told(unchanged, option) != option.expected
    taken(arguments(items))


@pytest.mark.usefixtures("installable")
@pytest.mark.parametrize("options", OPTIONS)
def test_options_together_are_accepted(options: str, helm: Helm) -> None:
    items = helm.template(merged(option.values for option in OPTIONS[options]))
    assert_accepted([item for item in items if item["kind"] != DEFINITION])


def test_every_option_has_been_given() -> None:
    given = {path for option in ALL for path in paths(option.values)}
    known = set(paths(yaml.safe_load(VALUES.read_text(encoding="utf-8"))))
    assert {path for path in known if not any(f"{one}.".startswith(f"{path}.") for one in given)} == set()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"replicas": 0}, "at '/replicas': minimum"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"webhooks": {"enable": True}}, "at '/webhooks': additional properties 'enable' not allowed"),
        ({"metrics": {"rules": True}}, "at '/metrics/rules': got boolean, want object"),
        ({"watchNamespaces": ["Prod"]}, "at '/watchNamespaces/0': 'Prod' does not match pattern"),
        ({"watchNamespaces": "prod"}, "at '/watchNamespaces': got string, want array"),
        ({"extraArgs": ["no-default-uid"]}, "at '/extraArgs/0': 'no-default-uid' does not match pattern"),
        ({"image": {"digest": "sha256:1"}}, "at '/image/digest'"),
        ({"logLevel": "loud"}, "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"webhooks": {"certManager": {"issuerRef": {"name": ""}}}}, "at '/webhooks/certManager/issuerRef/name'"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: Json, words: str, helm: Helm) -> None:
    assert words in helm("template", values=values, check=False)


def within(namespace: str) -> Json:
    """Values of a release with nothing cluster-wide but definitions."""
    alone: Json = {"watchNamespaces": [namespace], "webhooks": {"enabled": False}, "userRoles": {"create": False}}
    return {**alone, "metrics": {"secure": False}}


@pytest.fixture
def small(helm_home: dict[str, str], tmp_path: Path) -> tuple[Helm, Path]:
    """The chart with another definition, of a group of its own, which the test may make and delete."""
    chart = tmp_path / "memop"
    shutil.copytree(MANIFESTS / CHART, chart)
    shutil.rmtree(chart / "files/crds")
    definition = chart / "files/crds/memshacks.upgrade.example.com.yaml"
    definition.parent.mkdir()
    text = (MANIFESTS / "compat/memshacks.example.memshack.com.yaml").read_text(encoding="utf-8")
    definition.write_text(text.replace("example.memshack.com", "upgrade.example.com"), encoding="utf-8")
    return Helm(helm_home, chart), definition


@pytest.mark.usefixtures("installable")
def test_helm_upgrades_the_crds_and_leaves_them_at_the_end(kubectl: Kubectl, small: tuple[Helm, Path]) -> None:
    helm, definition = small
    where = f"--namespace={kubectl.namespace}"
    crd = "memshacks.upgrade.example.com"
    values = within(kubectl.namespace)
    try:
        helm("install", where, values=values)
        kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s")
        text = definition.read_text(encoding="utf-8")
        assert text.count("    shortNames:") == 0
        definition.write_text(text.replace("    plural:", "    shortNames: [upgraded]\n    plural:"), encoding="utf-8")
        helm("upgrade", where, values=values)
        assert json.loads(kubectl("get", "crd", crd, "-o", "json").stdout)["spec"]["names"]["shortNames"] == [
            "upgraded"
        ]
        helm("uninstall", where)
        assert "deletionTimestamp" not in kubectl.get("crd", crd)["metadata"]
        assert kubectl.find("deployment", "memop") is None

        helm("install", where, "--take-ownership", values={**values, "crds": {"keep": False}})
        helm("uninstall", where)
        eventually(lambda: assert_gone(kubectl, crd))
    finally:
        kubectl("delete", "crd", crd, "--ignore-not-found", "--wait=false")


def assert_gone(kubectl: Kubectl, crd: str) -> None:
    """The API server takes its time over a definition's objects."""
    assert "NotFound" in kubectl("get", "crd", crd, check=False).stderr


@pytest.mark.usefixtures("installable")
def test_the_whole_chart_fits_into_a_release(kubectl: Kubectl, helm: Helm) -> None:
    """Helm keeps a release in a Secret of at most a megabyte, the chart's files and the CRDs included."""
    values = within(kubectl.namespace)
    values["metrics"] |= {part: {"enabled": True} for part in ("serviceMonitor", "rules", "dashboard")}
    where, compat = f"--namespace={kubectl.namespace}", [f"crd/{kind}" for kind in rights.OTHERS_KINDS]
    were_there = kubectl("get", *compat, check=False).returncode == 0
    helm("install", where, "--take-ownership", values={**values, "compat": {"install": True}})
    try:
        release = kubectl.get("secret", "sh.helm.release.v1.memop.v1")["data"]["release"]
        assert len(release) < 700_000
    finally:
        helm("uninstall", where)
        if not were_there:
            kubectl("delete", *compat, "--wait=false")
    assert "deletionTimestamp" not in kubectl.get("crd", "memcacheds.memcached.c5c3.io")["metadata"]

"""`memop doctor`: what is found in a cluster in which one thing is not as it should be."""

import io
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import web

from memop import cli
from memop.api.schema import crd, foreign_kinds, kinds
from memop.client import Connection
from memop.clock import Clock, rfc3339
from memop.doctor import command, examine
from memop.doctor.command import Options, doctor
from memop.doctor.examine import Examiner
from memop.doctor.finding import Finding
from memop.rights import manifests
from tests.unit.apiserver import ImpatientClock, client, failure, json, plain, serving

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
APPS = "/apis/apps/v1/deployments"
PODS = "/api/v1/namespaces/memop-system/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/memop-system/leases/d4f3c8a2.c5c3.io"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
MEMCACHEDS = "/apis/memcached.c5c3.io/v1beta1/namespaces/ns/memcacheds"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DENIED = 'admission webhook "validate.memcached.c5c3.io" denied the request: spec.memcached.extraArgs[0]: no -p'


def deployment(*args: str, ready: int = 2, updated: int = 2, namespace: str = "memop-system", **spec: Any) -> Json:
    found: Json = next(yaml.safe_load_all((ROOT / "manifests/manager/deployment.yaml").read_text()))
    found["metadata"]["namespace"] = namespace
    found["spec"]["template"]["spec"]["containers"][0]["args"] += ["--enable-webhooks", *args]
    found["spec"] |= spec
    return {**found, "status": {"availableReplicas": ready, "updatedReplicas": updated}}


def lease(holder: str = "memop-7c9-x_1234", age: float = 1.0) -> Json:
    renewed = rfc3339(Clock().now() - timedelta(seconds=age))
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}}


def webhooks(kind: str, *, bundle: str = "Q0E=") -> Json:
    found: Json = yaml.safe_load((ROOT / f"manifests/webhook/{kind}.yaml").read_text())
    for hook in found["webhooks"]:
        hook["clientConfig"]["caBundle"] = bundle
    return found


def cr(name: str, *conditions: tuple[str, str, str], observed: int = 1, kind: str = "Memcached") -> Json:
    told = [{"type": type_, "status": "True", "reason": why, "message": words} for type_, why, words in conditions]
    metadata = {"name": name, "namespace": "ns", "generation": 1}
    return {"kind": kind, "metadata": metadata, "status": {"observedGeneration": observed, "conditions": told}}


class Cluster:
    """An API server in which all is well: `paths` has what GET gives, `denied` the rights that memop lacks."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()  # verb, resource
        self.asked: list[Json] = []
        self.dry_run: Any = failure(403, "Forbidden", DENIED)
        self.paths: dict[str, Any] = {
            **{f"{CRDS}/{kind.crd_name}": self.defined(crd(kind)) for kind in kinds()},
            APPS: [deployment()],
            PODS: [],
            LEASE: lease(),
            MEMCACHEDS: [cr("a", ("Ready", "MemcachedReady", ""))],
        }
        for kind in ("mutating", "validating"):
            hooks = webhooks(kind)
            self.paths[f"{HOOKS}/{kind}webhookconfigurations"] = [hooks]
            self.paths[f"{HOOKS}/{kind}webhookconfigurations/memop-webhook"] = hooks

    @staticmethod
    def defined(definition: Json) -> Json:
        spec = {**definition["spec"], "preserveUnknownFields": False}  # as the API server adds it
        accepted = [{"type": type_, "status": "True"} for type_ in ("NamesAccepted", "Established")]
        return {**definition, "spec": spec, "status": {"conditions": accepted}}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            body = msgspec.json.decode(await request.read())
            if body["kind"] == "SubjectAccessReview":
                asked = body["spec"]["resourceAttributes"]
                self.asked.append(body["spec"])
                allowed = (asked["verb"], asked["resource"]) not in self.denied
                return await _answered({**body, "status": {"allowed": allowed}}, request)
            assert dict(request.query) == {"dryRun": "All"}
            return await _answered(self.dry_run, request)
        found = self.paths.get(request.path, failure(404, "NotFound", "there is none"))
        if isinstance(found, list):
            found = {"kind": "List", "metadata": {}, "items": found}
        return await _answered(found, request)


async def _answered(found: Any, request: web.Request) -> web.StreamResponse:
    answer: Any = found if callable(found) else json(found)
    response: web.StreamResponse = await answer(request)
    return response


async def examined(cluster: Cluster, namespace: str = "ns") -> list[Finding]:
    async with serving(cluster) as server, client(server.url) as api:
        return [finding async for finding in Examiner(api, ImpatientClock(), namespace).findings()]


async def troubles(cluster: Cluster) -> list[Finding]:
    return [finding for finding in await examined(cluster) if finding.verdict != "ok"]


async def test_where_all_is_well_nothing_is_found() -> None:
    cluster = Cluster()
    found = await examined(cluster)
    assert {finding.verdict for finding in found} == {"ok"}
    checks = list(dict.fromkeys(finding.check for finding in found))
    assert checks == ["definitions", "operator", "leader", "admission", "rights", "objects"]
    assert {spec["user"] for spec in cluster.asked} == {"system:serviceaccount:memop-system:memop"}


async def test_every_right_of_the_manifests_is_asked_for_and_no_other() -> None:
    cluster = Cluster()
    await examined(cluster)
    asked = set()
    for spec in cluster.asked:
        question = spec["resourceAttributes"]
        plural = "/".join(filter(None, (question["resource"], question.get("subresource"))))
        asked.add((question.get("group", ""), plural, question["verb"], question.get("name", "")))
    granted = set()
    for file in ("lease.yaml", "cluster/operator.yaml", "cluster/metrics.yaml", "webhook/certificate.yaml"):
        for rule in (rule for role in manifests()[file] for rule in role.get("rules", ())):
            for name in rule.get("resourceNames", ("",)):
                granted |= {
                    (group, plural, verb, name)
                    for group in rule["apiGroups"]
                    for plural in rule["resources"]
                    for verb in rule["verbs"]
                }
    assert asked == granted


def without(path: str) -> Callable[[Cluster], object]:
    return lambda cluster: cluster.paths.pop(path)


def having(path: str, found: Any) -> Callable[[Cluster], object]:
    return lambda cluster: cluster.paths.update({path: found})


def changed_definition(change: Callable[[Json], object]) -> Callable[[Cluster], object]:
    def act(cluster: Cluster) -> None:
        path = f"{CRDS}/{kinds()[0].crd_name}"
        found = msgspec.json.decode(msgspec.json.encode(cluster.paths[path]))
        change(found)
        cluster.paths[path] = found

    return act


def trying(answer: Any) -> Callable[[Cluster], object]:
    return lambda cluster: setattr(cluster, "dry_run", answer)


DEFINITION = f"CustomResourceDefinition {kinds()[0].crd_name}"
WAITING = {"metadata": {"name": "memop-1"}, "status": {"containerStatuses": [{"state": {"waiting": {
    "reason": "ImagePullBackOff", "message": "no such image"}}}]}}  # fmt: skip
PENDING = {"metadata": {"name": "memop-2"}, "status": {"conditions": [
    {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}}  # fmt: skip


def case(change: Callable[[Cluster], object], *expected: Any, id: str) -> Any:  # noqa: A002 - pytest's name
    """`expected`: a Finding's fields; subject's beginning, and parts of message and remedy."""
    return pytest.param(change, Finding(*expected), id=id)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        case(
            without(f"{CRDS}/{kinds()[0].crd_name}"),
            *("definitions", "trouble", DEFINITION, "is missing", "memop crds | kubectl apply --server-side -f -"),
            id="no definition",
        ),
        case(
            changed_definition(lambda found: found["spec"]["versions"].pop()),
            *("definitions", "warning", DEFINITION, "is another version's", "memop crds | kubectl apply"),
            id="an older definition",
        ),
        case(
            changed_definition(
                lambda found: found["status"]["conditions"][0].update(status="False", message="mc is taken")
            ),
            *("definitions", "trouble", DEFINITION, "NamesAccepted is False: mc is taken", "remove the definition"),
            id="names that another has",
        ),
        case(
            having(f"{CRDS}/{kinds()[0].crd_name}", failure(403, "Forbidden", "you may not")),
            *("definitions", "unknown", DEFINITION, "you may not", ""),
            id="a definition that may not be read",
        ),
        case(
            having(APPS, failure(403, "Forbidden", "you may not")),
            *("operator", "unknown", "app.kubernetes.io/name=memop", "you may not", ""),
            id="Deployments that may not be read",
        ),
        case(
            having(APPS, [deployment("--log-level=loud")]),
            *("operator", "trouble", "Deployment memop-system/memop", "--log-level=loud: wants one of", "correct"),
            id="a flag that is wrong",
        ),
        case(
            having(APPS, [deployment("--of-tomorrow")]),
            *("operator", "trouble", "Deployment memop-system/memop", "unrecognized arguments: --of-tomorrow"),
            "the memop of its version",
            id="a flag that is unknown",
        ),
        case(
            having(APPS, [deployment(), deployment(namespace="other")]),
            *(
                "operator",
                "trouble",
                "memop",
                "several serve all namespaces: memop-system/memop, other/memop",
                "remove",
            ),
            id="two operators",
        ),
        case(
            having(APPS, [deployment("--leader-elect=false")]),
            *("operator", "trouble", "Deployment memop-system/memop", "2 replicas without --leader-elect", "add"),
            id="two leaders",
        ),
        case(
            having(APPS, [deployment(ready=0, replicas=0)]),
            *("operator", "trouble", "Deployment memop-system/memop", "is scaled to 0", "scale it up"),
            id="scaled to 0",
        ),
        case(
            lambda cluster: cluster.paths.update({APPS: [deployment(ready=0)], PODS: [WAITING, PENDING]}),
            *("operator", "trouble", "Deployment memop-system/memop"),
            *(
                "0 of 2 pods serve, 2 up to date; memop-1: ImagePullBackOff: no such image; memop-2: 0/1 nodes",
                "describe pods",
            ),
            id="pods that do not start",
        ),
        case(
            having(APPS, [deployment(ready=1)]),
            *("operator", "warning", "Deployment memop-system/memop", "1 of 2 pods serve", "describe pods"),
            id="a pod that is not ready",
        ),
        case(
            lambda cluster: cluster.paths.update({APPS: [deployment(updated=1)], PODS: [WAITING]}),
            *("operator", "warning", "Deployment memop-system/memop"),
            *("2 of 2 pods serve, 1 up to date; memop-1: ImagePullBackOff", "describe pods"),
            id="a rollout that does not go on",
        ),
        case(
            without(LEASE),
            *("leader", "trouble", "Lease memop-system/d4f3c8a2.c5c3.io", "nobody has led yet", "logs"),
            id="no Lease",
        ),
        case(
            lambda cluster: cluster.paths.update({LEASE: lease(holder="")}),
            *("leader", "trouble", "Lease memop-system/d4f3c8a2.c5c3.io", "nobody holds it", "logs"),
            id="a Lease without holder",
        ),
        case(
            lambda cluster: cluster.paths.update({LEASE: lease(age=100)}),
            *("leader", "trouble", "Lease", "memop-7c9-x_1234 does not renew it", "logs"),
            id="a silent leader",
        ),
        case(
            lambda cluster: cluster.paths.update({LEASE: lease(holder="memcached-operator-5d_1")}),
            *(
                "leader",
                "trouble",
                "Lease",
                "memcached-operator-5d_1 holds it, which is no pod of memop's",
                "Go operator",
            ),
            id="the Go operator leads",
        ),
        case(
            without(f"{HOOKS}/validatingwebhookconfigurations/memop-webhook"),
            *(
                "admission",
                "trouble",
                "ValidatingWebhookConfiguration memop-webhook",
                "is missing",
                "manifests/webhook",
            ),
            id="no configuration",
        ),
        case(
            having(f"{HOOKS}/mutatingwebhookconfigurations/memop-webhook", webhooks("mutating", bundle="")),
            *("admission", "trouble", "MutatingWebhookConfiguration memop-webhook"),
            *("no caBundle in mutate.memcached.c5c3.io, mutate.memcachedcluster", "logs"),
            id="no CA",
        ),
        case(
            trying(json({"kind": "Memcached"})),
            *(
                "admission",
                "trouble",
                "a spec that breaks a rule, by dry run in ns",
                "is admitted",
                "manifests/webhook",
            ),
            id="nobody is asked",
        ),
        case(
            trying(failure(500, "InternalError", 'failed calling webhook "x": connection refused')),
            *("admission", "trouble", "a spec that breaks a rule"),
            *("no spec can be changed: failed calling webhook", "port 9443"),
            id="nobody answers",
        ),
        case(
            trying(failure(403, "Forbidden", "jane may not create memcacheds")),
            *("admission", "unknown", "a spec that breaks a rule", "jane may not create memcacheds", ""),
            id="it may not be tried",
        ),
        case(
            lambda cluster: cluster.paths[f"{HOOKS}/validatingwebhookconfigurations"].append(
                {**webhooks("validating"), "metadata": {"name": "go-webhook"}}
            ),
            *("admission", "trouble", "ValidatingWebhookConfiguration go-webhook", "judges memop's kinds"),
            "kubectl delete validatingwebhookconfigurations.admissionregistration.k8s.io go-webhook",
            id="another operator's webhooks",
        ),
        case(
            lambda cluster: cluster.denied.update({("patch", "deployments"), ("create", "tokenreviews")}),
            *("rights", "trouble", "ServiceAccount memop-system/memop"),
            *("may not patch deployments.apps, create tokenreviews.authentication.k8s.io", "manifests/rbac"),
            id="missing rights",
        ),
        case(
            lambda cluster: cluster.denied.update(
                (verb, kind) for verb in ("get", "list", "watch") for kind in ("deployments", "services")
            ),
            *("rights", "trouble", "ServiceAccount memop-system/memop", " and 1 more", "manifests/rbac"),
            id="many missing rights",
        ),
        case(
            having(MEMCACHEDS, [cr("b", ("Degraded", "SecretNotFound", "Secret ns/tls"))]),
            *("objects", "trouble", "Memcached ns/b", "SecretNotFound: Secret ns/tls"),
            "docs/troubleshooting.md#secretnotfound",
            id="a degraded pool",
        ),
        case(
            having(MEMCACHEDS, [cr("b", ("Progressing", "Progressing", "1 of 2"))]),
            *("objects", "warning", "Memcached ns/b", "Progressing: 1 of 2", "docs/troubleshooting.md#progressing"),
            id="a pool on its way",
        ),
        case(
            having(MEMCACHEDS, [cr("b", observed=0)]),
            *("objects", "trouble", "Memcached ns/b", "Pending: memop has not", "#memop-does-nothing"),
            id="a pool that nobody looked at",
        ),
        case(
            lambda cluster: cluster.paths.update(
                {MEMCACHEDS: [cr("b", observed=0)], APPS: [deployment("--watch-namespaces=x")]}
            ),
            *("objects", "trouble", "Memcached ns/b", "Pending: memop has not", "add ns to --watch-namespaces"),
            id="a namespace that is not served",
        ),
        case(
            having(MEMCACHEDS, failure(403, "Forbidden", "you may not")),
            *("objects", "unknown", "memcacheds.memcached.c5c3.io", "you may not", ""),
            id="objects that may not be read",
        ),
    ],
)
async def test_what_is_wrong_is_found_with_what_to_do(change: Callable[[Cluster], object], expected: Finding) -> None:
    cluster = Cluster()
    change(cluster)
    [found] = [
        finding
        for finding in await troubles(cluster)
        if finding.check == expected.check and finding.subject.startswith(expected.subject)
    ]
    assert found.verdict == expected.verdict
    assert expected.message in found.message
    assert expected.remedy in found.remedy
    assert bool(found.remedy) == (expected.verdict != "unknown")


async def test_where_memop_is_not_installed_all_that_is_missing_is_told() -> None:
    cluster = Cluster()
    cluster.paths = {}
    found = await troubles(cluster)
    assert [(finding.check, finding.verdict) for finding in found] == [
        *[("definitions", "trouble")] * len(kinds()),
        ("operator", "trouble"),
    ]
    assert "manifests/default" in found[-1].remedy


async def test_a_clock_that_is_wrong_makes_no_leader_silent() -> None:
    cluster = Cluster()
    times = iter((1000.0, 990.0))

    async def renewed(request: web.Request) -> web.StreamResponse:
        return await _answered(lease(age=next(times)), request)

    cluster.paths[LEASE] = renewed
    assert not await troubles(cluster)
    assert next(times, None) is None


@pytest.mark.parametrize("reason", ["Pending", "NotReady", *("Degraded", "Progressing", "Paused")])
def test_every_state_has_a_section_to_look_it_up(reason: str) -> None:
    path, _, anchor = examine._remedy("ns", reason, ()).partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


async def test_webhooks_that_are_left_behind_are_found() -> None:
    cluster = Cluster()
    cluster.paths[APPS] = []
    found = [finding.subject for finding in await troubles(cluster) if finding.check == "admission"]
    assert found == [f"{kind}WebhookConfiguration memop-webhook" for kind in ("Mutating", "Validating")]


async def test_without_webhooks_nothing_is_tried_and_no_right_to_them_asked_for() -> None:
    cluster = Cluster()
    cluster.paths = {path: found for path, found in cluster.paths.items() if not path.startswith(HOOKS)}
    cluster.paths[APPS] = [deployment("--enable-webhooks=false", "--metrics-bind-address=0")]
    cluster.dry_run = failure(500, "", "not to be asked")
    assert not await troubles(cluster)
    groups = {spec["resourceAttributes"].get("group", "") for spec in cluster.asked}
    assert not groups & {"admissionregistration.k8s.io", "authentication.k8s.io", "authorization.k8s.io"}


async def test_rights_are_asked_for_where_they_are_needed() -> None:
    cluster = Cluster()
    cluster.paths[APPS] = [deployment("--watch-namespaces=ns,x")]
    await examined(cluster)
    spaces = {
        spec["resourceAttributes"].get("namespace", "")
        for spec in cluster.asked
        if spec["resourceAttributes"]["resource"] == "statefulsets"
    }
    assert spaces == {"ns", "x"}


async def test_foreign_kinds_that_are_installed_are_looked_at() -> None:
    cluster = Cluster()
    kind = next(kind for kind in foreign_kinds() if kind.kind == "Mcrouter")
    cluster.paths[f"{CRDS}/{kind.crd_name}"] = Cluster.defined(crd(kind))
    cluster.paths[f"/apis/{kind.group}/{kind.versions[-1]}/namespaces/ns/{kind.plural}"] = [
        cr("m", ("Degraded", "NoEquivalent", "spec.x"), kind="Mcrouter")
    ]
    [found] = await troubles(cluster)
    assert (found.subject, found.message) == ("Mcrouter ns/m", "NoEquivalent: spec.x")


# --- how it is shown


async def shown(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[int, str]:
    out = io.StringIO()
    async with serving(cluster) as server:

        async def connect(*_: object) -> Connection:
            return plain(server.url)

        monkeypatch.setattr(command, "connect", connect)
        code = await doctor(Options(namespace="ns", **options), out, Clock())
    return code, out.getvalue()


async def test_people_are_told_what_to_do_and_the_exit_code_tells_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    code, text = await shown(cluster, monkeypatch)
    assert code == 0
    assert text.endswith("\nall is well\n")
    cluster.paths[MEMCACHEDS] = [cr("b", ("Degraded", "SecretNotFound", "Secret [tls]"))]
    cluster.paths[APPS] = [deployment(ready=1)]
    code, text = await shown(cluster, monkeypatch)
    assert code == 1
    assert "\nobjects\n  ✗ Memcached ns/b: SecretNotFound: Secret [tls]\n      → docs/troubleshooting.md#secret" in text
    assert text.endswith("\n1 trouble, 1 warning\n")


async def test_programs_get_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.denied = {("get", "secrets")}
    code, text = await shown(cluster, monkeypatch, as_json=True)
    document = msgspec.json.decode(text)
    assert (code, document["healthy"]) == (1, False)
    [found] = [finding for finding in document["findings"] if finding["verdict"] == "trouble"]
    assert (found["check"], found["message"]) == ("rights", "may not get secrets, get secrets in memop-system")


def test_the_command_takes_the_flags_of_who_asks_an_api_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "-A", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err

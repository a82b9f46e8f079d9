"""The examination: definitions, the operator's pods, its Lease, admission, its rights, and the objects that it serves.

Nothing is changed. Admission is tried by a dry run; rights are asked of the API server's own authorizer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from memop import rights
from memop.api.base import Kind
from memop.api.schema import crd, foreign_kinds, kinds
from memop.client import Client
from memop.clock import Clock
from memop.doctor.finding import Finding
from memop.errors import ApiError, ConfigurationError, Forbidden, NotFound
from memop.refs import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    LEASES,
    MEMCACHEDS,
    MUTATING_WEBHOOKS,
    PODS,
    SUBJECT_ACCESS_REVIEWS,
    VALIDATING_WEBHOOKS,
    Key,
    Resource,
)
from memop.settings import Settings, parse
from memop.status.read import key_of, list_all, state

Json = dict[str, Any]

OPERATORS = "app.kubernetes.io/name=memop,app.kubernetes.io/component=operator"
"""Label selector of memop's Deployments and pods."""
NAMED = 5  # missing rights that are named, of as many as there may be

# A spec that no schema forbids, and memop alone: the port is its own to give.
_BAD: Json = {"replicas": 1, "memcached": {"extraArgs": ["-p", "1"]}}
# Of what is no condition's reason.
_SECTIONS = {"Pending": "memop-does-nothing", "NotReady": "memcachednotready"}
_FLAGS = "correct its args, or ask the memop of its version"
_INSTALL = "kubectl apply --server-side -k manifests/default; docs/install.md has the other ways"


class Operator(NamedTuple):
    """A Deployment of memop, and what its flags and variables say."""

    deployment: Json
    settings: Settings

    @property
    def key(self) -> Key:
        return key_of(self.deployment)

    @property
    def account(self) -> str:
        return str(self.deployment["spec"]["template"]["spec"].get("serviceAccountName", "default"))

    @property
    def lease(self) -> Key:
        return Key(self.settings.leader_election_namespace or self.key.namespace, self.settings.leader_election_id)

    def __str__(self) -> str:
        return f"Deployment {self.key}"


class Examiner:
    """Looks at a cluster; of objects at those of `namespace`, or at all where it is empty."""

    def __init__(self, client: Client, clock: Clock, namespace: str) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace

    async def findings(self) -> AsyncIterator[Finding]:
        """One after the other; what one depends on comes before it.

        What may not be read is a finding, too. Raises: ApiError where the API server cannot be asked at all.
        """
        for kind in (*kinds(), *foreign_kinds()):
            yield await self._definition(kind)
        operators: list[Operator] = []
        for finding in await _told("operator", OPERATORS, self._operators(operators)):
            yield finding
        for operator in operators:
            yield await self._running(operator)
            for check, part in (("leader", self._leader), ("admission", self._admission), ("rights", self._rights)):
                for finding in await _told(check, str(operator), part(operator)):
                    yield finding
        for finding in await _told("admission", "webhooks", self._others_webhooks(operators)):
            yield finding
        for kind in (*kinds(), *foreign_kinds()):
            resource = Resource(kind.group, kind.versions[-1], kind.kind, kind.plural)
            for finding in await _told("objects", str(resource), self._objects(resource, operators)):
                yield finding

    # --- definitions

    async def _definition(self, kind: Kind) -> Finding:
        wanted, subject = crd(kind), f"CustomResourceDefinition {kind.crd_name}"
        say = partial(Finding, "definitions", subject=subject)
        foreign = kind in foreign_kinds()
        install = f"memop crds{' --compat' * foreign} | kubectl apply --server-side -f -"
        try:
            live = await self._get(CUSTOM_RESOURCE_DEFINITIONS, Key("", kind.crd_name))
        except NotFound:
            if foreign:
                return say(verdict="ok", message="not installed, so not served")
            return say(verdict="trouble", message="is missing", remedy=install)
        except Forbidden as error:
            return say(verdict="unknown", message=error.message)
        for condition in live.get("status", {}).get("conditions", ()):
            if condition["type"] in ("NamesAccepted", "Established") and condition["status"] != "True":
                return say(
                    verdict="trouble",
                    message=f"{condition['type']} is {condition['status']}: {condition.get('message', '')}",
                    remedy="remove the definition that has the name, or its names, already",
                )
        if not _within(wanted["spec"], live["spec"]):
            return say(verdict="warning", message="is another version's than this memop's", remedy=install)
        return say(verdict="ok", message="as this memop has it")

    # --- the operator

    async def _operators(self, found: list[Operator]) -> AsyncIterator[Finding]:
        """Fills `found`."""
        deployments = await list_all(self._client, DEPLOYMENTS, label_selector=OPERATORS)
        for deployment in deployments or []:
            try:
                found.append(Operator(deployment, _settings(deployment)))
            except ConfigurationError as error:
                yield Finding("operator", "trouble", f"Deployment {key_of(deployment)}", str(error), _FLAGS)
        if not deployments:
            yield Finding("operator", "trouble", "memop", f"no Deployment has the labels {OPERATORS}", _INSTALL)
        everywhere = [str(operator.key) for operator in found if not operator.settings.watch_namespaces]
        if len(everywhere) > 1:
            yield Finding(
                "operator",
                "trouble",
                "memop",
                f"several serve all namespaces: {', '.join(everywhere)}",
                "remove all but one, or give each its --watch-namespaces",
            )

    async def _running(self, operator: Operator) -> Finding:
        spec, told = operator.deployment["spec"], operator.deployment.get("status", {})
        wanted, ready, updated = (
            spec.get("replicas", 1),
            told.get("availableReplicas", 0),
            told.get("updatedReplicas", 0),
        )
        say = partial(Finding, "operator", subject=str(operator))
        if wanted > 1 and not operator.settings.leader_elect:
            return say(
                verdict="trouble",
                message=f"{wanted} replicas without --leader-elect: each acts, and they fight",
                remedy="add --leader-elect to its args, or scale it to 1",
            )
        if ready >= wanted > 0 and updated >= wanted:
            [image, *_] = (container["image"] for container in spec["template"]["spec"]["containers"])
            return say(verdict="ok", message=f"{ready} of {wanted} pods serve, {image}")
        if not wanted:
            return say(verdict="trouble", message="is scaled to 0", remedy="scale it up")
        failures = [
            condition["message"]
            for condition in told.get("conditions", ())
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ]
        failures += await self._waiting(operator)
        return say(
            verdict="warning" if ready else "trouble",
            message="; ".join([f"{ready} of {wanted} pods serve, {updated} up to date", *dict.fromkeys(failures)]),
            remedy=f"kubectl -n {operator.key.namespace} describe pods -l {OPERATORS}; /readyz?verbose on 8081 tells "
            "which cache waits for what",
        )

    async def _waiting(self, operator: Operator) -> list[str]:
        """What keeps its pods from running, in the kubelet's and the scheduler's words."""
        try:
            pods = await list_all(self._client, PODS, operator.key.namespace, label_selector=OPERATORS)
        except Forbidden as error:
            return [error.message]
        return [problem for pod in pods or [] for problem in _problems(pod)]

    async def _leader(self, operator: Operator) -> AsyncIterator[Finding]:
        if not operator.settings.leader_elect:
            return
        say = partial(Finding, "leader", subject=f"Lease {operator.lease}")
        try:
            spec = (await self._get(LEASES, operator.lease)).get("spec", {})
        except NotFound:
            yield say(verdict="trouble", message="is missing: nobody has led yet", remedy=_logs(operator))
            return
        holder = spec.get("holderIdentity") or ""
        if not holder:
            yield say(verdict="trouble", message="nobody holds it", remedy=_logs(operator))
        elif not await self._renewed(operator, spec):
            message = f"{holder} does not renew it, and nobody has taken it"
            yield say(verdict="trouble", message=message, remedy=_logs(operator))
        elif not holder.startswith(f"{operator.key.name}-"):
            yield say(
                verdict="trouble",
                message=f"{holder} holds it, which is no pod of memop's; memop waits",
                remedy="end that operator (the Go operator's Lease has the same name), and memop goes on",
            )
        else:
            yield say(verdict="ok", message=f"{holder} leads")

    async def _renewed(self, operator: Operator, spec: Json) -> bool:
        """Whether the Lease is in use. Where our clock says no, it may be wrong: then by whether it changes."""
        duration = spec.get("leaseDurationSeconds") or 0
        if spec.get("renewTime"):
            age = (self._clock.now() - datetime.fromisoformat(spec["renewTime"])).total_seconds()
            if 0 <= age <= duration:
                return True
        await self._clock.sleep(duration)
        now = (await self._get(LEASES, operator.lease)).get("spec", {})
        return bool(now.get("renewTime") != spec.get("renewTime"))

    # --- admission

    async def _admission(self, operator: Operator) -> AsyncIterator[Finding]:
        settings = operator.settings
        if not settings.enable_webhooks:
            yield Finding(
                "admission", "ok", str(operator), "no webhooks: what a spec breaks is told in Degraded=InvalidSpec"
            )
            return
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            say = partial(Finding, "admission", subject=f"{resource.kind} {settings.webhook_name}")
            try:
                live = await self._get(resource, Key("", settings.webhook_name))
            except NotFound:
                yield say(
                    verdict="trouble",
                    message="is missing, so the API server does not ask memop",
                    remedy="kubectl apply --server-side -k manifests/webhook",
                )
                continue
            blind = [hook["name"] for hook in live.get("webhooks", ()) if not hook["clientConfig"].get("caBundle")]
            if blind:
                yield say(
                    verdict="trouble",
                    message=f"no caBundle in {', '.join(blind)}",
                    remedy=f"{_logs(operator)}; with cert-manager: kubectl get certificates -A",
                )
        yield await self._tried(operator)

    async def _tried(self, operator: Operator) -> Finding:
        """What comes of a spec that memop alone refuses."""
        served = operator.settings.watch_namespaces
        namespace = self._namespace or (served[0] if served else "default")
        body = {
            "apiVersion": MEMCACHEDS.api_version,
            "kind": MEMCACHEDS.kind,
            "metadata": {"name": "memop-doctor", "namespace": namespace},
            "spec": _BAD,
        }
        say = partial(Finding, "admission", subject=f"a spec that breaks a rule, by dry run in {namespace}")
        began = self._clock.monotonic()
        try:
            await self._client.create(MEMCACHEDS, namespace, body, dry_run=True)
        except ApiError as error:
            if "denied the request" in error.message and "spec.memcached.extraArgs" in error.message:
                took = self._clock.monotonic() - began
                return say(verdict="ok", message=f"is refused as it must be, in {took * 1000:.0f} ms")
            if "failed calling webhook" in error.message:
                return say(
                    verdict="trouble",
                    message=f"no spec can be changed: {error.message}",
                    remedy=f"kubectl -n {operator.key.namespace} get pods,endpointslices; a firewall must let the API "
                    f"server reach port {operator.settings.webhook_port} of memop's pods",
                )
            return say(verdict="unknown", message=error.message)
        return say(
            verdict="trouble",
            message="is admitted: the API server does not ask memop",
            remedy="kubectl apply --server-side -k manifests/webhook",
        )

    async def _others_webhooks(self, operators: Sequence[Operator]) -> AsyncIterator[Finding]:
        """Configurations left behind, and those of another operator for the same kinds."""
        names = {operator.settings.webhook_name for operator in operators if operator.settings.enable_webhooks}
        groups = {kind.group for kind in (*kinds(), *foreign_kinds())}
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            for live in await list_all(self._client, resource) or []:
                name = key_of(live).name
                if name not in names and not groups.isdisjoint(_groups(live)):
                    yield Finding(
                        "admission",
                        "trouble",
                        f"{resource.kind} {name}",
                        "judges memop's kinds, and is no running memop's",
                        f"if the operator that it belongs to is gone: kubectl delete {resource} {name}",
                    )

    # --- rights

    async def _rights(self, operator: Operator) -> AsyncIterator[Finding]:
        subject = f"ServiceAccount {operator.key.namespace}/{operator.account}"
        asked = list(_needed(operator))
        answers = await asyncio.gather(*(self._may(operator, question) for question in asked))
        missing = [_in_words(question) for question, allowed in zip(asked, answers, strict=True) if not allowed]
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            yield Finding(
                "rights",
                "trouble",
                subject,
                f"may not {', '.join(missing[:NAMED])}{more}",
                "apply manifests/rbac again (docs/operator.md#rights), and look at who denies it otherwise",
            )
        else:
            yield Finding("rights", "ok", subject, f"has all {len(asked)} rights that this memop needs")

    async def _may(self, operator: Operator, question: Json) -> bool:
        home = operator.key.namespace
        spec = {
            "user": f"system:serviceaccount:{home}:{operator.account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"],
            "resourceAttributes": question,
        }
        body = {
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SUBJECT_ACCESS_REVIEWS.kind,
            "spec": spec,
        }
        answer = msgspec.json.decode(await self._client.review(SUBJECT_ACCESS_REVIEWS, body))
        return bool(answer["status"]["allowed"])

    # --- what is served

    async def _objects(self, resource: Resource, operators: Sequence[Operator]) -> AsyncIterator[Finding]:
        well = 0
        for item in await list_all(self._client, resource, self._namespace) or []:
            found = state(item)
            if found["ready"] and found["state"] == "Ready":
                well += 1
                continue
            yield Finding(
                "objects",
                "warning" if found["state"] in ("Progressing", "Paused") or found["ready"] else "trouble",
                f"{resource.kind} {key_of(item)}",
                ": ".join(filter(None, (found["state"], found["message"]))),
                _remedy(key_of(item).namespace, found["state"], operators),
            )
        if well:
            yield Finding("objects", "ok", str(resource), f"{well} ready")

    async def _get(self, resource: Resource, key: Key) -> Json:
        return dict(msgspec.json.decode(await self._client.get(resource, key)))


async def _told(check: str, subject: str, findings: AsyncIterator[Finding]) -> list[Finding]:
    """All of them; and one more where something may not be read."""
    told: list[Finding] = []
    try:
        async for finding in findings:
            told.append(finding)  # noqa: PERF401 - what was found before a refusal is told of, too
    except Forbidden as error:
        told.append(Finding(check, "unknown", subject, error.message))
    return told


def _within(wanted: Any, live: Any) -> bool:
    """Whether `live` says all that `wanted` says; what else it says are the API server's defaults."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(name in live and _within(wanted[name], live[name]) for name in wanted)
    if isinstance(wanted, list):
        return isinstance(live, list) and len(wanted) == len(live) and all(map(_within, wanted, live))
    return bool(wanted == live)


def _settings(deployment: Json) -> Settings:
    """Raises: ConfigurationError."""
    [container, *_] = deployment["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container.get("env", ()) if "value" in variable}
    return parse([arg for arg in container.get("args", ()) if arg != "run"], variables)


def _problems(pod: Json) -> Iterator[str]:
    told, name = pod.get("status", {}), key_of(pod).name
    for condition in told.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{name}: {condition.get('message', 'is not scheduled')}"
    for container in told.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating"):
            yield f"{name}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")


def _groups(configuration: Json) -> set[str]:
    """The API groups that it judges."""
    rules = (rule for hook in configuration.get("webhooks", ()) for rule in hook.get("rules", ()))
    return {group for rule in rules for group in rule.get("apiGroups", ())}


def _needed(operator: Operator) -> Iterator[Json]:
    """Every right that memop needs with these settings, as `resourceAttributes`."""
    settings = operator.settings
    for namespace in settings.watch_namespaces or ("",):
        yield from _asked(rights.served(), namespace)
    if settings.leader_elect:
        yield from _asked(rights.lease(settings), operator.lease.namespace)
    if settings.enable_webhooks and not settings.webhook_cert_path:
        yield from _asked(rights.webhook_secret(settings), operator.key.namespace)
        yield from _asked(rights.webhook_configurations(settings), "")
    if settings.metrics_secure and settings.metrics_bind_address != "0":
        yield from _asked(rights.metrics(), "")


def _asked(rules: Iterable[Json], namespace: str) -> Iterator[Json]:
    for rule in rules:
        for plural in rule["resources"]:
            resource, _, subresource = plural.partition("/")
            for name in rule.get("resourceNames", ("",)):
                for verb in rule["verbs"]:
                    question = {
                        "group": rule["apiGroups"][0],
                        "resource": resource,
                        "subresource": subresource,
                        "verb": verb,
                        "name": name,
                        "namespace": namespace,
                    }
                    yield {field: value for field, value in question.items() if value}


def _in_words(question: Json) -> str:
    kind = question["resource"] + (f".{question['group']}" if "group" in question else "")
    kind += f"/{question['subresource']}" if "subresource" in question else ""
    where = f" in {question['namespace']}" if "namespace" in question else ""
    return f"{question['verb']} {kind}{where}"


def _logs(operator: Operator) -> str:
    return f"kubectl -n {operator.key.namespace} logs -l {OPERATORS} --prefix"


def _remedy(namespace: str, reason: str, operators: Sequence[Operator]) -> str:
    if operators and not any(namespace in (o.settings.watch_namespaces or (namespace,)) for o in operators):
        return f"no memop serves this namespace: add {namespace} to --watch-namespaces"
    return f"docs/troubleshooting.md#{_SECTIONS.get(reason, reason.lower())}"

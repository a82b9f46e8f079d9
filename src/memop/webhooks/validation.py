"""What is wrong with a `Memcached`, all of it at once, and what is merely unwise.

Errors read as the API server's own: `spec.replicas: Forbidden: the autoscaler decides …`. Rules that the CRD has in CEL
say the same words here. A rule reads the raw object and takes what has the wrong type for absent: the model's own
check, which is one of the rules, tells of the type.

An update is refused only for what it makes worse: an error that the old object had already is dropped, unless it grew.
What is told is bounded, whatever was sent, and printable: it goes to terminals and into the status.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from itertools import islice
from typing import Any

import msgspec
from pydantic import ValidationError

from memop.api.memcached import (
    DEFAULT_REPLICAS,
    MAX_NAME_LENGTH,
    MAX_REPLICAS,
    MAX_STABLE_NAME_LENGTH,
    RESERVED_POD_ANNOTATIONS,
    RESERVED_POD_LABELS,
    MemcachedConfig,
    MemcachedSpec,
)
from memop.api.quantity import MIB, quantity
from memop.webhooks.arguments import WITH_VALUE, flags, suboptions
from memop.webhooks.defaulting import default

Json = Any

# Bytes that memcached needs beside its items to begin with (hash table, threads, buffers).
OVERHEAD = 32 * MIB
CLOSE = Decimal("1.05")  # a limit within 5 % of the derived one

# Bytes of JSON, far beyond any spec that makes sense. It bounds the time that any rule may take, in which memop does
# nothing else.
MAX_SPEC = 128 * 1024
MAX_ERRORS = 50  # told of one object, and as many warnings
MAX_SHOWN = 256  # characters told of a value, or of a key in a path

INVALID, REQUIRED, FORBIDDEN = "Invalid value", "Required value", "Forbidden"
UNSUPPORTED, TOO_LONG = "Unsupported value", "Too long"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule.

    `amount` tells how far a bound is missed, `rule` one error of a field from another where the detail does not do.
    `drop` is for what is not built either, webhook or not: the path, below spec, of what is left out.
    """

    field: str
    kind: str
    detail: str
    value: Json = None
    rule: str = ""
    amount: int = 0
    drop: tuple[str, ...] = ()

    @property
    def security(self) -> bool:
        return bool(self.drop)

    @property
    def body(self) -> str:
        """All but the field."""
        value = "" if self.kind in (REQUIRED, FORBIDDEN, TOO_LONG) else f": {_shown(_json(self.value))}"
        return f"{self.kind}{value}{': ' if self.detail else ''}{self.detail}"

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"

    @property
    def identity(self) -> tuple[str, str]:
        """The same for the same trouble in the old object, wherever in a list it stood."""
        return re.sub(r"\[\d+\]", "[]", self.field), self.rule or self.detail


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _shown(given: Json) -> str:
    """Something of the user's own, in our words."""
    text = given if isinstance(given, str) else _json(given)
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator's flags say; what a full memcached takes, in MiB, by its settings and whether it has TLS."""

    allow_privileged_pods: bool = False
    derived_memory: Callable[[MemcachedConfig, bool], int] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    errors: list[FieldError]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Effective:
    """A stored spec as it is to be built, None for one too long, and all that is wrong with the one that is stored."""

    spec: Json
    errors: list[FieldError]


def validate(new: Json, old: Json = None, *, policy: Policy = Policy()) -> Verdict:
    """Judge an object that is made or, with `old`, updated."""
    found = list(errors_of(new, policy))
    if old is None:
        errors = [*_name_errors(new), *_second_size(new, old), *found]
    else:
        before: dict[tuple[str, str], int] = {}
        for error in errors_of(old, policy):
            before[error.identity] = max(error.amount, before.get(error.identity, 0))
        errors = [
            *_identity_errors(new, old),
            *_second_size(new, old),
            *(error for error in found if error.amount > before.get(error.identity, error.amount - 1)),
        ]
    if _excess(spec_block(new).node):
        return Verdict(errors, [])
    warnings = warnings_of(spec_block(new), None if old is None else spec_block(old), policy, sound=not found)
    return Verdict(bounded(errors), list(islice(warnings, MAX_ERRORS)))


def bounded(errors: list[FieldError]) -> list[FieldError]:
    """A megabyte of arguments has as many errors; who mends the first ones mends the rest."""
    if len(errors) <= MAX_ERRORS:
        return errors
    told = errors[: MAX_ERRORS - 1]
    return [*told, FieldError("spec", FORBIDDEN, f"{len(errors) - len(told)} more errors like these: mend them first")]


def effective(spec: Json, *, policy: Policy = Policy()) -> Effective:
    """A stored spec with its defaults and without what must not be built, whoever let it in.

    So a cluster without webhooks, or with objects from before them, gives nobody more than admission does.
    """
    if _excess(spec):
        return Effective(None, list(errors_of({"spec": spec}, policy)))
    full = default({"spec": spec})
    errors, kept = list(errors_of(full, policy)), full["spec"]
    for error in errors:
        if error.drop:
            kept = without(kept, error.drop)
    return Effective(kept, bounded(errors))


def without(node: Json, path: tuple[str, ...]) -> Json:
    """A copy without what is at `path`; several errors may name the same."""
    name, *below = path
    if not isinstance(node, dict) or name not in node:
        return node
    if not below:
        return {other: value for other, value in node.items() if other != name}
    return {**node, name: without(node[name], tuple(below))}


class Block:
    """A JSON object and where it stands; what is missing or of another type reads as absent."""

    __slots__ = ("at", "node")

    def __init__(self, node: Json, at: str) -> None:
        self.node: Mapping[str, Json] = node if isinstance(node, dict) else {}
        self.at = at

    def __contains__(self, name: str) -> bool:
        return self.node.get(name) is not None

    def get(self, name: str) -> Json:
        return self.node.get(name)

    def block(self, name: str) -> "Block":
        return Block(self.node.get(name), self.path(name))

    def number(self, name: str, otherwise: int) -> int:
        value = self.node.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else otherwise

    def text(self, name: str, otherwise: str = "") -> str:
        value = self.node.get(name)
        return value if isinstance(value, str) else otherwise

    def on(self, name: str = "enabled") -> bool:
        return self.node.get(name) is True

    def items(self, name: str) -> list[Json]:
        value = self.node.get(name)
        return value if isinstance(value, list) else []

    def path(self, name: str) -> str:
        return f"{self.at}.{_shown(name)}" if self.at else name

    def invalid(self, name: str, detail: str, **more: Any) -> FieldError:
        return FieldError(self.path(name), INVALID, detail, self.node.get(name), **more)

    def required(self, name: str, detail: str) -> FieldError:
        return FieldError(self.path(name), REQUIRED, detail)

    def forbidden(self, name: str, detail: str, **more: Any) -> FieldError:
        return FieldError(self.path(name), FORBIDDEN, detail, **more)


def spec_block(full: Json) -> Block:
    return Block(full, "").block("spec")


def _excess(spec: Json) -> int:
    return max(0, len(msgspec.json.encode(spec)) - MAX_SPEC)


def errors_of(full: Json, policy: Policy) -> Iterator[FieldError]:
    if excess := _excess(Block(full, "").get("spec")):
        yield FieldError("spec", TOO_LONG, f"may not be more than {MAX_SPEC} bytes", amount=excess)
        return
    spec = spec_block(full)
    yield from _schema(full)
    yield from _size(spec)
    yield from _memory(spec)
    for block in (spec.block("resources"), spec.block("monitoring").block("exporterResources")):
        yield from quantities(block)
    yield from _item_size(spec.block("memcached"))
    yield from _extra_arguments(spec.block("memcached"))
    yield from _disruption(spec)
    yield from _grace(spec.block("highAvailability").block("gracefulShutdown"))
    yield from _sasl(spec.block("security").block("sasl"))
    yield from _tls(spec.block("security").block("tls"))
    yield from _autoscaling(spec)
    yield from reserved(spec, "podLabels", RESERVED_POD_LABELS)
    yield from reserved(spec, "podAnnotations", RESERVED_POD_ANNOTATIONS)
    if not policy.allow_privileged_pods:
        yield from privileges(spec.block("security"))
        yield from unconfined(spec.block("podAnnotations"))


# --- The schema, where the API server has not checked it already


def _schema(full: Json) -> Iterator[FieldError]:
    spec = Block(full, "").get("spec")
    try:
        MemcachedSpec.model_validate_json(msgspec.json.encode({} if spec is None else spec), strict=True)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            # Of a number or string each variant complains; `_disruption` tells.
            if found["loc"][:-2] != ("highAvailability", "podDisruptionBudget"):
                yield schema_error(found["loc"], found["type"], found["input"], found.get("ctx", {}))


def schema_error(location: tuple[int | str, ...], type_: str, value: Json, context: Mapping[str, Any]) -> FieldError:
    at = "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in location)
    words = {
        "greater_than_equal": "should be greater than or equal to {ge}",
        "less_than_equal": "should be less than or equal to {le}",
        "string_pattern_mismatch": "should match '{pattern}'",
        "string_too_short": "should be at least {min_length} chars long",
        "int_type": "must be of type integer",
        "string_type": "must be of type string",
        "bool_type": "must be of type boolean",
        "list_type": "must be of type array",
    }
    if type_ == "missing":
        return FieldError(at, REQUIRED, "")
    if type_ == "literal_error":
        choices = context["expected"].replace("'", '"').replace(" or ", ", ")
        return FieldError(at, UNSUPPORTED, f"supported values: {choices}", value)
    if type_ == "string_too_long":
        return FieldError(at, TOO_LONG, f"may not be more than {context['max_length']} bytes")
    detail = words.get(type_, "must be of type object").format(**context)
    return FieldError(at, INVALID, f"{at} in body {detail}", value)


# --- Names and what cannot change

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def _name_errors(full: Json) -> Iterator[FieldError]:
    metadata = Block(full, "").block("metadata")
    name = metadata.text("name")
    if not name and "generateName" in metadata:
        return
    if not DNS_1035.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        yield metadata.invalid(
            "name",
            f"the Service is named after it, so it must be a DNS-1035 label of at most {MAX_NAME_LENGTH} characters: "
            "lower-case letters, digits and '-', a letter first, no '-' last",
        )
    if _stable(full) and len(name) > MAX_STABLE_NAME_LENGTH:
        yield metadata.invalid(
            "name",
            f"at most {MAX_STABLE_NAME_LENGTH} characters with podIdentity Stable, since pod names and revisions "
            "append to it: choose a shorter name or podIdentity Ephemeral",
        )


def _identity_errors(new: Json, old: Json) -> Iterator[FieldError]:
    if _stable(new) != _stable(old):
        yield spec_block(new).invalid(
            "podIdentity", "is immutable (Ephemeral when absent): make a new Memcached under another name"
        )


def _stable(full: Json) -> bool:
    return spec_block(full).text("podIdentity") == "Stable"


# --- Who decides the number of pods


def _size(spec: Block) -> Iterator[FieldError]:
    autoscaled = spec.block("autoscaling").on()
    if "replicas" in spec and autoscaled:
        yield spec.forbidden(
            "replicas",
            "the autoscaler decides the number of pods: remove replicas, or set autoscaling.enabled to false",
        )
    if "replicasFrom" in spec and autoscaled:
        yield spec.forbidden(
            "replicasFrom",
            "the autoscaler decides the number of pods: remove replicasFrom, or set autoscaling.enabled to false",
        )
    follow = spec.block("replicasFrom")
    if follow.number("min", 0) > follow.number("max", MAX_REPLICAS):
        yield follow.invalid("min", "must not be greater than max: lower min or raise max")


def _second_size(new: Json, old: Json) -> Iterator[FieldError]:
    """A size beside `replicasFrom`: memop writes it there itself, so only a manifest that gives one is refused."""
    spec, before = spec_block(new), spec_block(old)
    given = "replicas" in spec and spec.get("replicas") != before.get("replicas")
    if given and "replicasFrom" in spec:
        yield spec.forbidden("replicas", "replicasFrom decides the number of pods: remove replicas or replicasFrom")


def _autoscaling(spec: Block) -> Iterator[FieldError]:
    block = spec.block("autoscaling")
    if block.on() and "maxReplicas" not in block:
        yield block.required("maxReplicas", "autoscaling needs an upper limit: set maxReplicas, or enabled to false")
    if "minReplicas" in block and block.number("minReplicas", 1) > block.number("maxReplicas", 1 << 31):
        yield block.invalid(
            "minReplicas", "must not be greater than maxReplicas: lower minReplicas or raise maxReplicas"
        )
    if not block.on():
        return
    for container, where in _CPU_REQUESTS.items():
        if _scales_by_cpu(block, container) and not _requested(_at(spec, where), "cpu"):
            yield FieldError(
                f"spec.{where}.requests.cpu",
                REQUIRED,
                "the autoscaler's CPU utilization is a share of the request: set it, or give autoscaling.metrics that "
                "do without (averageValue, say)",
            )


_CPU_REQUESTS = {"memcached": "resources", "exporter": "monitoring.exporterResources"}


def _at(spec: Block, path: str) -> Block:
    for name in path.split("."):
        spec = spec.block(name)
    return spec


def _scales_by_cpu(autoscaling: Block, container: str) -> bool:
    """Whether a metric needs this container's CPU request; by default, and for a pod's metric, memcached's does."""
    metrics = autoscaling.items("metrics")
    if not metrics:
        return container == "memcached"
    for metric in (Block(item, "") for item in metrics):
        pod, one = metric.block("resource"), metric.block("containerResource")
        for block, meant in ((pod, container == "memcached"), (one, one.text("container") == container)):
            if meant and block.text("name") == "cpu" and block.block("target").text("type") == "Utilization":
                return True
    return False


def _requested(resources: Block, name: str) -> bool:
    """Whether there is a request; a limit alone becomes one."""
    return name in resources.block("requests") or name in resources.block("limits")


# --- Memory and memcached's settings


def _memory(spec: Block) -> Iterator[FieldError]:
    limits, limit = spec.block("resources").block("limits"), _quantity(spec, "limits", "memory")
    megabytes = spec.block("memcached").number("maxMemoryMB", MemcachedConfig().max_memory_mb)
    needed = megabytes * MIB + OVERHEAD
    if limit is not None and limit < needed:
        yield limits.invalid(
            "memory",
            f"memcached would be killed before its cache is full: at least {needed // MIB}Mi (maxMemoryMB + 32Mi), or "
            "lower memcached.maxMemoryMB",
            rule="memory",
            amount=int((needed - limit).to_integral_value(ROUND_CEILING)),
        )


def _quantity(spec: Block, of: str, name: str) -> Decimal | None:
    return quantity(spec.block("resources").block(of).get(name))


def quantities(resources: Block) -> Iterator[FieldError]:
    """A pod template with such resources would be refused; a value that is no quantity is refused as well."""
    requests, limits = resources.block("requests"), resources.block("limits")
    for block in (limits, requests):
        for name, value in block.node.items():
            exact = quantity(value)
            if exact is None or exact < 0:
                yield block.invalid(name, "must be a quantity of 0 or more, like 500m or 64Mi")
    for name, value in requests.node.items():
        asked, limit = quantity(value), quantity(limits.get(name))
        if asked is not None and limit is not None and asked > limit:
            yield requests.invalid(
                name,
                f"must be less than or equal to {_shown(name)} limit of {_shown(limits.get(name))}: "
                "lower the request or raise the limit",
            )


def _item_size(config: Block) -> Iterator[FieldError]:
    text = config.text("maxItemSize")
    if not re.fullmatch(r"[0-9]{1,7}[km]", text):
        return
    kib = int(text[:-1]) * (1024 if text.endswith("m") else 1)
    if not 1 <= kib <= 1048576:
        yield config.invalid("maxItemSize", "memcached takes item sizes from 1k to 1024m: choose one in between")
    if 2 * kib > config.number("maxMemoryMB", MemcachedConfig().max_memory_mb) * 1024:
        yield config.invalid(
            "maxItemSize",
            "more than half of maxMemoryMB (64 when absent), with which memcached does not start: "
            "lower maxItemSize or raise maxMemoryMB",
        )


_LISTENS = "the operator decides where memcached listens: remove it"
_ENDS = "memcached prints something and ends, and the pod never gets ready: remove it"
_FOREGROUND = "Kubernetes runs memcached in the foreground: remove it"
_OWNED = {
    "m": "the operator sets it: set memcached.maxMemoryMB instead",
    "c": "the operator sets it: set memcached.maxConnections instead",
    "t": "the operator sets it: set memcached.threads instead",
    "I": "the operator sets it: set memcached.maxItemSize instead",
    "Y": "the operator sets it: set security.sasl instead",
    "Z": "the operator sets it: set security.tls instead",
    "u": "memcached does not run as root, so it cannot change its user: set security.podSecurityContext.runAsUser",
    **dict.fromkeys("lpUs", _LISTENS),
    **dict.fromkeys("dP", _FOREGROUND),
    **dict.fromkeys("hiV", _ENDS),
}


def _extra_arguments(config: Block) -> Iterator[FieldError]:
    arguments = [argument if isinstance(argument, str) else "" for argument in config.items("extraArgs")]
    for at, names in _owned(arguments).items():
        for name, why in names.items():
            given = arguments[at]
            said = _shown(name) if name.startswith(given) else f'"{_shown(given)}" is {_shown(name)}'
            # Flags and values cannot be told apart for sure, so all go.
            drop = ("memcached", "extraArgs")
            yield config.forbidden(f"extraArgs[{at}]", f"{said}: {why}", rule=name, drop=drop)


def _owned(arguments: list[str]) -> dict[int, dict[str, str]]:
    """What is not the user's to set, each once: by the argument's place, `-m` or `-o ssl_key`, and why."""
    found: dict[int, dict[str, str]] = {}
    for flag in flags(arguments):
        if flag.letter in _OWNED:
            found.setdefault(flag.at, {})[f"-{flag.letter}"] = _OWNED[flag.letter]
        for name in suboptions(flag.value or "") if flag.letter == "o" else ():
            if name.startswith("ssl_"):
                found.setdefault(flag.at, {})[f"-o {name}"] = _OWNED["Z"]
    return found


# --- High availability


def _disruption(spec: Block) -> Iterator[FieldError]:
    budget = spec.block("highAvailability").block("podDisruptionBudget")
    yield from _amounts(budget)
    if not budget.on():
        return
    if "minAvailable" not in budget and "maxUnavailable" not in budget:
        yield budget.required(
            "minAvailable", "an enabled PodDisruptionBudget needs a bound: set minAvailable or maxUnavailable"
        )
    if "minAvailable" in budget and "maxUnavailable" in budget:
        yield budget.forbidden(
            "maxUnavailable", "minAvailable and maxUnavailable exclude each other: remove one of them"
        )
    if spec.block("autoscaling").on() or "replicasFrom" in spec:
        return
    replicas = spec.number("replicas", DEFAULT_REPLICAS)
    if replicas != 0 and budget.number("minAvailable", -1) >= replicas:
        yield budget.invalid(
            "minAvailable",
            "must be less than replicas (1 when absent), or no node can ever be drained: "
            "lower minAvailable or raise replicas",
        )


_PERCENT = re.compile(r"(100|[0-9]{1,2})%")


def _amounts(budget: Block) -> Iterator[FieldError]:
    for name in ("minAvailable", "maxUnavailable"):
        value, at = budget.get(name), budget.path(name)
        if isinstance(value, str) and not _PERCENT.fullmatch(value):
            yield budget.invalid(name, f"{at} in body should match '^(100|[0-9]{{1,2}})%$'")
        elif isinstance(value, int) and value < 0:
            yield budget.invalid(name, f"{at} in body should be greater than or equal to 0")
        elif value is not None and (not isinstance(value, int | str) or isinstance(value, bool)):
            yield budget.invalid(name, f"{at} in body must be of type integer or string")


def _grace(shutdown: Block) -> Iterator[FieldError]:
    delay = shutdown.number("preStopDelaySeconds", 10)
    if shutdown.on() and shutdown.number("terminationGracePeriodSeconds", 30) <= delay:
        yield shutdown.invalid(
            "terminationGracePeriodSeconds",
            "must be greater than preStopDelaySeconds (30 and 10 when absent), or memcached is killed before it "
            "can stop: raise terminationGracePeriodSeconds or lower preStopDelaySeconds",
        )


# --- Security


def _sasl(sasl: Block) -> Iterator[FieldError]:
    if sasl.on() and not sasl.block("credentialsSecretRef").text("name"):
        yield sasl.required(
            "credentialsSecretRef.name",
            "SASL needs credentials: set name to a Secret with the key password-file, or enabled to false",
        )


def _tls(tls: Block) -> Iterator[FieldError]:
    secret = tls.block("certificateSecretRef").text("name")
    if tls.on() and not secret and "issuerRef" not in tls:
        yield tls.required(
            "certificateSecretRef.name",
            "TLS needs a certificate: set name to a Secret with tls.crt and tls.key, or give issuerRef, "
            "or set enabled to false",
        )
    if "issuerRef" in tls and secret:
        yield tls.forbidden("issuerRef", "certificateSecretRef and issuerRef exclude each other: remove one of them")
    if "issuerRef" in tls and "enabled" not in tls:
        yield tls.required(
            "enabled",
            "issuerRef alone does not turn TLS on: set enabled to true, or to false to keep issuerRef for later",
        )


def reserved(spec: Block, name: str, keys: tuple[str, ...]) -> Iterator[FieldError]:
    for key in keys:
        if key in spec.block(name):
            yield spec.forbidden(
                name, f"may not have keys that the operator or Kubernetes sets: remove {', '.join(keys)}", rule=key
            )
            return


# What Pod Security's profile `baseline` admits.
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        *(f"net.ipv4.{name}" for name in ("ip_local_port_range", "ip_local_reserved_ports", "ping_group_range")),
        *(f"net.ipv4.{name}" for name in ("ip_unprivileged_port_start", "tcp_syncookies", "tcp_fin_timeout")),
        *(f"net.ipv4.tcp_keepalive_{name}" for name in ("intvl", "probes", "time")),
        *(f"net.ipv4.tcp_{name}" for name in ("rmem", "wmem")),
    }
)
_CAPABILITY = "NET_BIND_SERVICE"  # that even `restricted` admits, in this spelling alone
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def privileges(security: Block) -> Iterator[FieldError]:
    """What `baseline` forbids, and what leads to root or to capabilities.

    Who may write a `Memcached` must not get more out of it than somebody who may make pods. A value of the wrong type
    is refused with the rest: nobody knows what the next API server takes it for.
    """
    pod, container = security.block("podSecurityContext"), security.block("containerSecurityContext")
    yield from _container_privileges(container)
    for context in (pod, container):
        yield from _root(context, pod)
        yield from _isolation(context)
    for name in dict.fromkeys(Block(item, "").text("name") for item in _listed(pod.get("sysctls"))):
        if name in _SYSCTLS:
            continue
        yield _refuse(pod, "sysctls", f"{_shown(name) or 'what has no name'} is not among the safe ones of Kubernetes")


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _container_privileges(container: Block) -> Iterator[FieldError]:
    if container.get("privileged") not in (None, False):
        yield _refuse(container, "privileged", "the container would own its node")
    if container.get("allowPrivilegeEscalation") not in (None, False):
        yield _refuse(container, "allowPrivilegeEscalation", "memcached could gain rights through setuid programs")
    added = _listed(container.block("capabilities").get("add"))
    for capability in dict.fromkeys(_shown(one) for one in added if one != _CAPABILITY):
        yield _refuse(container, "capabilities.add", f"memcached needs no capability, nor {capability}")
    if container.get("procMount") not in (None, "", "Default"):
        yield _refuse(container, "procMount", "the container would see and change kernel settings of its node")


def _root(context: Block, pod: Block) -> Iterator[FieldError]:
    if context.get("runAsUser") == 0:
        yield _refuse(context, "runAsUser", "memcached would run as root")
    user = context.number("runAsUser", pod.number("runAsUser", 0))
    if context.get("runAsNonRoot") not in (None, True) and user == 0:
        yield _refuse(context, "runAsNonRoot", "memcached could run as root, with no runAsUser above 0 given")


def _isolation(context: Block) -> Iterator[FieldError]:
    if context.block("windowsOptions").get("hostProcess") not in (None, False):
        yield _refuse(context, "windowsOptions.hostProcess", "the container would run on its node itself")
    labels = context.block("seLinuxOptions")
    for name in ("type", "user", "role"):
        if name in labels and labels.text(name, "?") not in (_SELINUX_TYPES if name == "type" else ("",)):
            yield _refuse(context, f"seLinuxOptions.{name}", f"the {name} may lift the container's isolation")
    for name, what in (("seccompProfile", "system calls"), ("appArmorProfile", "files and capabilities")):
        profile = context.block(name)
        if "type" in profile and profile.text("type") not in _PROFILES:
            why = f"the container's {what} would not be confined, as RuntimeDefault and Localhost have it"
            yield _refuse(context, f"{name}.type", why, whole=name)


def unconfined(annotations: Block) -> Iterator[FieldError]:
    """AppArmor's old annotations, which the API server takes for the field when that is not given."""
    for name, value in annotations.node.items():
        if name.startswith(_APPARMOR) and value not in ("", "runtime/default"):
            if isinstance(value, str) and value.startswith("localhost/"):
                continue
            yield FieldError(
                f"{annotations.at}[{_shown(name)}]",
                FORBIDDEN,
                f"the container's files and capabilities would not be confined: {_WAY_OUT}",
                drop=("podAnnotations", name),
            )


_WAY_OUT = "remove it, or have the operator run with --allow-privileged-pods"


def _refuse(context: Block, name: str, why: str, *, whole: str = "") -> FieldError:
    """`whole` is left out instead of `name` alone, where the rest would make no sense."""
    drop = (*context.at.split(".")[1:], *(whole or name).split("."))
    return context.forbidden(name, f"{why}: {_WAY_OUT}", drop=drop)


# --- Unwise, not wrong


def warnings_of(spec: Block, old: Block | None, policy: Policy, *, sound: bool) -> Iterator[str]:
    """`sound` is a spec without an error, with which can be reckoned."""
    monitoring, security = spec.block("monitoring"), spec.block("security")
    yield from image_warnings(spec, "image")
    if monitoring.on():
        yield from image_warnings(monitoring, "exporterImage")
    yield from _argument_warnings(spec.block("memcached"))
    if sound:
        yield from _memory_warnings(spec, policy)
    yield from _disruption_warnings(spec)
    yield from _access_warnings(security, monitored=monitoring.on())
    yield from _autoscaling_warnings(spec, old)
    if old is not None and "replicas" in spec and "replicasFrom" in spec and "replicasFrom" not in old:
        yield "spec.replicas: replicasFrom decides the number of pods from now on: leave it out of the manifest"


def image_warnings(block: Block, name: str) -> Iterator[str]:
    image = block.text(name)
    repository, _, digest = image.partition("@")
    tag = repository.rpartition("/")[2].partition(":")[2]
    if image and not digest and tag in ("", "latest"):
        yield f"{block.path(name)}: {'latest' if tag else 'no tag'}: pods may run different versions; name a version"


def _argument_warnings(config: Block) -> Iterator[str]:
    arguments = [argument if isinstance(argument, str) else "" for argument in config.items("extraArgs")]
    for index, argument in enumerate(arguments):
        if argument.startswith("-") and re.search(r"\s", argument):
            yield f"{config.path('extraArgs')}[{index}]: one argument with a space: flag and value are two list items"
    for flag in flags(arguments):
        where = f"{config.path('extraArgs')}[{flag.at}]"
        if not flag.letter:
            yield f"{where}: memcached 1.6 knows no such flag, and ends when it does not know one"
        elif flag.letter in WITH_VALUE and flag.value is None and flag.letter not in _OWNED:
            yield f"{where}: -{flag.letter} wants a value, and memcached ends without it"
        elif flag.letter == "A":
            yield f"{where}: -A lets every client stop the pod"


def _memory_warnings(spec: Block, policy: Policy) -> Iterator[str]:
    if policy.derived_memory is None:
        return
    given = spec.block("memcached")
    limit, standard = _quantity(spec, "limits", "memory"), MemcachedConfig()
    config = MemcachedConfig.model_construct(
        max_memory_mb=given.number("maxMemoryMB", standard.max_memory_mb),
        max_connections=given.number("maxConnections", standard.max_connections),
        threads=given.number("threads", standard.threads),
        max_item_size=given.text("maxItemSize", standard.max_item_size),
    )
    derived = policy.derived_memory(config, spec.block("security").block("tls").on()) * MIB
    if limit is not None and config.max_memory_mb * MIB + OVERHEAD <= limit < derived * CLOSE:
        yield (
            f"spec.resources.limits.memory: close to what a full cache needs ({derived // MIB}Mi by the operator's "
            "formula): memcached may be killed; raise it, or leave memory out"
        )


def _disruption_warnings(spec: Block) -> Iterator[str]:
    budget = spec.block("highAvailability").block("podDisruptionBudget")
    if not budget.on():
        return
    if budget.get("maxUnavailable") in (0, "0%"):
        yield f"{budget.path('maxUnavailable')}: no pod may ever be away, so no node can be drained"
    autoscaling, least = spec.block("autoscaling"), spec.number("replicas", DEFAULT_REPLICAS)
    if autoscaling.on():
        least = autoscaling.number("minReplicas", 1)
    elif "replicasFrom" in spec:
        least = spec.block("replicasFrom").number("min", 0)
    bound = budget.get("minAvailable")
    if isinstance(bound, str) and _PERCENT.fullmatch(bound):
        needed = -(-least * int(bound[:-1]) // 100)  # rounded up, as the disruption controller does
    else:
        # A number that replicas do not exceed is an error, save where another decides the size.
        needed = budget.number("minAvailable", 0) if autoscaling.on() or "replicasFrom" in spec else 0
    if least and needed >= least:
        yield f"{budget.path('minAvailable')}: with {least} pods all must stay, so no node can be drained"


def _access_warnings(security: Block, *, monitored: bool) -> Iterator[str]:
    sasl, tls, policy = security.block("sasl"), security.block("tls"), security.block("networkPolicy")
    if sasl.on() and monitored:
        yield "spec.monitoring: the exporter cannot authenticate, so there are no metrics while SASL is on"
    if sasl.on() and (not tls.on() or tls.on("allowPlaintext")):
        yield f"{sasl.at}: passwords cross the network in plain text: turn TLS on, without allowPlaintext"
    if tls.on() and tls.on("allowPlaintext"):
        yield f"{tls.path('allowPlaintext')}: port 11211 stays open without encryption or client certificates"
    if policy.on() and not policy.items("allowedSources"):
        yield f"{policy.path('allowedSources')}: empty, which admits everyone"


def _autoscaling_warnings(spec: Block, old: Block | None) -> Iterator[str]:
    autoscaling, monitoring = spec.block("autoscaling"), spec.block("monitoring")
    if autoscaling.on() and monitoring.on():
        pods = [Block(item, "").block("resource") for item in autoscaling.items("metrics")]
        wanted = {"cpu"} if not autoscaling.items("metrics") else set()
        wanted |= {pod.text("name") for pod in pods if pod.block("target").text("type") == "Utilization"}
        exporter = monitoring.block("exporterResources")
        for name in sorted(name for name in wanted & {"cpu", "memory"} if not _requested(exporter, name)):
            yield f"{exporter.at}.requests.{name}: without it the autoscaler cannot tell the pod's {name} utilization"
    if old is not None and old.block("autoscaling").on() and not autoscaling.on() and "replicasFrom" not in spec:
        replicas = spec.number("replicas", DEFAULT_REPLICAS)
        yield f"spec.replicas: autoscaling ends, and the pool goes to {replicas} pods"

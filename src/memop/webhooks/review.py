"""AdmissionReview v1, bytes to bytes. Every question gets an answer; one that cannot be read, a denial with code 400.

Whichever version of a kind is written, it comes here as the stored one, which the configurations' rules name:
`matchPolicy: Equivalent` has the API server convert, and the schema is one. Another would be answered no differently.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from memop.api.base import Kind
from memop.api.memcached import MEMCACHED
from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.webhooks import cluster, defaulting, validation
from memop.webhooks.patch import diff
from memop.webhooks.validation import Policy, Verdict

Json = Any
Task = Literal["mutate", "validate"]
TASKS: tuple[Task, ...] = ("mutate", "validate")

API_VERSION = "admission.k8s.io/v1"
MAX_WARNING = 256  # characters; the API server cuts what is longer
_REASONS = {
    "Invalid value": "FieldValueInvalid",
    "Required value": "FieldValueRequired",
    "Forbidden": "FieldValueForbidden",
    "Unsupported value": "FieldValueNotSupported",
    "Too long": "FieldValueTooLong",
}


class _Validate(Protocol):
    def __call__(self, new: Json, old: Json, /, *, policy: Policy) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class _Rules:
    """How one kind is defaulted and validated."""

    kind: Kind
    default: Callable[[Json, Json], Json]
    validate: _Validate


_RULES = {
    (rules.kind.group, rules.kind.kind): rules
    for rules in (
        _Rules(MEMCACHED, defaulting.default, validation.validate),
        _Rules(MEMCACHED_CLUSTER, cluster.default, cluster.validate),
    )
}
KINDS: tuple[Kind, ...] = tuple(rules.kind for rules in _RULES.values())


def path(task: Task, kind: Kind = MEMCACHED) -> str:
    """Where controller-runtime serves it, e.g. `/validate-memcached-c5c3-io-v1beta1-memcached`."""
    return f"/{task}-{kind.group.replace('.', '-')}-{kind.versions[-1]}-{kind.kind.lower()}"


class _GroupKind(msgspec.Struct):
    group: str = ""
    kind: str = ""


class _Request(msgspec.Struct, rename="camel"):
    uid: str
    kind: _GroupKind
    operation: str
    name: str = ""
    sub_resource: str = ""
    object: Json = None
    old_object: Json = None


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    request: _Request


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Answers the API server's questions about both kinds by the operator's policy, whichever path they come by."""

    policy: Policy

    def review(self, task: Task, body: bytes) -> bytes:
        """The answer to an AdmissionReview."""
        try:
            asked = msgspec.json.decode(body, type=_Review)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _encode(_uid(body), _denial(400, "BadRequest", f"not an AdmissionReview of {API_VERSION}: {error}"))
        request = asked.request
        if (asked.api_version, asked.kind) != (API_VERSION, "AdmissionReview"):
            why = f"wants an AdmissionReview of {API_VERSION}, got {asked.kind} of {asked.api_version}"
            return _encode(request.uid, _denial(400, "BadRequest", why))
        return _encode(request.uid, self._answer(task, request))

    def _answer(self, task: Task, request: _Request) -> Mapping[str, Json]:
        if request.operation not in ("CREATE", "UPDATE") or request.sub_resource:
            return {"allowed": True}
        rules = _RULES.get((request.kind.group, request.kind.kind))
        if rules is None:
            ours = " and ".join(f"{kind.kind} of {kind.group}" for kind in KINDS)
            why = f"memop judges {ours}, not {request.kind.kind} of {request.kind.group}"
            return _denial(400, "BadRequest", why)
        new, old = request.object, request.old_object
        if not isinstance(new, dict) or (request.operation == "UPDATE" and not isinstance(old, dict)):
            return _denial(400, "BadRequest", f"{request.operation} without object or oldObject")
        metadata = new.get("metadata")
        if isinstance(metadata, dict) and metadata.get("deletionTimestamp"):
            return {"allowed": True}  # what goes must be able to: a finalizer may still be taken off
        if request.operation == "CREATE":
            old = None
        if task == "mutate":
            return _patch(new, rules.default(new, old))
        return _told(rules.kind, request.name or _name(new), rules.validate(new, old, policy=self.policy))


def _told(kind: Kind, name: str, verdict: Verdict) -> Mapping[str, Json]:
    warnings = [warning[:MAX_WARNING] for warning in verdict.warnings]
    answer: dict[str, Json] = {"warnings": warnings} if warnings else {}
    if not verdict.errors:
        return {"allowed": True, **answer}
    told = [str(error) for error in verdict.errors]
    listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    causes = [{"reason": _REASONS[error.kind], "message": error.body, "field": error.field} for error in verdict.errors]
    details = {"name": name, "group": kind.group, "kind": kind.kind, "causes": causes}
    message = f'{kind.kind}.{kind.group} "{name}" is invalid: {listed}'
    return {**_denial(422, "Invalid", message, details), **answer}


def _patch(given: Json, wanted: Json) -> Mapping[str, Json]:
    operations = diff(given, wanted)
    if not operations:
        return {"allowed": True}
    patch = base64.b64encode(msgspec.json.encode(operations)).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def _name(new: Json) -> str:
    metadata = new.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def _denial(code: int, reason: str, message: str, details: Json = None) -> Mapping[str, Json]:
    status = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"allowed": False, "status": status | ({"details": details} if details else {})}


def _uid(body: bytes) -> str:
    """The uid of a request that cannot be read otherwise, so that the denial reaches who asked."""
    try:
        uid = msgspec.json.decode(body)["request"]["uid"]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return ""
    return uid if isinstance(uid, str) else ""


def _encode(uid: str, answer: Mapping[str, Json]) -> bytes:
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": {"uid": uid, **answer}}
    return msgspec.json.encode(review)

"""AdmissionReview v1, bytes to bytes. Every question gets an answer; one that cannot be read, a denial with code 400.

Both versions of the kind come here as v1beta1, the one that the configurations' rules name: `matchPolicy: Equivalent`
has the API server convert, and the schema is one. v1alpha1 would be answered no differently.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from memop.api.memcached import MEMCACHED
from memop.webhooks.defaulting import default
from memop.webhooks.patch import diff
from memop.webhooks.validation import Policy, validate

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


def path(task: Task) -> str:
    """Where controller-runtime serves it, e.g. `/validate-memcached-c5c3-io-v1beta1-memcached`."""
    version = MEMCACHED.versions[-1]
    return f"/{task}-{MEMCACHED.group.replace('.', '-')}-{version}-{MEMCACHED.kind.lower()}"


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
    """Answers the API server's questions about a `Memcached` by the operator's policy."""

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
        if (request.kind.group, request.kind.kind) != (MEMCACHED.group, MEMCACHED.kind):
            why = f"memop judges {MEMCACHED.kind} of {MEMCACHED.group}, not {request.kind.kind} of {request.kind.group}"
            return _denial(400, "BadRequest", why)
        new, old = request.object, request.old_object
        if not isinstance(new, dict) or (request.operation == "UPDATE" and not isinstance(old, dict)):
            return _denial(400, "BadRequest", f"{request.operation} without object or oldObject")
        metadata = new.get("metadata")
        if isinstance(metadata, dict) and metadata.get("deletionTimestamp"):
            return {"allowed": True}  # what goes must be able to: a finalizer may still be taken off
        if request.operation == "CREATE":
            old = None
        return _mutate(new, old) if task == "mutate" else self._validate(request, new, old)

    def _validate(self, request: _Request, new: Json, old: Json) -> Mapping[str, Json]:
        verdict = validate(new, old, policy=self.policy)
        warnings = [warning[:MAX_WARNING] for warning in verdict.warnings]
        answer: dict[str, Json] = {"warnings": warnings} if warnings else {}
        if not verdict.errors:
            return {"allowed": True, **answer}
        kind, name = f"{MEMCACHED.kind}.{MEMCACHED.group}", request.name or _name(new)
        told = [str(error) for error in verdict.errors]
        listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        causes = [
            {"reason": _REASONS[error.kind], "message": error.body, "field": error.field} for error in verdict.errors
        ]
        details = {"name": name, "group": MEMCACHED.group, "kind": MEMCACHED.kind, "causes": causes}
        return {**_denial(422, "Invalid", f'{kind} "{name}" is invalid: {listed}', details), **answer}


def _mutate(new: Json, old: Json) -> Mapping[str, Json]:
    operations = diff(new, default(new, old))
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

"""What the translators share: reading a foreign object, and telling what is wrong with it or lost."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from memop.api.base import Kind, Model
from memop.api.memcached_cluster import MAX_CLUSTER_NAME_LENGTH

Json = dict[str, Any]
Path = tuple[str | int, ...]
Spec = TypeVar("Spec", bound=Model)

MAX_SHOWN = 64  # characters of a value that is told of
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of one field of a foreign object."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}"


@dataclass(frozen=True, slots=True)
class Translation:
    """A native object and what of the foreign one it has no equivalent for."""

    native: Json
    notes: list[Remark]


class Untranslatable(ValueError):
    """A foreign object that no native one can be made of: which, which fields, and what to do."""

    def __init__(self, foreign: Any, errors: Sequence[Remark]) -> None:
        super().__init__(f"{described(foreign)}: {'; '.join(map(str, errors))}")
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Served:
    """How a foreign object is served: by the child of this name, of so many shards.

    `error` is what keeps memop from serving it as it is now; `message` says how far it is.
    """

    name: str
    shards: int
    ready: bool
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the other operator's status said, and its users may look for.

    Its fields, and a condition (type, status, reason, message) where it had one of its own.
    """

    fields: Json
    condition: tuple[str, bool, str, str] | None = None


def dotted(path: Path) -> str:
    """`spec.proxy.replicas`, `metadata.labels[app]`."""
    text = ""
    for step in path:
        plain = isinstance(step, str) and re.fullmatch(r"\w+", step)
        text += f".{step}" if plain else f"[{shown(step)}]"
    return text.removeprefix(".")


def described(foreign: Any) -> str:
    """`Mcrouter default/cache`, as far as the object tells."""
    kind, metadata = foreign.get("kind"), foreign.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    parts = (metadata.get("namespace"), metadata.get("name") or "(no name)")
    return f"{shown(kind)} {'/'.join(shown(part) for part in parts if part)}"


def shown(value: Any) -> str:
    """Something of the user's own in our words, on one line and not too long."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def read_spec(foreign: Json, model: type[Spec]) -> tuple[Spec, list[Remark]]:
    """The spec, with defaults for what is absent or null, and a note on each field that the model does not know.

    Raises: Untranslatable.
    """
    spec = without_nulls(foreign.get("spec"))
    try:
        read = model.model_validate({} if spec is None else spec, strict=True)
    except ValidationError as error:
        errors = [
            _remark(found["loc"], found["type"], found["input"], found.get("ctx", {})) for found in error.errors()
        ]
        raise Untranslatable(foreign, errors) from error
    return read, list(_unknown(read, ("spec",)))


def without_nulls(node: Any) -> Any:
    """null says nothing: the API server drops it, too."""
    if isinstance(node, dict):
        return {name: without_nulls(value) for name, value in node.items() if value is not None}
    if isinstance(node, list):
        return [without_nulls(value) for value in node]
    return node


def _unknown(block: BaseModel, at: Path) -> Iterator[Remark]:
    for name in block.model_extra or ():
        yield Remark((*at, name), "unknown, and so without effect")
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        if isinstance(value, BaseModel):
            yield from _unknown(value, (*at, field.alias or name))


def _remark(location: Path, type_: str, value: Any, context: Mapping[str, Any]) -> Remark:
    words = {
        "greater_than_equal": "is less than {ge}: raise it",
        "less_than_equal": "is more than {le}: lower it",
        "string_too_long": "has more than {max_length} characters: shorten it",
        "string_pattern_mismatch": "is not an absolute path of plain names such as /var/mcrouter/fifos: give one",
        "literal_error": "is none of {expected}: give one of them",
        "int_type": "is not a whole number: give one, without quotes",
        "string_type": "is not a string: give one, in quotes",
    }
    what = words.get(type_, "is not a map of fields: give one").format(**context)
    return Remark(("spec", *location), f"{shown(repr(value))} {what}")


def native(kind: Kind, metadata: Json, spec: Json) -> Json:
    """The native object."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def read_metadata(foreign: Json, *, longest: int = MAX_CLUSTER_NAME_LENGTH, suffix: str = "") -> Json:
    """The native object's metadata: its name and suffix (no longer than `longest`), namespace, labels, annotations.

    Raises: Untranslatable.
    """
    longest -= len(suffix)
    metadata = without_nulls(foreign.get("metadata"))
    if not isinstance(metadata, dict):
        raise Untranslatable(foreign, [Remark(("metadata",), "give a map with a name")])
    errors = []
    name = metadata.get("name")
    if not isinstance(name, str) or not _DNS_1035.fullmatch(name) or len(name) > longest:
        errors.append(
            Remark(
                ("metadata", "name"),
                f"Services and pods are named after it: give a DNS-1035 label of at most {longest} characters "
                "(lower-case letters, digits and '-', a letter first, no '-' last)",
            )
        )
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str | None):
        errors.append(Remark(("metadata", "namespace"), "give a string"))
    kept: Json = {"name": f"{name}{suffix}", **({"namespace": namespace} if namespace else {})}
    for field in ("labels", "annotations"):
        pairs = metadata.get(field, {})
        if not isinstance(pairs, dict):
            errors.append(Remark(("metadata", field), "give a map of strings"))
            continue
        errors += [
            Remark(("metadata", field, key), "give a string, in quotes")
            for key, value in pairs.items()
            if not isinstance(key, str) or not isinstance(value, str)
        ]
        if pairs := {key: value for key, value in pairs.items() if key != _LAST_APPLIED}:
            kept[field] = pairs
    if errors:
        raise Untranslatable(foreign, errors)
    return kept

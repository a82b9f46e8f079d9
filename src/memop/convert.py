"""`memop convert`: YAML of other operators' kinds → YAML of memop's own, with comments on what has no equivalent.

Documents of other kinds pass unchanged, their comments included.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from memop.translate import TRANSLATORS, Json, Remark, Translation, Untranslatable, described
from memop.translate.foreign import Path

# A line that begins so ends a document wherever it stands, in a block or quoted scalar, too.
_MARKER = re.compile(r"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z/][\w./:-]+")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_GROUPS = frozenset(api_version.partition("/")[0] for api_version, _ in TRANSLATORS)


@dataclass(frozen=True, slots=True)
class Converted:
    """The manifests, how many things have no equivalent in them, and what is unusable, each with its place."""

    text: str
    lost: int
    errors: list[str]


def convert(sources: Iterable[tuple[str, str]]) -> Converted:
    """Convert texts, each given with the name to call it by in errors."""
    written: list[str] = []
    errors: list[str] = []
    lost = 0
    for name, text in sources:
        before = len(written) + len(errors)
        for document in _documents(text):
            try:
                for output, notes in _convert(document):
                    written.append(output)
                    lost += notes
            except _Unusable as error:
                errors += [f"{name}: document {document.number}, line {line}: {what}" for line, what in error.found]
        if len(written) + len(errors) == before:
            errors.append(f"{name}: no Kubernetes object in it")
    return Converted("---\n".join(written), lost, errors)


@dataclass(frozen=True, slots=True)
class _Document:
    """One document's text, which begins after `line` - 1 lines of its source."""

    number: int
    line: int
    text: str


class _Unusable(Exception):
    """Pairs of a line and what is wrong there."""

    def __init__(self, found: Sequence[tuple[int, str]]) -> None:
        super().__init__(found)
        self.found = found


def _documents(text: str) -> Iterator[_Document]:
    """The documents that are not empty, comments aside."""
    number = start = 0
    for end in (*(marker.start() for marker in _MARKER.finditer(text)), len(text)):
        part = text[start:end]
        if any(line.strip() and not line.lstrip().startswith("#") for line in part.splitlines()):
            number += 1
            yield _Document(number, text.count("\n", 0, start) + 1, part)
        start = min(end + len("---"), len(text))


def _convert(document: _Document) -> Iterator[tuple[str, int]]:
    """Each resulting manifest with the number of things that it has no equivalent for.

    Raises: _Unusable.
    """
    node, obj = _load(document)
    api_version, kind = _type(obj, document.line + node.start_mark.line)
    objects: list[tuple[Path, Any]] = [((), obj)]
    if (api_version, kind) == ("v1", "List") and isinstance(obj.get("items"), list):
        objects = [(("items", at), item) for at, item in enumerate(obj["items"])]
    if not any(_foreign(one) for _, one in objects):
        yield document.text.strip("\n") + "\n", 0
        return
    errors: list[tuple[int, str]] = []
    for at, one in objects:
        try:
            yield _manifest(one)
        except Untranslatable as error:
            whose = described(one)
            errors += [
                (document.line + _line(node, (*at, *remark.path)), f"{whose}: {remark}") for remark in error.errors
            ]
    if errors:
        raise _Unusable(errors)


def _load(document: _Document) -> tuple[yaml.Node, Any]:
    try:
        loader = _Loader(document.text)
        node = loader.get_single_node()
        if node is not None:
            return node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = document.line + (mark.line if mark else 0)
        raise _Unusable([(line, f"not YAML: {error.problem or error.context}")]) from error
    except yaml.reader.ReaderError as error:
        line = document.line + document.text.count("\n", 0, error.position)
        raise _Unusable([(line, f"not YAML: {error.reason}")]) from error
    except (ValueError, RecursionError) as error:
        raise _Unusable([(document.line, f"not usable: {error}")]) from error
    raise _Unusable([(document.line, "nothing in it")])


def _type(obj: Any, line: int) -> tuple[str, str]:
    pair = (obj.get("apiVersion"), obj.get("kind")) if isinstance(obj, dict) else (None, None)
    api_version, kind = pair
    if not isinstance(api_version, str) or not isinstance(kind, str):
        raise _Unusable([(line, "not a Kubernetes object: give it apiVersion and kind")])
    return api_version, kind


def _foreign(obj: Any) -> bool:
    """Whether it is of another operator's group."""
    api_version = obj.get("apiVersion") if isinstance(obj, dict) else None
    return isinstance(api_version, str) and api_version.partition("/")[0] in _GROUPS


def _manifest(obj: Any) -> tuple[str, int]:
    """Raises: Untranslatable."""
    if not _foreign(obj):
        return _dump(obj), 0
    api_version, kind = obj["apiVersion"], obj.get("kind")
    heading = f"# Was: {described(obj)} ({api_version})"
    translate = TRANSLATORS.get((api_version, kind))
    if translate is None:
        return f"{heading}\n# No equivalent: it is left as it is\n{_dump(obj)}", 1
    translation = translate(obj)
    notes = [*translation.notes, *_metadata_notes(obj, translation)]
    comments = [heading, *(f"# No equivalent: {note}" for note in notes)]
    return "\n".join((*comments, _dump(translation.native))), len(notes)


def _metadata_notes(obj: Json, translation: Translation) -> Iterator[Remark]:
    """What of the metadata would bind the new object as it bound the old one, and is the user's to decide."""
    for field in ("finalizers", "ownerReferences"):
        if obj["metadata"].get(field) and field not in translation.native["metadata"]:
            yield Remark(("metadata", field), "left out")


def _line(node: yaml.Node, path: Path) -> int:
    """How many lines below the document's first one the field stands, or what is there of the way to it."""
    line = node.start_mark.line
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = (node.value[step], node.value[step])
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return int(line)


class _Loader(yaml.SafeLoader):
    """Reads what kubectl reads: dates are strings, and a key stands once."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and quotes what some YAML reader or other might take for no string."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _dump(obj: Json) -> str:
    return yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=1 << 16, allow_unicode=True)

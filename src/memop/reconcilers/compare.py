"""Does a live object need a write? Judged by the API server's own record of what we applied.

`metadata.managedFields` (fieldsV1) lists, for our field manager, every field of our last apply that nobody has changed
since. So an object is as desired exactly when that set equals the desired fields and the values agree; fields of others
and the server's defaults are in neither. The record also says which lists are maps (`k:{…}` entries) and which lists
and maps are atomic (a leaf), so no table of merge keys is needed.
Format: structured-merge-diff, fieldpath/serialize.go.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from memop.api.quantity import quantity

Json = Any

# Identity: in every apply body, in no fieldsV1.
_OBJECT = frozenset({"apiVersion", "kind"})
_METADATA = frozenset({"name", "namespace", "uid"})
_NOTHING: frozenset[str] = frozenset()
# Where strings are quantities, which the server stores in canonical form ("1000m" as "1").
_QUANTITIES = frozenset({"averageValue", "divisor", "sizeLimit"})
_QUANTITY_MAPS = frozenset({"limits", "requests"})


class FieldSet:
    """A fieldsV1 tree, parsed: fields by name, and elements of a list that merges by keys; a leaf has neither."""

    __slots__ = ("elements", "fields", "leaf")

    def __init__(self, tree: Mapping[str, Json]) -> None:
        self.leaf = not tree
        self.fields = {entry[2:]: FieldSet(below) for entry, below in tree.items() if entry.startswith("f:")}
        self.elements: list[tuple[dict[str, Json], FieldSet]] = [
            (msgspec.json.decode(entry[2:]), FieldSet(below)) for entry, below in tree.items() if entry.startswith("k:")
        ]


class Difference:
    """Why a write is necessary: the field and what is wrong with it; `foreign` where somebody else changed it."""

    __slots__ = ("_path", "_problem", "_values", "foreign")

    def __init__(self, problem: str, *values: Json, foreign: bool) -> None:
        """`problem` has a `{}` for each of the values."""
        self._path: list[str] = []
        self._problem = problem
        self._values = values
        self.foreign = foreign

    @property
    def message(self) -> str:
        """In words. Made when asked for: most differences are only acted on."""
        path = ".".join(reversed(self._path)).replace(".[", "[")
        return f"{path} {self._problem.format(*map(_short, self._values))}".strip()

    def __str__(self) -> str:
        return self.message

    __repr__ = __str__  # as logs show it

    def below(self, name: str) -> "Difference":
        """The same, seen from one level up: equal objects never build a path."""
        self._path.append(name)
        return self


def difference(desired: Mapping[str, Json], live: Mapping[str, Json], owned: FieldSet) -> Difference | None:
    """The first field that makes a write necessary and why, or None where the live object is as desired.

    `desired` is an apply body, `live` the same parts of the live object, `owned` what the server says that we applied.
    """
    return _fields(owned, desired, live, _OBJECT)


def _fields(
    owned: FieldSet, desired: Mapping[str, Json], live: Json, identity: frozenset[str] = _NOTHING, name: str = ""
) -> Difference | None:
    fields, known = owned.fields, 0
    for field, value in desired.items():
        below = fields.get(field)
        if below is None:
            if field in identity:
                continue
            return _unapplied(value, live.get(field) if live else None).below(field)
        known += 1
        seen = live.get(field) if live else None
        if identity is _OBJECT and field == "metadata":
            found = _fields(below, value, seen, _METADATA, field)
        else:
            found = _value(below, value, seen, name, field)
        if found:
            return found.below(field)
    if known < len(fields):
        return _unwanted().below(next(field for field in fields if field not in desired))
    return None


def _value(owned: FieldSet, desired: Json, live: Json, parent: str, name: str) -> Difference | None:
    if not owned.leaf:
        if isinstance(desired, dict):
            return _fields(owned, desired, live, _NOTHING, name)
        if isinstance(desired, list):
            return _items(owned, desired, live)
    if desired == live:
        return None
    # An empty block that gets fields which the server does not store (false, say) has yet to be applied with them.
    filled = isinstance(desired, dict) and bool(desired) and not live
    if not filled and _same(parent, name, desired, live):
        return None
    return Difference("is {}, wanted {}", live, desired, foreign=False)


def _items(owned: FieldSet, desired: list[Json], live: Json) -> Difference | None:
    """A list whose elements merge by key."""
    entries = list(owned.elements)
    for item in desired:
        entry = next((entry for entry in entries if _has(item, entry[0])), None)
        if entry is None:
            return Difference("lacks {} as applied", item, foreign=True)
        entries.remove(entry)
        keys, below = entry
        match = next((candidate for candidate in live or () if _has(candidate, keys)), None)
        found = _value(below, item, match, "", "")
        if found:
            return found.below(_element(keys))
    return _unwanted().below(_element(entries[0][0])) if entries else None


def _unapplied(desired: Json, live: Json) -> Difference:
    return Difference("is {}, not as applied; wanted {}", live, desired, foreign=True)


def _unwanted() -> Difference:
    return Difference("is no longer wanted", foreign=False)


def _has(item: Mapping[str, Json], keys: Mapping[str, Json]) -> bool:
    return all(item.get(name) == value for name, value in keys.items())


def _same(parent: str, name: str, desired: Json, live: Json) -> bool:
    """Equality of what the server keeps whole: scalars, atomic lists and maps."""
    if isinstance(desired, dict) and isinstance(live, dict):
        names = {name for name, value in desired.items() if not _empty(value)}
        return names == {name for name, value in live.items() if not _empty(value)} and all(
            _same(name, below, desired[below], live[below]) for below in names
        )
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(_same(parent, name, *pair) for pair in zip(desired, live, strict=True))
    if desired == live or (_empty(desired) and _empty(live)):
        return True
    if name in _QUANTITIES or (parent, name) == ("target", "value"):
        return _equal(quantity(desired), quantity(live))
    if parent in _QUANTITY_MAPS:
        return _equal(_milli(desired), _milli(live))
    return False


def _empty(value: Json) -> bool:
    """What the API server drops, for most fields, when it stores an object; where it doesn't, both sides have it."""
    return not value


def _equal(a: Decimal | None, b: Decimal | None) -> bool:
    return a is not None and a == b


def _milli(value: Json) -> Decimal | None:
    """A quantity of resources, which the server rounds up to thousandths (core/v1 SetDefaults_ResourceList)."""
    exact = quantity(value)
    return None if exact is None else exact.quantize(Decimal("0.001"), ROUND_CEILING)


def _element(keys: Mapping[str, Json]) -> str:
    return f"[{','.join(str(key) for key in keys.values())}]"


def _short(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."

"""Does a live object need a write? Judged by the API server's own record of what we applied.

`metadata.managedFields` (fieldsV1) lists, for our field manager, every field of our last apply that nobody has changed
since. So an object is as desired exactly when that set equals the desired fields and the values agree; fields of others
and the server's defaults are in neither. The record also says which lists are maps (`k:{…}` entries) and which lists
and maps are atomic (a leaf), so no table of merge keys is needed.
Format: structured-merge-diff, fieldpath/serialize.go.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

Json = Any
Path = tuple[str, ...]

# Identity: in every apply body, in no fieldsV1.
_IDENTITY = {(): {"apiVersion", "kind"}, ("metadata",): {"name", "namespace", "uid"}}
# Where strings are quantities, which the server stores in canonical form ("1000m" as "1").
_QUANTITIES = frozenset({"averageValue", "divisor", "sizeLimit"})
_QUANTITY_MAPS = frozenset({"limits", "requests"})
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


class Difference(NamedTuple):
    """Why a write is necessary: the field and what is wrong with it; `foreign` where somebody else changed it."""

    message: str
    foreign: bool


def difference(desired: Mapping[str, Json], live: Mapping[str, Json], owned: Mapping[str, Json]) -> Difference | None:
    """The first field that makes a write necessary and why, or None where the live object is as desired.

    `desired` is an apply body, `live` the same parts of the live object, `owned` the fieldsV1 tree of our last apply.
    """
    return _fields((), desired, live, owned)


def _fields(path: Path, desired: Mapping[str, Json], live: Json, owned: Mapping[str, Json]) -> Difference | None:
    identity = _IDENTITY.get(path, ())
    for name, value in desired.items():
        if name in identity:
            continue
        found = _value((*path, name), value, live.get(name) if live else None, owned.get(f"f:{name}"))
        if found:
            return found
    for entry in owned:
        if entry.startswith("f:") and entry[2:] not in desired:
            return _unwanted((*path, entry[2:]))
    return None


def _value(path: Path, desired: Json, live: Json, owned: Mapping[str, Json] | None) -> Difference | None:
    if owned is None:
        return Difference(f"{_dotted(path)} is {_short(live)}, not as applied; wanted {_short(desired)}", foreign=True)
    if owned and isinstance(desired, Mapping):
        return _fields(path, desired, live, owned)
    if owned and isinstance(desired, list):
        return _items(path, desired, live, owned)
    # An empty block that gets fields which the server does not store (false, say) has yet to be applied with them.
    filled = isinstance(desired, Mapping) and bool(desired) and not live
    if not filled and _same(path, desired, live):
        return None
    return Difference(f"{_dotted(path)} is {_short(live)}, wanted {_short(desired)}", foreign=False)


def _items(path: Path, desired: list[Json], live: Json, owned: Mapping[str, Json]) -> Difference | None:
    """A list whose elements merge by key."""
    entries = {entry: msgspec.json.decode(entry[2:]) for entry in owned if entry.startswith("k:")}
    for item in desired:
        entry = next((entry for entry, keys in entries.items() if _has(item, keys)), None)
        if entry is None:
            return Difference(f"{_dotted(path)} lacks {_short(item)} as applied", foreign=True)
        keys = entries.pop(entry)
        match = next((candidate for candidate in live or () if _has(candidate, keys)), None)
        found = _value(_element(path, keys), item, match, owned[entry])
        if found:
            return found
    return next((_unwanted(_element(path, keys)) for keys in entries.values()), None)


def _unwanted(path: Path) -> Difference:
    return Difference(f"{_dotted(path)} is no longer wanted", foreign=False)


def _has(item: Mapping[str, Json], keys: Mapping[str, Json]) -> bool:
    return all(item.get(name) == value for name, value in keys.items())


def _same(path: Path, desired: Json, live: Json) -> bool:
    """Equality of what the server keeps whole: scalars, atomic lists and maps."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        names = {name for name, value in desired.items() if not _empty(value)}
        return names == {name for name, value in live.items() if not _empty(value)} and all(
            _same((*path, name), desired[name], live[name]) for name in names
        )
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(_same(path, *pair) for pair in zip(desired, live, strict=True))
    if desired == live or (_empty(desired) and _empty(live)):
        return True
    if path[-1] in _QUANTITIES or path[-2:] == ("target", "value"):
        return _equal(_quantity(desired), _quantity(live))
    if path[-2:-1] and path[-2] in _QUANTITY_MAPS:
        return _equal(_milli(desired), _milli(live))
    return False


def _empty(value: Json) -> bool:
    """What the API server drops, for most fields, when it stores an object; where it doesn't, both sides have it."""
    return not value


def _equal(a: Decimal | None, b: Decimal | None) -> bool:
    return a is not None and a == b


def _milli(value: Json) -> Decimal | None:
    """A quantity of resources, which the server rounds up to thousandths (core/v1 SetDefaults_ResourceList)."""
    exact = _quantity(value)
    return None if exact is None else exact.quantize(Decimal("0.001"), ROUND_CEILING)


def _quantity(value: Json) -> Decimal | None:
    text = str(value)
    number = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(number) * _SUFFIXES[text[len(number) :]]
    except (InvalidOperation, KeyError):
        return None


def _element(path: Path, keys: Mapping[str, Json]) -> Path:
    return (*path[:-1], f"{path[-1]}[{','.join(str(key) for key in keys.values())}]")


def _dotted(path: Path) -> str:
    return ".".join(path)


def _short(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."

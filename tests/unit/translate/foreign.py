"""Foreign objects for the tests of their translators."""

from typing import Any

from memop.translate import TRANSLATORS

Json = dict[str, Any]

IANLEWIS = ("ianlewis.org/v1alpha1", "MemcachedCluster")
MCROUTER = ("mcrouter.example.com/v1alpha3", "Mcrouter")
MEMSHACK = ("example.memshack.com/v1", "Memshack")
CACHE_EXAMPLE = ("cache.example.com/v1alpha1", "Memcached")


def foreign(which: tuple[str, str], spec: Any = None, **metadata: Any) -> Json:
    api_version, kind = which
    given = {} if spec is None else {"spec": spec}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "cache", **metadata}, **given}


def translated(obj: Json) -> tuple[Json, list[str]]:
    """The native spec, and the notes."""
    translation = TRANSLATORS[obj["apiVersion"], obj["kind"]](obj)
    return translation.native["spec"], [str(note) for note in translation.notes]

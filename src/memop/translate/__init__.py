"""Other operators' kinds in the words of memop's own: a pure function each, foreign object → native one and notes.

A module a kind. What a field has no equivalent for becomes a note; what makes no sense, an error: nothing is lost
silently. Nothing else in memop knows these kinds.
"""

from collections.abc import Callable, Mapping

from memop.translate import cache_example, ianlewis, mcrouter, memshack
from memop.translate.foreign import Json, Remark, Served, Told, Translation, Untranslatable, described, dotted

Translator = Callable[[Json], Translation]

TRANSLATORS: Mapping[tuple[str, str], Translator] = {
    ("ianlewis.org/v1alpha1", "MemcachedCluster"): ianlewis.translate,
    ("mcrouter.example.com/v1alpha3", "Mcrouter"): mcrouter.translate,
    ("example.memshack.com/v1", "Memshack"): memshack.translate,
    ("cache.example.com/v1alpha1", "Memcached"): cache_example.translate,
}
"""apiVersion and kind → its translator."""

__all__ = [
    "TRANSLATORS",
    "Json",
    "Remark",
    "Served",
    "Told",
    "Translation",
    "Translator",
    "Untranslatable",
    "described",
    "dotted",
]

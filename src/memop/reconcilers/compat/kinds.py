"""The foreign kinds that are served: all that the reconciler, which is one class for all of them, knows of each."""

from collections.abc import Callable
from dataclasses import dataclass

from memop.api.base import Kind
from memop.api.ianlewis import IANLEWIS
from memop.api.mcrouter import MCROUTER
from memop.api.memshack import MEMSHACK, SUFFIX
from memop.reconcilers.objects import MANAGED_BY, MANAGED_BY_LABEL, selector_labels
from memop.refs import Key, Resource
from memop.translate import Served, Told, Translator, ianlewis, mcrouter, memshack

COMPONENT = ("app.kubernetes.io/component", "compat")

CHILDREN = f"{'='.join(COMPONENT)},{MANAGED_BY_LABEL}={MANAGED_BY}"
"""Label selector of the children of all of them."""


@dataclass(frozen=True, slots=True)
class ForeignKind:
    """`status` gives what the other operator's status said, `suffix` what the child is called after the CR's name."""

    resource: Resource
    translate: Translator
    status: Callable[[Served], Told]
    suffix: str = ""

    def child(self, name: str) -> str:
        """What the child of a CR of that name is called."""
        return f"{name}{self.suffix}"

    def labels(self, key: Key) -> dict[str, str]:
        """Those of a CR's child: they tell its kind, too, as CRs of two kinds may have one name."""
        return {**selector_labels(str(self.resource), key.name), **dict([COMPONENT])}


def _resource(kind: Kind) -> Resource:
    return Resource(kind.group, kind.versions[-1], kind.kind, kind.plural)


FOREIGN_KINDS = (
    ForeignKind(_resource(IANLEWIS), ianlewis.translate, ianlewis.status),
    ForeignKind(_resource(MCROUTER), mcrouter.translate, mcrouter.status),
    ForeignKind(_resource(MEMSHACK), memshack.translate, memshack.status, SUFFIX),
)

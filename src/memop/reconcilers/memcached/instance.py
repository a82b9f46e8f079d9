"""A `Memcached` as the builders take it."""

from dataclasses import dataclass

from memop.api.memcached import DEFAULT_REPLICAS, MemcachedSpec
from memop.refs import Key

RESTART_TRIGGER = "memcached.c5c3.io/restart-trigger"


@dataclass(frozen=True, slots=True)
class Instance:
    """The spec with what surrounds it: the name, the image after the operator's default, the restart annotation."""

    key: Key
    spec: MemcachedSpec
    image: str
    restart_trigger: str | None = None

    @property
    def replicas(self) -> int:
        """Pods wanted."""
        return DEFAULT_REPLICAS if self.spec.replicas is None else self.spec.replicas

"""A `Memcached` as the builders take it."""

from dataclasses import dataclass

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE, DEFAULT_IMAGE, DEFAULT_REPLICAS, MemcachedSpec
from memop.refs import DEPLOYMENTS, STATEFUL_SETS, Key, Resource

SECRET_HASH = "memcached.c5c3.io/secret-hash"  # noqa: S105 - the name of an annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator's flags say of every pool.

    The images of those that name none, whether memop chooses the pods' uid, whether a spec may ask for privileges, and
    the cluster's DNS domain.
    """

    image: str = DEFAULT_IMAGE
    exporter_image: str = DEFAULT_EXPORTER_IMAGE
    default_uid: bool = True
    allow_privileged_pods: bool = False
    cluster_domain: str = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The spec with what surrounds it.

    `image` and `exporter_image` are the spec's, or else the operator's defaults. `replicas` is the size to apply, None
    where it is not memop's to set. `secret_hash` and `restart_trigger` go to the pods as they are. The rest are
    `Options`.
    """

    key: Key
    spec: MemcachedSpec
    image: str
    exporter_image: str
    replicas: int | None
    secret_hash: str | None = None
    restart_trigger: str | None = None
    default_uid: bool = True
    cluster_domain: str = "cluster.local"

    @property
    def workload(self) -> Resource:
        """The kind that makes the pods; `podIdentity` is immutable, and so is this."""
        return STATEFUL_SETS if self.spec.pod_identity == "Stable" else DEPLOYMENTS


def own_replicas(spec: MemcachedSpec) -> int | None:
    """The size in the spec; None where an autoscaler decides it, or replica sync has yet to write it there."""
    if spec.enabled_autoscaling is not None or (spec.replicas is None and spec.replicas_from is not None):
        return None
    return DEFAULT_REPLICAS if spec.replicas is None else spec.replicas

"""What memop and its users may do, as RBAC: derived from the kinds that the reconcilers declare, and nothing spare.

`python -m memop.rights manifests/rbac` writes the manifests; docs/install.md says which of them an installation needs.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from memop.reconcilers.cluster import children as cluster
from memop.reconcilers.compat.kinds import FOREIGN_KINDS
from memop.reconcilers.memcached import children as memcached
from memop.reconcilers.sync.caches import KINDS as FOLLOWED
from memop.refs import (
    CONFIG_MAPS,
    EVENTS,
    LEASES,
    MEMCACHED_CLUSTERS,
    MEMCACHEDS,
    MUTATING_WEBHOOKS,
    PODS,
    SECRETS,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    VALIDATING_WEBHOOKS,
    Resource,
)
from memop.settings import Settings

Json = dict[str, Any]

NAME = "memop"
"""Of the ServiceAccount, and of what binds it."""
NAMESPACE = "memop-system"

OWN_KINDS = (MEMCACHEDS, MEMCACHED_CLUSTERS)
OTHERS_KINDS = tuple(kind.resource for kind in FOREIGN_KINDS)
CHILDREN = tuple(
    dict.fromkeys(
        (
            *OWN_KINDS,  # a MemcachedCluster's pools, and the MemcachedClusters of foreign kinds
            *(*memcached.KINDS, *cluster.KINDS),
            *(*memcached.OPTIONAL_KINDS, *cluster.OPTIONAL_KINDS),
        )
    )
)

_CACHED: tuple[str, ...] = ("get", "list", "watch")
# "delete" for those, too, that go with their owner alone: the API server asks it of who changes the owner of what is
# there (admission plugin OwnerReferencesPermissionEnforcement), as memop does when it adopts.
_MADE = ("create", "patch", "delete")
_DEFAULT = Settings()
_HEADER = "# Generated from src/memop/rights.py by `python -m hack.manifests`; do not edit.\n"


def served() -> list[Json]:
    """The rules needed in every namespace that memop serves."""
    owners = (*OWN_KINDS, *OTHERS_KINDS)
    verbs = dict.fromkeys((*owners, *FOLLOWED.values()), _CACHED)
    for child in CHILDREN:
        verbs[child] = (*_CACHED, *_MADE)
    return [
        *_grouped(verbs),
        *_grouped(dict.fromkeys(owners, ("patch",)), subresource="status"),
        # What blocks its owner's deletion may be made only by who may update the owner's finalizers.
        *_grouped(dict.fromkeys(owners, ("update",)), subresource="finalizers"),
        _rule(SECRETS, "get"),  # metadata is all that is asked for, but RBAC knows no less
        _rule(EVENTS, "create", "patch"),
    ]


def lease(settings: Settings = _DEFAULT) -> list[Json]:
    """The rules for leader election, in memop's own namespace."""
    return [
        _rule(LEASES, "create"),  # of what is created the API server does not know the name
        _rule(LEASES, "get", "update", name=settings.leader_election_id),
    ]


def webhook_secret(settings: Settings = _DEFAULT) -> list[Json]:
    """The rules for the webhooks' certificate that memop makes, in its own namespace, which it may not serve."""
    return [_rule(SECRETS, "create"), _rule(SECRETS, "get", "update", name=f"{settings.webhook_name}-cert")]


def webhook_configurations(settings: Settings = _DEFAULT) -> list[Json]:
    """The cluster-wide rules to tell the API server of that certificate's CA."""
    name = settings.webhook_name
    return [_rule(resource, "get", "patch", name=name) for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)]


def metrics() -> list[Json]:
    """The cluster-wide rules to ask whether somebody may read /metrics."""
    return [_rule(TOKEN_REVIEWS, "create"), _rule(SUBJECT_ACCESS_REVIEWS, "create")]


def editor(kinds: Sequence[Resource] = OWN_KINDS) -> list[Json]:
    """The rules for who manages CRs."""
    all_verbs = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    return [
        *_grouped(dict.fromkeys(kinds, all_verbs)),
        *_grouped(dict.fromkeys(kinds, ("get",)), subresource="status"),
        *_grouped(dict.fromkeys(_scaled(kinds), ("get", "patch", "update")), subresource="scale"),
    ]


def viewer(kinds: Sequence[Resource] = OWN_KINDS) -> list[Json]:
    """The rules for who looks at CRs."""
    return [
        *_grouped(dict.fromkeys(kinds, _CACHED)),
        *_grouped(dict.fromkeys(kinds, ("get",)), subresource="status"),
        *_grouped(dict.fromkeys(_scaled(kinds), ("get",)), subresource="scale"),
    ]


def status_command() -> list[Json]:
    """The rules for `memop status`, with all that it shows of the data plane."""
    return [
        *_grouped(dict.fromkeys(OWN_KINDS, ("get", "list"))),
        _rule(PODS, "get", "list"),
        _rule(CONFIG_MAPS, "get"),
        # A websocket begins with a GET, and is so authorized; from 1.35 on as a create, too.
        _rule(PODS, "create", "get", subresource="portforward"),
    ]


def manifests() -> Mapping[str, list[Json]]:
    """File → objects."""
    return {
        "lease.yaml": _granted("Role", f"{NAME}-leader-election", lease()),
        "cluster/operator.yaml": _granted("ClusterRole", NAME, served()),
        "cluster/metrics.yaml": _granted("ClusterRole", f"{NAME}-metrics-auth", metrics()),
        "cluster/users.yaml": [
            *_for_users(NAME, OWN_KINDS),
            role("ClusterRole", f"{NAME}-status", status_command()),
        ],
        "compat/users.yaml": _for_users(f"{NAME}-compat", OTHERS_KINDS),
        # In the namespace that is served, which its kustomization names; memop itself is elsewhere.
        "namespaced/operator.yaml": _granted("Role", NAME, served(), namespace=None),
        "webhook/certificate.yaml": [
            *_granted("Role", f"{NAME}-webhook", webhook_secret()),
            *_granted("ClusterRole", f"{NAME}-webhook", webhook_configurations()),
        ],
    }


def to_yaml(documents: Iterable[Json]) -> str:
    """One YAML stream, the same bytes for the same objects."""
    return _HEADER + yaml.safe_dump_all(documents, sort_keys=False, width=120, default_flow_style=None)


def role(
    kind: str, name: str, rules: list[Json], *, namespace: str | None = NAMESPACE, aggregate_to: Iterable[str] = ()
) -> Json:
    """A Role, or ClusterRole; `namespace` is a Role's, and kustomize's to fill in where it is None."""
    labels = {f"rbac.authorization.k8s.io/aggregate-to-{whom}": "true" for whom in aggregate_to}
    return _object(kind, name, namespace, labels=labels) | {"rules": rules}


def _granted(kind: str, name: str, rules: list[Json], *, namespace: str | None = NAMESPACE) -> list[Json]:
    """A Role or ClusterRole and its binding to memop's ServiceAccount."""
    binding = _object(f"{kind}Binding", name, namespace) | {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
    return [role(kind, name, rules, namespace=namespace), binding]


def _for_users(prefix: str, kinds: Sequence[Resource]) -> list[Json]:
    """Whoever may edit or view a namespace, by Kubernetes' own roles, may do so with CRs."""
    return [
        role("ClusterRole", f"{prefix}-edit", editor(kinds), aggregate_to=("admin", "edit")),
        role("ClusterRole", f"{prefix}-view", viewer(kinds), aggregate_to=("admin", "edit", "view")),
    ]


def _object(kind: str, name: str, namespace: str | None, *, labels: Mapping[str, str] | None = None) -> Json:
    metadata: Json = {"name": name}
    if namespace is not None and not kind.startswith("Cluster"):
        metadata["namespace"] = namespace
    metadata["labels"] = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "rbac", **(labels or {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}


def _scaled(kinds: Sequence[Resource]) -> list[Resource]:
    """Those with a scale subresource: foreign kinds have none."""
    return [kind for kind in kinds if kind in OWN_KINDS]


def _grouped(verbs: Mapping[Resource, tuple[str, ...]], *, subresource: str = "") -> list[Json]:
    """One rule for all resources of one group and the same verbs."""
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for resource, allowed in verbs.items():
        resources.setdefault((resource.group, allowed), []).append(_plural(resource, subresource))
    return [
        {"apiGroups": [group], "resources": plurals, "verbs": list(allowed)}
        for (group, allowed), plurals in resources.items()
    ]


def _rule(resource: Resource, *verbs: str, subresource: str = "", name: str = "") -> Json:
    rule: Json = {"apiGroups": [resource.group], "resources": [_plural(resource, subresource)], "verbs": list(verbs)}
    return rule | ({"resourceNames": [name]} if name else {})


def _plural(resource: Resource, subresource: str) -> str:
    return f"{resource.plural}/{subresource}" if subresource else resource.plural


if __name__ == "__main__":
    for file, documents in manifests().items():
        path = Path(sys.argv[1], file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_yaml(documents), encoding="utf-8")

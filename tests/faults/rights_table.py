"""What each right of memop's in a namespace is for: a promise that is broken without it, and a CR that shows it.

A right is one verb on one resource. Each CR leads the life that its `Course` describes; what its `Ground` has seen of
it in the end says whether the promise was kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import product
from typing import NamedTuple

from memop import rights
from memop.reconcilers.compat.kinds import FOREIGN_KINDS, ForeignKind
from memop.reconcilers.memcached.instance import SECRET_HASH
from memop.reconcilers.sync.source import LABEL
from memop.refs import (
    CERTIFICATES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    MEMCACHED_CLUSTERS,
    MEMCACHEDS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    SECRETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from tests.support.kubectl import Json, condition, memcached
from tests.support.tls import users

SOURCE_SIZE = 0  # of what pools follow; that of one that follows nothing is 1

Ref = tuple[str, str, str]
"""Group, kind and name: an object in its namespace."""
Objects = Mapping[Ref, Json]


class Right(NamedTuple):
    """One verb on one resource (`plural` or `plural/subresource`); `name` where it is for that object alone."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, f"{self.resource}.{self.group}".rstrip("."), self.name)))

    def rule(self) -> Json:
        rule: Json = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}
        return rule | ({"resourceNames": [self.name]} if self.name else {})


def each(rules: Iterable[Json]) -> list[Right]:
    """What RBAC rules grant, right by right."""
    return [
        Right(*right)
        for rule in rules
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]))
    ]


def granted(kind: str, name: str, allowed: Iterable[Right], *, namespace: str, home: str) -> list[Json]:
    """A Role in `namespace`, or a ClusterRole, bound to the ServiceAccount `memop` of the namespace `home`."""
    role = rights.role(kind, name, [right.rule() for right in allowed], namespace=namespace)
    binding = role | {
        "kind": f"{kind}Binding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": rights.NAME, "namespace": home}],
    }
    del binding["rules"]
    return [role, binding]


# --- Lives ------------------------------------------------------------------------------------------------------


class Course(Enum):
    """What befalls a CR, once it and its children are there."""

    NOTHING = "nothing more"
    DELETED = "somebody deletes its child, round by round"
    PAUSED = "its user pauses it, and has it go on, round by round"
    TAKEN = "its child's name was taken by an object of a stranger's before"
    OFF = "its user no longer wants what the child is for"
    LEFT = "its user deletes it but for its children, and makes it again"


@dataclass(frozen=True, eq=False)
class Life:
    """A CR, one child of it, and what befalls them; `before` are objects of others, `after` is the CR turned off."""

    course: Course
    cr: Json
    child: Ref
    before: tuple[Json, ...] = ()
    after: Json = field(default_factory=dict)

    @property
    def ref(self) -> Ref:
        """The CR's."""
        return ref(self.cr)


@dataclass(eq=False)
class Ground:
    """A namespace where memop has all rights but `lacks`, and what was seen there.

    `now` are its objects at the end, `was` those before anything befell them. `in_time` counts by life the rounds, of
    `rounds`, whose outcome was as it is to be when the next one began.
    """

    name: str
    lacks: Right | None
    lives: Sequence[Life]
    now: Objects = field(default_factory=dict)
    was: Objects = field(default_factory=dict)
    rounds: int = 0
    in_time: Counter[Life] = field(default_factory=Counter)


def ref(obj: Json) -> Ref:
    return obj["apiVersion"].rpartition("/")[0], obj["kind"], obj["metadata"]["name"]


def _ref(resource: Resource, name: str) -> Ref:
    return resource.group, resource.kind, name


def _cr(resource: Resource, name: str, spec: Json) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}


def _name(resource: Resource, course: Course) -> str:
    """Kinds of several groups are called the same."""
    return "-".join(filter(None, (resource.kind, resource.group.partition(".")[0], course.name))).lower()


# Of the pools that have such a child; without pods, but for the autoscaler's.
_POOLS: dict[Resource, Json] = {
    DEPLOYMENTS: {},
    STATEFUL_SETS: {"podIdentity": "Stable"},
    SERVICES: {},
    POD_DISRUPTION_BUDGETS: {"highAvailability": {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 1}}},
    NETWORK_POLICIES: {"security": {"networkPolicy": {"enabled": True}}},
    SERVICE_MONITORS: {"monitoring": {"enabled": True, "serviceMonitor": {}}},
    CERTIFICATES: {"security": {"tls": {"enabled": True, "issuerRef": {"name": "none"}}}},
    HORIZONTAL_POD_AUTOSCALERS: {
        "resources": {"requests": {"cpu": "10m"}},
        "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 2},
    },
}
_FOREIGN: dict[str, Json] = {
    "MemcachedCluster": {"replicas": 1},
    "Mcrouter": {"memcached_pool_size": 1},
    "Memshack": {"num_shards": 1, "num_replicas": 1},
}
_SELECTOR: Json = {"matchLabels": {"app": "stranger"}}
_PODS: Json = {
    "replicas": 0,
    "selector": _SELECTOR,
    "template": {
        "metadata": {"labels": _SELECTOR["matchLabels"]},
        "spec": {"containers": [{"name": "stranger", "image": "stranger"}]},
    },
}
# Specs of strangers' objects: none carries a label of memop's.
_STRANGERS: dict[Resource, Json] = {
    DEPLOYMENTS: _PODS,
    STATEFUL_SETS: {**_PODS, "serviceName": "none"},
    SERVICES: {"ports": [{"port": 80}]},
    POD_DISRUPTION_BUDGETS: {"minAvailable": 0, "selector": _SELECTOR},
    NETWORK_POLICIES: {"podSelector": _SELECTOR},
    SERVICE_MONITORS: {"selector": _SELECTOR, "endpoints": []},
    CERTIFICATES: {"secretName": "none", "issuerRef": {"name": "none"}},
    HORIZONTAL_POD_AUTOSCALERS: {
        "maxReplicas": 1,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
    },
    CONFIG_MAPS: {},
    MEMCACHEDS: {"replicas": 0},
    MEMCACHED_CLUSTERS: {"shards": 1, "proxy": {"replicas": 0}},
}
_MCROUTER = next(kind for kind in FOREIGN_KINDS if kind.resource.kind == "Mcrouter")


def _pool(resource: Resource, course: Course) -> Life:
    name, spec = _name(resource, course), _POOLS[resource]
    size: Json = {} if "autoscaling" in spec else {"replicas": 0}
    return Life(course, memcached(name, **size, **spec), _ref(resource, name), after=memcached(name, replicas=0))


def _cluster(resource: Resource, course: Course) -> Life:
    """A cluster of one server a copy, without proxies; of two copies one is turned off, and its seat goes with it."""
    name = _name(resource, course)
    children = {MEMCACHEDS: f"{name}-r0", CONFIG_MAPS: f"{name}-proxy"}
    if course is Course.OFF:
        children = {MEMCACHEDS: f"{name}-r1", SERVICES: f"{name}-r1-0"}

    def cluster(copies: int) -> Json:
        spec = {"shards": 1, "replicasPerShard": copies, "proxy": {"replicas": 0}}
        return _cr(MEMCACHED_CLUSTERS, name, spec)

    wanted = cluster(2 if course is Course.OFF else 1)
    return Life(course, wanted, _ref(resource, children[resource]), after=cluster(1))


@cache
def _foreign(kind: ForeignKind, course: Course) -> Life:
    """One whose MemcachedCluster finds strangers where its pods would come from: they would cost more than all else."""
    name = _name(kind.resource, course)
    child = kind.child(name)
    strangers = (_stranger(MEMCACHEDS, f"{child}-r0"), _stranger(DEPLOYMENTS, f"{child}-proxy"))
    cr = _cr(kind.resource, name, _FOREIGN[kind.resource.kind])
    return Life(course, cr, _ref(MEMCACHED_CLUSTERS, child), before=strangers)


def _stranger(resource: Resource, name: str) -> Json:
    body = _cr(resource, name, _STRANGERS[resource])
    if resource is CONFIG_MAPS:
        del body["spec"]
    return body


def _life(resource: Resource, course: Course) -> Life:
    """One with a child of that kind."""
    if resource is MEMCACHED_CLUSTERS:
        life = _foreign(_MCROUTER, course)
    elif resource in (MEMCACHEDS, CONFIG_MAPS) or (resource, course) == (SERVICES, Course.OFF):
        life = _cluster(resource, course)
    else:
        life = _pool(resource, course)
    if course is not Course.TAKEN:
        return life
    return Life(course, life.cr, life.child, before=(*life.before, _stranger(resource, life.child[2])))


def _with_password() -> Life:
    name = _name(SECRETS, Course.NOTHING)
    sasl = {"enabled": True, "credentialsSecretRef": {"name": name}}
    cr = memcached(name, replicas=0, security={"sasl": sasl})
    return Life(Course.NOTHING, cr, _ref(DEPLOYMENTS, name), before=(users("somebody:secret", name),))


def _follower(source: Resource) -> Life:
    """A pool of the size of a Deployment that is labelled, or of a StatefulSet that it names."""
    name = f"follows-{source.kind.lower()}"
    body = _cr(source, f"{name}-source", {**_STRANGERS[source], "replicas": SOURCE_SIZE})
    follow = {"replicasFrom": {"kind": source.kind, "name": body["metadata"]["name"]}}
    if source is DEPLOYMENTS:
        body["metadata"]["labels"], follow = {LABEL: name}, {}
    return Life(Course.NOTHING, memcached(name, **follow), _ref(DEPLOYMENTS, name), before=(body,))


# --- Promises ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """`kept` judges what a ground has seen of `life`."""

    words: str
    life: Life
    kept: Callable[[Ground, Life], bool]

    def holds(self, ground: Ground) -> bool:
        return self.kept(ground, self.life)


def made(ground: Ground, life: Life) -> bool:
    """The child is there, and the CR's."""
    return life.child in ground.now and owner(ground.now[life.child]) == uid(ground.now.get(life.ref))


def _in_time(ground: Ground, life: Life) -> bool:
    return ground.in_time[life] == ground.rounds > 0


def _told(ground: Ground, life: Life) -> bool:
    return bool(ground.now.get(life.ref, {}).get("status", {}).get("conditions"))


def conflict_told(ground: Ground, life: Life) -> bool:
    """That the object is another's, not that it could not be written."""
    _, kind, name = life.child
    told: str = condition(ground.now.get(life.ref, {}), "Degraded")["message"]
    return f"{kind} {ground.name}/{name} exists" in told


def _removed(ground: Ground, life: Life) -> bool:
    return life.child in ground.was and life.child not in ground.now


def _adopted(ground: Ground, life: Life) -> bool:
    """The child is the same, and the new CR's."""
    was, now = ground.was, ground.now
    return (
        made(ground, life)
        and uid(now.get(life.child)) == uid(was.get(life.child))
        and uid(now.get(life.ref)) != uid(was.get(life.ref))
    )


def _noted(ground: Ground, life: Life) -> bool:
    """The pods have the hash of the Secret's version, and so roll when it changes."""
    template = ground.now.get(life.child, {}).get("spec", {}).get("template", {})
    return SECRET_HASH in template.get("metadata", {}).get("annotations", {})


def _resized(ground: Ground, life: Life) -> bool:
    return bool(ground.now.get(life.ref, {}).get("spec", {}).get("replicas") == SOURCE_SIZE)


def _events(ground: Ground, life: Life) -> list[Json]:
    _, kind, name = life.ref
    about = {"kind": kind, "name": name}
    return [
        event
        for (group, _, _), event in ground.now.items()
        if group == EVENTS.group and about.items() <= event["regarding"].items()
    ]


def _event_told(ground: Ground, life: Life) -> bool:
    return bool(_events(ground, life))


def _series_told(ground: Ground, life: Life) -> bool:
    return any((event.get("series") or {}).get("count", 0) > 1 for event in _events(ground, life))


def uid(obj: Json | None) -> str:
    """Empty where there is no object."""
    return "" if obj is None else str(obj["metadata"]["uid"])


def owner(obj: Json) -> str:
    """The uid of its controller; empty where it has none."""
    owners = obj["metadata"].get("ownerReferences", ())
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def paused(ground: Ground, life: Life) -> bool:
    return bool(condition(ground.now.get(life.ref, {}), "Paused")["status"] == "True")


# What goes when the user no longer wants it; of the others a CR has one for as long as it lives.
_TURNED_OFF = (
    MEMCACHEDS,
    SERVICES,
    POD_DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    HORIZONTAL_POD_AUTOSCALERS,
    SERVICE_MONITORS,
    CERTIFICATES,
)


def _promises() -> Iterable[tuple[Right, Promise]]:
    deleted = {resource: _life(resource, Course.DELETED) for resource in rights.CHILDREN}
    unharmed = {resource: _life(resource, Course.NOTHING) for resource in rights.CHILDREN}
    foreign = {kind.resource: _foreign(kind, Course.NOTHING) for kind in FOREIGN_KINDS}
    for resource, life in deleted.items():
        what = resource.kind
        exists = Promise(f"the {what} is made", unharmed[resource], made)
        again = Promise(f"a {what} that somebody deletes is made again at once", life, _in_time)
        taken = _life(resource, Course.TAKEN)
        yield _right(resource, "create"), exists
        yield _right(resource, "patch"), exists
        yield _right(resource, "list"), again
        yield _right(resource, "watch"), again
        yield _right(resource, "get"), Promise(f"a stranger's {what} is told as such", taken, conflict_told)
        if resource in _TURNED_OFF:
            off = _life(resource, Course.OFF)
            yield _right(resource, "delete"), Promise(f"a {what} goes when it is not wanted", off, _removed)
        else:  # the API server asks it of who changes owners: admission plugin OwnerReferencesPermissionEnforcement
            left = _life(resource, Course.LEFT)
            yield _right(resource, "delete"), Promise(f"a {what} left behind is adopted", left, _adopted)
    for kind in FOREIGN_KINDS:
        resource, life = kind.resource, _foreign(kind, Course.PAUSED)
        noticed = Promise(f"a {resource} is paused at once", life, _in_time)
        yield _right(resource, "list"), noticed
        yield _right(resource, "watch"), noticed
        what = f"the MemcachedCluster of a {resource} that somebody deletes is made again"
        yield _right(resource, "get"), Promise(what, _foreign(kind, Course.DELETED), _in_time)
    for resource, life in {
        MEMCACHEDS: deleted[DEPLOYMENTS],
        MEMCACHED_CLUSTERS: deleted[CONFIG_MAPS],
        **foreign,
    }.items():
        yield _right(resource, "patch", "status"), Promise(f"a {resource} has a status", life, _told)
        yield _right(resource, "update", "finalizers"), Promise(f"a {resource} has its children", life, made)
    yield _right(SECRETS, "get"), Promise("pods roll when their Secret changes", _with_password(), _noted)
    yield _right(EVENTS, "create"), Promise("Events tell of repairs", deleted[DEPLOYMENTS], _event_told)
    yield _right(EVENTS, "patch"), Promise("an Event counts what recurs", deleted[DEPLOYMENTS], _series_told)


def _right(resource: Resource, verb: str, subresource: str = "") -> Right:
    return Right(resource.group, "/".join(filter(None, (resource.plural, subresource))), verb)


PROMISES = dict(_promises())
# These take no right that others do not take.
FURTHER = [
    Promise(f"a pool follows a {source.kind}", _follower(source), _resized) for source in (DEPLOYMENTS, STATEFUL_SETS)
]
KINDS = (*rights.CHILDREN, *rights.OTHERS_KINDS)
"""What a ground is looked at for; Events, which are many, only in the end."""

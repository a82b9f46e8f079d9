"""The life of each kind, as its user leads it: one `Scenario` a kind."""

from collections.abc import Callable

from tests.faults.harness import VOLATILE, Scenario, Step
from tests.support.kubectl import Json, Kubectl, memcached

NAME = "pool"
MEMCACHED_KINDS = {
    "memcacheds": "/apis/memcached.c5c3.io/v1beta1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "services": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "servicemonitors": "/apis/monitoring.coreos.com/v1",
    "certificates": "/apis/cert-manager.io/v1",
}
WITHOUT_EVENTS = frozenset({"statefulsets", "certificates"})  # this pool has none of these
_TOLD_BY_OTHERS = frozenset({"horizontalpodautoscalers"})
# Its value is over the Secret's uid and version, which no two runs share.
_MASK = VOLATILE | {"memcached.c5c3.io/secret-hash"}

_SECRET: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "certificate"},
    "stringData": {"tls.crt": "read by no pod here", "tls.key": "read by no pod here"},
}
_FEATURES: Json = {
    "resources": {"requests": {"cpu": "10m"}},  # of which the autoscaler takes its percentage
    "highAvailability": {
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "gracefulShutdown": {"enabled": True},
    },
    "monitoring": {"enabled": True, "serviceMonitor": {}},
    "security": {
        "tls": {"enabled": True, "certificateSecretRef": {"name": "certificate"}},
        "networkPolicy": {"enabled": True},
    },
}
_OF_FEATURES = ("poddisruptionbudget", "networkpolicy", "servicemonitor")


def _apply(size: Json, memory: int, *, features: bool) -> Callable[[Kubectl], None]:
    """`size` is `replicas` or `autoscaling`."""
    pool = memcached(NAME, memcached={"maxMemoryMB": memory}, **size, **(_FEATURES if features else {}))
    return lambda kubectl: kubectl.apply(_SECRET, pool)


def _serves(replicas: int, memory: int, *, features: bool, scaler: bool = False) -> Callable[[Kubectl], None]:
    """The CR says so itself, of its newest generation, and its children are as it wants them."""

    def check(kubectl: Kubectl) -> None:
        cr = kubectl.get("memcached", NAME)
        status = cr.get("status", {})
        assert status.get("observedGeneration") == cr["metadata"]["generation"], status
        assert status.get("readyReplicas") == replicas, status
        expected = {"Available": "True", "Progressing": "False", "Degraded": "False", "Ready": "True"}
        expected |= {"MonitoringReady": "True"} if features else {}
        assert {c["type"]: c["status"] for c in status["conditions"]} == expected, status
        deployment = kubectl.get("deployment", NAME)["spec"]
        assert deployment["replicas"] == replicas
        assert deployment["template"]["spec"]["containers"][0]["args"][:2] == ["-m", str(memory)]
        assert kubectl.get("service", NAME)["spec"]["clusterIP"] == "None"
        for kind in _OF_FEATURES:
            assert (kubectl.find(kind, NAME) is not None) == features, kind
        assert (kubectl.find("horizontalpodautoscaler", NAME) is not None) == scaler

    return check


def _nothing_remains(kubectl: Kubectl) -> None:
    found = kubectl("get", ",".join((*MEMCACHED_KINDS, "pods")), "-o", "name").stdout
    assert not found, f"still there: {found}"


def _delete(kubectl: Kubectl) -> None:
    kubectl.delete("memcached", NAME, wait=False)


def _recreate(kubectl: Kubectl) -> None:
    """The children stay, without an owner, for the next CR of the name."""
    kubectl("delete", "memcached", NAME, "--cascade=orphan")
    _apply({"replicas": 2}, 128, features=True)(kubectl)


def _delete_service(kubectl: Kubectl) -> None:
    kubectl.delete("service", NAME)


_CREATE = Step("create", _apply({"replicas": 2}, 64, features=True), _serves(2, 64, features=True))
_DELETE = Step("delete", _delete, _nothing_remains)
_SCALER: Json = {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 5}}

MEMCACHED = Scenario(
    "memcached",
    kinds=MEMCACHED_KINDS,
    steps=(
        _CREATE,
        Step("update", _apply({"replicas": 2}, 128, features=True), _serves(2, 128, features=True)),
        Step("scale", _apply({"replicas": 3}, 128, features=True), _serves(3, 128, features=True)),
        Step("hand over", _apply(_SCALER, 128, features=True), _serves(3, 128, features=True, scaler=True)),
        Step("feature off", _apply({"replicas": 3}, 128, features=False), _serves(3, 128, features=False)),
        _DELETE,
    ),
    mask=_MASK,
    told_by_others=_TOLD_BY_OTHERS,
)
MEMCACHED_RECREATED = Scenario(
    "memcached recreated",
    kinds=MEMCACHED_KINDS,
    steps=(_CREATE, Step("recreate", _recreate, _serves(2, 128, features=True)), _DELETE),
    mask=_MASK,
    told_by_others=_TOLD_BY_OTHERS,
)
MEMCACHED_DRIFTED = Scenario(
    "memcached drifted",
    kinds=MEMCACHED_KINDS,
    steps=(_CREATE, Step("drift", _delete_service, _serves(2, 64, features=True)), _DELETE),
    mask=_MASK,
    told_by_others=_TOLD_BY_OTHERS,
)

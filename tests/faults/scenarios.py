"""The life of each kind, as its user leads it: one `Scenario` a kind."""

from collections.abc import Callable

from tests.faults.harness import Scenario, Step
from tests.support.kubectl import Json, Kubectl, condition, memcached

NAME = "pool"
MEMCACHED_KINDS = {
    "memcacheds": "/apis/memcached.c5c3.io/v1beta1",
    "deployments": "/apis/apps/v1",
    "services": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
}


def _budget(*, enabled: bool) -> Json:
    budget = {"enabled": True, "minAvailable": 1} if enabled else {"enabled": False}
    return {"podDisruptionBudget": budget}


def _apply(replicas: int, memory: int, *, budget: bool) -> Callable[[Kubectl], None]:
    pool = memcached(
        NAME, replicas=replicas, memcached={"maxMemoryMB": memory}, highAvailability=_budget(enabled=budget)
    )
    return lambda kubectl: kubectl.apply(pool)


def _serves(replicas: int, memory: int, *, budget: bool) -> Callable[[Kubectl], None]:
    """The CR says so itself, of its newest generation, and its children are as it wants them."""

    def check(kubectl: Kubectl) -> None:
        cr = kubectl.get("memcached", NAME)
        status = cr.get("status", {})
        assert status.get("observedGeneration") == cr["metadata"]["generation"], status
        assert status.get("readyReplicas") == replicas, status
        states = {type_: condition(cr, type_)["status"] for type_ in ("Available", "Progressing", "Degraded", "Ready")}
        assert states == {"Available": "True", "Progressing": "False", "Degraded": "False", "Ready": "True"}, status
        deployment = kubectl.get("deployment", NAME)["spec"]
        assert deployment["replicas"] == replicas
        args = deployment["template"]["spec"]["containers"][0]["args"]
        assert args[:2] == ["-m", str(memory)], args
        assert kubectl.get("service", NAME)["spec"]["clusterIP"] == "None"
        assert (kubectl.find("poddisruptionbudget", NAME) is not None) == budget

    return check


def _nothing_remains(kubectl: Kubectl) -> None:
    found = kubectl("get", ",".join((*MEMCACHED_KINDS, "pods")), "-o", "name").stdout
    assert not found, f"still there: {found}"


def _delete(kubectl: Kubectl) -> None:
    kubectl.delete("memcached", NAME, wait=False)


def _recreate(kubectl: Kubectl) -> None:
    """The children stay, without an owner, for the next CR of the name."""
    kubectl("delete", "memcached", NAME, "--cascade=orphan")
    _apply(2, 128, budget=True)(kubectl)


def _delete_service(kubectl: Kubectl) -> None:
    kubectl.delete("service", NAME)


_CREATE = Step("create", _apply(2, 64, budget=True), _serves(2, 64, budget=True))
_DELETE = Step("delete", _delete, _nothing_remains)

MEMCACHED = Scenario(
    "memcached",
    kinds=MEMCACHED_KINDS,
    steps=(
        _CREATE,
        Step("update", _apply(2, 128, budget=True), _serves(2, 128, budget=True)),
        Step("scale", _apply(3, 128, budget=True), _serves(3, 128, budget=True)),
        Step("feature off", _apply(3, 128, budget=False), _serves(3, 128, budget=False)),
        _DELETE,
    ),
)
MEMCACHED_RECREATED = Scenario(
    "memcached recreated",
    kinds=MEMCACHED_KINDS,
    steps=(_CREATE, Step("recreate", _recreate, _serves(2, 128, budget=True)), _DELETE),
)
MEMCACHED_DRIFTED = Scenario(
    "memcached drifted",
    kinds=MEMCACHED_KINDS,
    steps=(_CREATE, Step("drift", _delete_service, _serves(2, 64, budget=True)), _DELETE),
)

"""Real clients on real pods: what was set in each pod is read back from the same pod."""

from contextlib import closing

from pymemcache.client.base import Client

from tests.support.kubectl import Json, Kubectl, eventually

SELECTOR = (
    "app.kubernetes.io/name=memcached,app.kubernetes.io/managed-by=memcached-operator,app.kubernetes.io/instance="
)


def pods(kubectl: Kubectl, name: str) -> list[Json]:
    """The pool's pods that are not being deleted."""
    return [pod for pod in kubectl.list("pods", SELECTOR + name) if "deletionTimestamp" not in pod["metadata"]]


def ready_pods(kubectl: Kubectl, name: str, count: int) -> list[Json]:
    """The pool's pods, once exactly `count` of them are ready."""

    def check() -> list[Json]:
        found = pods(kubectl, name)
        states = {pod["metadata"]["name"]: _ready(pod) for pod in found}
        assert len(found) == count, states
        assert all(states.values()), states
        return found

    return eventually(check, timeout=90)


def _ready(pod: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def addresses(pods: list[Json]) -> set[str]:
    return {pod["status"]["podIP"] for pod in pods}


def client(address: str) -> Client:
    return Client((address, 11211), connect_timeout=2, timeout=2)


def assert_serves(address: str) -> None:
    """A value of this pod's own comes back from it, and another pod's does not."""
    with closing(client(address)) as cache:
        assert cache.set("whose", address, noreply=False)
        assert cache.get("whose") == address.encode()


def stats(address: str) -> dict[str, str]:
    """`stats settings`: what memcached itself says it runs with."""
    with closing(client(address)) as cache:
        settings = cache.stats("settings")
    return {
        name.decode(): value.decode() if isinstance(value, bytes) else str(value) for name, value in settings.items()
    }

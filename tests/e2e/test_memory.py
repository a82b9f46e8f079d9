"""The derived memory is enough for a cache at its fullest, and less is not: the kernel is the judge."""

from contextlib import closing
from functools import partial

import pytest

from tests.support.cache import assert_serves, client, pods, ready_pods
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.load import Killed, fill

pytestmark = pytest.mark.usefixtures("operator")

MEGABYTES = 64
CONNECTIONS = 900  # of the 1024 that memcached takes


def container(pod: Json) -> Json:
    [status] = pod["status"]["containerStatuses"]
    return dict(status)


def test_a_full_cache_lives_with_what_memop_derives_and_dies_of_less(kubectl: Kubectl) -> None:
    lowered = {"requests": {"memory": "32Mi"}, "limits": {"memory": f"{MEGABYTES}Mi"}}
    config = {"maxMemoryMB": MEGABYTES}
    kubectl.apply(memcached("derived", memcached=config), memcached("lowered", memcached=config, resources=lowered))
    [derived] = ready_pods(kubectl, "derived", 1)
    [tight] = ready_pods(kubectl, "lowered", 1)
    assert derived["spec"]["containers"][0]["resources"]["limits"] == {"memory": "155Mi"}
    # No webhook runs here, so it is told and built.
    told = condition(kubectl.get("memcached", "lowered"), "Degraded")
    assert (told["reason"], "spec.resources.limits.memory" in told["message"]) == ("InvalidSpec", True), told

    address = derived["status"]["podIP"]
    fill(address, MEGABYTES, connections=CONNECTIONS)
    with closing(client(address)) as cache:
        stats = cache.stats()
    assert stats[b"evictions"] > 0, stats
    assert stats[b"max_connections"] > CONNECTIONS
    assert_serves(address)

    with pytest.raises(Killed):
        fill(tight["status"]["podIP"], MEGABYTES, connections=CONNECTIONS)
    eventually(partial(assert_killed, kubectl))
    [after] = pods(kubectl, "derived")
    assert after["metadata"]["uid"] == derived["metadata"]["uid"]
    assert (container(after)["restartCount"], container(after)["ready"]) == (0, True)


def assert_killed(kubectl: Kubectl) -> None:
    [pod] = pods(kubectl, "lowered")
    status = container(pod)
    assert status["restartCount"] > 0, status
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled", status

"""The process: one leader at a time, an orderly end, a silent restart, only the namespaces it was given."""

import time

from tests.support.cache import addresses, assert_serves, ready_pods
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Kubectl, condition, eventually, memcached
from tests.support.operator import Operator


def leads(operator: Operator) -> bool:
    return 'leader_election_master_status{name="d4f3c8a2.c5c3.io"} 1.0' in operator.metrics()


def test_a_standby_takes_over_at_once_after_an_orderly_shutdown(
    kubectl: Kubectl, start_operator: OperatorFactory
) -> None:
    first = start_operator("--leader-elect")
    eventually(lambda: assert_leads(first))
    second = start_operator("--leader-elect")
    kubectl.apply(memcached("pool", replicas=1))
    ready_pods(kubectl, "pool", 1)
    assert not leads(second)
    started = time.monotonic()
    assert first.stop() == 0
    eventually(lambda: assert_leads(second), interval=0.05)
    assert time.monotonic() - started < 10  # far below the lease's 15 s: it was released
    kubectl("scale", "memcached/pool", "--replicas=2")
    for address in addresses(ready_pods(kubectl, "pool", 2)):
        assert_serves(address)


def assert_leads(operator: Operator) -> None:
    assert leads(operator)


def test_a_standby_takes_over_from_a_killed_leader_when_its_lease_is_up(
    kubectl: Kubectl, start_operator: OperatorFactory
) -> None:
    flags = (
        "--leader-elect",
        *("--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s"),
        "--leader-election-retry-period=500ms",
    )
    first = start_operator(*flags)
    eventually(lambda: assert_leads(first))
    second = start_operator(*flags)
    first.kill()
    time.sleep(1)
    assert not leads(second)
    eventually(lambda: assert_leads(second), timeout=10)
    kubectl.apply(memcached("pool"))
    ready_pods(kubectl, "pool", 1)


def test_a_cache_serves_and_heals_while_memop_is_down(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=2))
    found = ready_pods(kubectl, "pool", 2)
    assert operator.stop() == 0
    for address in addresses(found):
        assert_serves(address)
    kubectl("delete", "pod", found[0]["metadata"]["name"], "--grace-period=0", "--force")
    for address in addresses(ready_pods(kubectl, "pool", 2)):
        assert_serves(address)


def test_what_happened_while_memop_was_down_is_made_good(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=1), memcached("idle", replicas=1))
    ready_pods(kubectl, "pool", 1)
    ready_pods(kubectl, "idle", 1)
    operator.stop()
    kubectl("scale", "memcached/pool", "--replicas=2")
    kubectl.delete("service", "pool")
    kubectl.delete("memcached", "idle")
    kubectl.apply(memcached("new", replicas=1))
    operator.start()
    ready_pods(kubectl, "pool", 2)
    ready_pods(kubectl, "new", 1)
    ready_pods(kubectl, "idle", 0)
    kubectl.get("service", "pool")


def test_only_the_given_namespaces_are_served(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    other = Kubectl(f"{kubectl.namespace}-other")
    other("create", "namespace", other.namespace)
    try:
        start_operator(f"--watch-namespaces={other.namespace},{kubectl.namespace}-third", all_namespaces=True)
        kubectl.apply(memcached("pool"))
        other.apply(memcached("pool"))
        ready_pods(other, "pool", 1)
        assert kubectl.find("deployment", "pool") is None
        assert condition(kubectl.get("memcached", "pool"), "Ready")["status"] == ""
    finally:
        other("delete", "namespace", other.namespace, "--wait=false")


def test_the_log_names_the_object_and_the_reconcile(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool"))
    ready_pods(kubectl, "pool", 1)
    made = [
        line
        for line in operator.log()
        if any(child.startswith("Deployment pool:") for child in line.get("created", ()))
    ]
    assert [(line["controller"], line["namespace"], line["name"]) for line in made] == [
        ("memcached", kubectl.namespace, "pool")
    ]
    assert made[0]["reconcile_id"]

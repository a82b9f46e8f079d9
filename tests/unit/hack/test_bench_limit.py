"""One CR's bodies as templates for all."""

from typing import Any

import msgspec
import pytest

from hack.bench.api import Pool
from hack.bench.features import FULL, PLAIN
from hack.bench.limit import call, fill
from memop.api.memcached import MemcachedSpec
from memop.reconcilers.memcached.children import children
from memop.reconcilers.memcached.instance import Instance
from memop.refs import Key

CR = {"metadata": {"name": "bench-000003", "namespace": "bench-ns-0", "uid": "3f-uid"}, "spec": {"replicas": 3}}


def filled(body: dict[str, Any]) -> tuple[str, Any]:
    """The call for another CR: bench-000007 with 2 replicas."""
    template = call("/apis/apps/v1/namespaces/bench-ns-0/deployments/bench-000003", body, CR)
    words = (b"other-ns", b"bench-000007", b"7a-uid", b"2")
    path = fill(template.path.encode(), *words).decode()
    return path, msgspec.json.decode(fill(template.body.encode(), *words))


def test_everything_that_names_the_cr_names_the_other() -> None:
    body = {
        "kind": "Service",
        "metadata": {"name": "bench-000003", "namespace": "bench-ns-0", "ownerReferences": [{"uid": "3f-uid"}]},
        "spec": {"host": "bench-000003.bench-ns-0:11211", "priority": 3},
    }
    path, found = filled(body)

    assert path == "/apis/apps/v1/namespaces/other-ns/deployments/bench-000007?fieldManager=bench-limit&force=true"
    assert found == {
        "kind": "Service",
        "metadata": {"name": "bench-000007", "namespace": "other-ns", "ownerReferences": [{"uid": "7a-uid"}]},
        "spec": {"host": "bench-000007.other-ns:11211", "priority": 3},
    }


def test_a_deployment_gets_the_other_replicas_and_no_other_number_changes() -> None:
    _, found = filled({"kind": "Deployment", "spec": {"replicas": 3, "minReadySeconds": 3}})

    assert found["spec"] == {"replicas": 2, "minReadySeconds": 3}


def test_every_child_of_a_full_cr_is_the_other_s_and_shares_its_secret() -> None:
    """As memop builds them. They differ in no more than a template can: the CR's names, uid and replicas."""
    assert [filled(body)[1] for body in built(Pool(3, 1, FULL))] == built(Pool(7, 1, FULL), replicas=2)


def built(pool: Pool, replicas: int = 3) -> list[dict[str, Any]]:
    spec = MemcachedSpec.model_validate(pool.manifest()["spec"])
    key = Key("bench-ns-0" if pool.number == 3 else "other-ns", pool.name)
    return children(
        Instance(key=key, spec=spec, image="a", exporter_image="b", replicas=replicas, secret_hash="0" * 16)
    )


def test_a_full_cr_has_the_children_that_memop_makes_of_it() -> None:
    assert {body["kind"] for body in built(Pool(3, 1, FULL))} == set(FULL.children)
    assert {body["kind"] for body in built(Pool(3, 1))} == set(PLAIN.children)


@pytest.mark.parametrize("number", range(5))
def test_a_full_cr_is_valid_with_any_of_the_replicas_that_pools_have(number: int) -> None:
    spec = Pool(number, 1, FULL).manifest()["spec"]

    assert spec["replicas"] == number
    # A minimum would have to be below the replicas, which some pools have none of.
    assert "minAvailable" not in spec["highAvailability"]["podDisruptionBudget"]
    assert spec["security"]["tls"]["certificateSecretRef"]["name"] == FULL.secret


def test_replicas_that_are_not_the_cr_s_stay() -> None:
    _, found = filled({"kind": "Deployment", "spec": {"replicas": 1}})

    assert found["spec"] == {"replicas": 1}

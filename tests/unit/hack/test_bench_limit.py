"""One CR's bodies as templates for all."""

from typing import Any

import msgspec

from hack.bench.limit import call, fill

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


def test_replicas_that_are_not_the_cr_s_stay() -> None:
    _, found = filled({"kind": "Deployment", "spec": {"replicas": 1}})

    assert found["spec"] == {"replicas": 1}

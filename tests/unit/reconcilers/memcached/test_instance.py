"""Who decides the size."""

from typing import Any

import pytest

from memop.reconcilers.memcached.instance import own_replicas
from tests.unit.reconcilers.memcached.instances import instance


@pytest.mark.parametrize(
    ("spec", "replicas"),
    [
        ({}, 1),
        ({"replicas": 0}, 0),
        ({"replicas": 7}, 7),
        ({"autoscaling": {"enabled": True, "maxReplicas": 3}}, None),
        ({"autoscaling": {"enabled": False, "maxReplicas": 3}}, 1),
        ({"replicasFrom": {"kind": "Deployment", "name": "web"}}, None),
        ({"replicasFrom": {"kind": "Deployment", "name": "web"}, "replicas": 0}, 0),
        ({"replicasFrom": {"kind": "Deployment", "name": "web"}, "replicas": 7}, 7),
    ],
)
def test_the_size_is_the_specs_unless_somebody_else_decides_or_has_yet_to_write_it(
    spec: dict[str, Any], replicas: int | None
) -> None:
    assert own_replicas(instance(spec).spec) == replicas

"""The restricted profile with the user's fields on top."""

from typing import Any

import pytest

from memop.reconcilers.memcached.security import (
    container_security_context,
    pod_security_context,
    sidecar_security_context,
)
from memop.webhooks.validation import Policy, effective
from tests.unit.reconcilers.memcached.instances import instance

POD = {
    "runAsNonRoot": True,
    "runAsUser": 11211,
    "runAsGroup": 11211,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"add": [], "drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    **POD,
}


def security(pod: dict[str, Any] | None = None, container: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"security": {"podSecurityContext": pod, "containerSecurityContext": container}}


@pytest.mark.parametrize("spec", [{}, {"security": {}}, security({}, {})])
def test_everything_is_restricted_by_default(spec: dict[str, Any]) -> None:
    assert pod_security_context(instance(spec)) == POD
    assert container_security_context(instance(spec)) == CONTAINER
    assert sidecar_security_context(instance(spec)) == CONTAINER


@pytest.mark.parametrize(
    ("given", "pod", "containers"),
    [
        ({"fsGroup": 7}, {"fsGroup": 7}, {}),
        ({"runAsUser": 1000}, {"runAsUser": 1000}, {"runAsUser": 1000}),
        (
            {"runAsUser": 1000, "runAsNonRoot": False},
            {"runAsUser": 1000, "runAsNonRoot": False},
            {"runAsUser": 1000, "runAsNonRoot": False},
        ),
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
        ),
        (
            {"supplementalGroups": [5], "fsGroupChangePolicy": "Always"},
            {"supplementalGroups": [5], "fsGroupChangePolicy": "Always"},
            {},
        ),
        ({"runAsNonRoot": None, "runAsUser": None, "seccompProfile": None}, {}, {}),
        ({"seccompProfile": {}}, {}, {}),
        ({"seccompProfile": {"type": None}}, {}, {}),
    ],
)
def test_fields_of_the_pod_reach_its_containers(
    given: dict[str, Any], pod: dict[str, Any], containers: dict[str, Any]
) -> None:
    built = instance(security(given))
    assert pod_security_context(built) == {**POD, **pod}
    assert container_security_context(built) == {**CONTAINER, **containers}
    assert sidecar_security_context(built) == {**CONTAINER, **containers}


@pytest.mark.parametrize(
    ("given", "container"),
    [
        ({"readOnlyRootFilesystem": False}, {"readOnlyRootFilesystem": False}),
        ({"capabilities": {"drop": ["NET_RAW"]}}, {"capabilities": {"add": [], "drop": ["NET_RAW"]}}),
        ({"runAsUser": 7}, {"runAsUser": 7}),
        ({"allowPrivilegeEscalation": None, "capabilities": {"drop": None}, "runAsGroup": None}, {}),
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
        ),
        ({"seLinuxOptions": {"level": "s0:c1"}}, {"seLinuxOptions": {"level": "s0:c1"}}),
    ],
)
def test_fields_of_the_container_win_and_are_memcacheds_alone(given: dict[str, Any], container: dict[str, Any]) -> None:
    built = instance(security({"runAsUser": 1000}, given))
    assert container_security_context(built) == {**CONTAINER, "runAsUser": 1000, **container}
    assert sidecar_security_context(built) == {**CONTAINER, "runAsUser": 1000}


def test_openshift_chooses_the_uid() -> None:
    built = instance(default_uid=False)
    assert pod_security_context(built) == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container_security_context(built).keys() == CONTAINER.keys() - {"runAsUser", "runAsGroup"}
    assert pod_security_context(instance(security({"runAsUser": 7}), default_uid=False))["runAsUser"] == 7


@pytest.mark.parametrize(
    ("pod", "container"),
    [
        ({}, {"privileged": True, "allowPrivilegeEscalation": True, "procMount": "Unmasked"}),
        ({"runAsUser": 0, "runAsNonRoot": False}, {}),
        ({"runAsUser": 1000}, {"runAsUser": 0, "runAsNonRoot": False}),
        ({}, {"capabilities": {"add": ["SYS_ADMIN"]}}),
        ({"seLinuxOptions": {"type": "spc_t"}}, {"seLinuxOptions": {"user": "root", "role": "r"}}),
        ({"windowsOptions": {"hostProcess": True}}, {"windowsOptions": {"hostProcess": True}}),
        ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "Unconfined"}}),
        ({"appArmorProfile": {"type": "Unconfined"}}, {"appArmorProfile": {"type": "Unconfined"}}),
        ({"sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]}, {}),
    ],
)
def test_of_a_dangerous_spec_the_restricted_profile_is_left(pod: dict[str, Any], container: dict[str, Any]) -> None:
    judged = effective(security(pod, container))
    assert all(error.security for error in judged.errors)
    built = instance(judged.spec)
    for context in (pod_security_context(built), container_security_context(built), sidecar_security_context(built)):
        user = context.pop("runAsUser")
        assert user in (11211, 1000)
        kept = {field: value for field, value in context.items() if value != {}}
        assert kept.items() <= (CONTAINER | POD).items()
        assert kept.keys() >= POD.keys() - {"runAsUser"}


@pytest.mark.parametrize(
    ("pod", "container", "expected"),
    [
        # Alone, these would contradict the profile, and the API server or kubelet would refuse the pod.
        ({}, {"privileged": True}, {"privileged": True, "allowPrivilegeEscalation": True}),
        (
            {},
            {"capabilities": {"add": ["CAP_SYS_ADMIN"]}},
            {"capabilities": {"add": ["CAP_SYS_ADMIN"], "drop": ["ALL"]}, "allowPrivilegeEscalation": True},
        ),
        ({}, {"runAsUser": 0}, {"runAsUser": 0, "runAsNonRoot": False}),
        ({"runAsUser": 0}, {}, {"runAsUser": 0, "runAsNonRoot": False}),
        ({}, {"procMount": "Unmasked"}, {"procMount": "Unmasked"}),
    ],
)
def test_an_operator_that_admits_privileged_pods_makes_them(
    pod: dict[str, Any], container: dict[str, Any], expected: dict[str, Any]
) -> None:
    built = instance(effective(security(pod, container), policy=Policy(allow_privileged_pods=True)).spec)
    assert container_security_context(built) == {**CONTAINER, **expected}

"""Which cluster a machine gets."""

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.provider import Machine, Provider, choose

LAPTOP = Machine(linux=True, root=False, docker=True, kind=True)
MAC = Machine(linux=False, root=False, docker=True, kind=True)
MAC_WITHOUT_DOCKER = Machine(linux=False, root=False, docker=False, kind=True)
ROOT = Machine(linux=True, root=True, docker=False, kind=False)
USER = Machine(linux=True, root=False, docker=False, kind=True)


@pytest.mark.parametrize(
    ("machine", "provider", "level", "expected"),
    [
        (LAPTOP, None, None, ("kind", 3)),
        (LAPTOP, None, 3, ("kind", 3)),
        (LAPTOP, None, 1, ("binaries", 1)),
        (LAPTOP, "binaries", None, ("binaries", 2)),
        (MAC, None, None, ("kind", 3)),
        (ROOT, None, None, ("binaries", 3)),
        (ROOT, None, 2, ("binaries", 2)),
        (ROOT, "kind", None, ("kind", 3)),
        (USER, None, None, ("binaries", 2)),
    ],
)
def test_the_fullest_cluster_the_machine_can_have_unless_asked_otherwise(
    machine: Machine, provider: Provider | None, level: int | None, expected: tuple[str, int]
) -> None:
    choice = choose(machine, provider, level)

    assert (choice.provider, choice.level) == expected
    assert choice.reason


@pytest.mark.parametrize(
    ("machine", "provider", "level", "told"),
    [
        (USER, None, 3, "root"),
        (MAC_WITHOUT_DOCKER, None, None, "Docker"),
        (LAPTOP, "kind", 1, "--provider binaries"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_way_out(
    machine: Machine, provider: Provider | None, level: int | None, told: str
) -> None:
    with pytest.raises(ClusterError) as refusal:
        choose(machine, provider, level)

    assert told in refusal.value.hint

"""What a full memcached needs, and who says how much it gets."""

from typing import Any

import pytest

from memop.api.memcached import MemcachedConfig, MemcachedSpec
from memop.reconcilers.memcached.memory import memory, resources

# Peaks of real memcacheds, MiB: the larger of VmHWM and the charge of the cgroup, of 1.6.18 and 1.6.38. "Small" are
# items of one byte, which make the hash table largest; "sizes" adds one item of each size class and 900 or 1024
# connections that do not read their answers.
MEASURED = [
    ({"maxMemoryMB": 16}, False, 64.7),  # small, sizes
    ({"maxMemoryMB": 64}, False, 117.4),  # small, sizes
    ({"maxMemoryMB": 145}, False, 208.7),  # small, sizes; the table has just been doubled
    ({"maxMemoryMB": 256}, False, 323.1),  # small, sizes
    ({"maxMemoryMB": 289}, False, 341.5),  # small; the table is being doubled
    ({"maxMemoryMB": 1024}, False, 1126.1),  # small
    ({"maxMemoryMB": 1153}, False, 1302.2),  # small, sizes
    ({"maxMemoryMB": 64}, False, 70.8),  # items of 1 kB
    ({"maxMemoryMB": 64, "maxItemSize": "32m"}, False, 70.3),  # items of 30 MB
    ({"threads": 128}, False, 64 + 23.7),  # 1024 busy connections; items added
    ({"maxConnections": 4000}, False, 64 + 37.9 + 8),  # answers of 1 MB half read; items and the kernel's part added
    ({"maxConnections": 2000}, True, 64 + 92 + 4),  # the same with TLS
]


@pytest.mark.parametrize(("config", "tls", "peak"), MEASURED)
def test_the_formula_has_a_tenth_above_every_measured_peak(config: dict[str, Any], tls: bool, peak: float) -> None:
    assert memory(MemcachedConfig.model_validate(config), tls=tls) >= 1.1 * peak


@pytest.mark.parametrize("megabytes", [16, 64, 1024, 65536])
def test_every_size_leaves_a_tenth_at_its_unluckiest(megabytes: int) -> None:
    """The hash table is being doubled at this very moment, and every size class holds a page."""
    config = MemcachedConfig(max_memory_mb=megabytes)
    assert memory(config, tls=False) >= 1.1 * (megabytes * (1 + 1 / 6) + 37 + 6 + 10)


@pytest.mark.parametrize(
    ("config", "tls", "expected"),
    [
        ({}, False, 155),
        ({}, True, 194),
        ({"maxMemoryMB": 1024}, False, 1397),
        ({"maxConnections": 65536}, False, 986),
        ({"threads": 128}, False, 189),
    ],
)
def test_the_formula(config: dict[str, Any], tls: bool, expected: int) -> None:
    """A pod template holds the result, so a change of the formula replaces everybody's pods."""
    assert memory(MemcachedConfig.model_validate(config), tls=tls) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"requests": {"memory": "155Mi"}, "limits": {"memory": "155Mi"}}),
        ({}, {"requests": {"memory": "155Mi"}, "limits": {"memory": "155Mi"}}),
        (
            {"requests": {"cpu": "1"}, "limits": {"cpu": 2}},
            {"requests": {"cpu": "1", "memory": "155Mi"}, "limits": {"cpu": 2, "memory": "155Mi"}},
        ),
        (
            {"requests": {"memory": None}, "limits": {"memory": None}},
            {"requests": {"memory": "155Mi"}, "limits": {"memory": "155Mi"}},
        ),
        # Kubernetes takes the limit for the request.
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1Gi"}}),
        ({"limits": {"memory": "64Mi"}}, {"limits": {"memory": "64Mi"}}),
        (
            {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}},
            {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        ),
        ({"requests": {"memory": "64Mi"}}, {"requests": {"memory": "64Mi"}, "limits": {"memory": "155Mi"}}),
        ({"requests": {"memory": "0.5Gi"}}, {"requests": {"memory": "0.5Gi"}, "limits": {"memory": "0.5Gi"}}),
        ({"requests": {"memory": 1 << 30}}, {"requests": {"memory": 1 << 30}, "limits": {"memory": 1 << 30}}),
    ],
)
def test_memory_is_derived_where_none_is_given(given: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert resources(MemcachedSpec.model_validate({"resources": given})) == expected


def test_tls_needs_more() -> None:
    spec = MemcachedSpec.model_validate({"security": {"tls": {"enabled": True}}})
    assert resources(spec)["limits"] == {"memory": "194Mi"}

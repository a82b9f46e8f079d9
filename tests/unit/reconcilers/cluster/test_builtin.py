"""What these files do in a real proxy is in tests/dataplane."""

import itertools
import re

import pytest

from memop.reconcilers.cluster import builtin
from tests.unit.reconcilers.cluster.proxies import POLICIES, SHAPES, golden, pool, proxy

CASES = [
    (shape, read, write)
    for shape, (_, copies) in SHAPES.items()
    for read, write in (POLICIES if copies > 1 else POLICIES[:1])
]


def config(shape: str, **spec: str) -> str:
    return builtin.files(pool(*SHAPES[shape]), proxy(**spec))["config.lua"]


@pytest.mark.parametrize(("shape", "read", "write"), CASES)
def test_the_configuration_is_the_golden_one(shape: str, read: str, write: str) -> None:
    suffix = f"-{read}-{write}" if SHAPES[shape][1] > 1 else ""
    golden(f"builtin/{shape}{suffix}.lua", config(shape, readPolicy=read, writePolicy=write))


def test_the_library_is_the_golden_one() -> None:
    golden("builtin/memop.lua", builtin.files(pool(1, 1), proxy())["memop.lua"])


def test_policies_mean_nothing_to_a_single_copy() -> None:
    assert len({config("5x1", readPolicy=read, writePolicy=write) for read, write in POLICIES}) == 1


def test_every_two_policies_differ_with_several_copies() -> None:
    texts = [config("2x2", readPolicy=read, writePolicy=write) for read, write in POLICIES]
    assert all(one != other for one, other in itertools.combinations(texts, 2))


def test_places_follow_the_topology() -> None:
    text = builtin.files(pool(12, 2), proxy())["config.lua"]
    servers = re.findall(r'"cache-r(\d+)-(\d+)\.shop\.svc\.cluster\.local\.:11211"', text)
    assert servers == [(str(copy), str(shard)) for copy in range(2) for shard in range(12)]


def test_the_sum_covers_library_and_configuration() -> None:
    """FNV-1a's own test vector, and the parts of which the library takes the sum."""
    assert builtin._sum("foobar") == 0xBF9CF968
    files = builtin.files(pool(5, 1), proxy())
    first, rest = files["config.lua"].split("\n", 1)
    assert first == f"-- {builtin._sum(files['memop.lua'] + rest)}"


def test_the_version_changes_with_the_configuration() -> None:
    versions = {builtin.version(builtin.files(pool(shards, 1), proxy())) for shards in (1, 2, 3)}
    assert len(versions) == 3
    assert all(version.isdecimal() for version in versions)


def test_the_library_is_plain_text_that_a_configmap_keeps() -> None:
    library = builtin.files(pool(1, 1), proxy())["memop.lua"]
    assert library.isascii()
    assert library.endswith("\n")
    assert not re.search(r"[\t\r]| \n", library)

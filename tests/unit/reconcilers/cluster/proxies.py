"""Topologies and proxies for the tests of the three configurations."""

import os
from pathlib import Path
from typing import Any

from memop.api.memcached_cluster import Proxy
from memop.reconcilers.cluster.topology import Topology

GOLDEN = Path(__file__).parent / "golden"
REWRITE = "MEMOP_REWRITE_GOLDEN"

READ_POLICIES = ("failover", "random", "latest")
WRITE_POLICIES = ("fastest", "all")
# Shape → number of shards and of copies.
SHAPES = {"5x1": (5, 1), "1x3": (1, 3), "2x2": (2, 2)}
POLICIES = [(read, write) for read in READ_POLICIES for write in WRITE_POLICIES]


def pool(shards: int, copies: int) -> Topology:
    def host(copy: int, shard: int) -> str:
        return f"cache-r{copy}-{shard}.shop.svc.cluster.local"

    return Topology(
        copies=tuple(tuple(host(copy, shard) for shard in range(shards)) for copy in range(copies)), port=11211
    )


def proxy(**spec: Any) -> Proxy:
    return Proxy.model_validate(spec)


def golden(name: str, text: str) -> None:
    """Compare `text` with the golden file of that name, whole; with $MEMOP_REWRITE_GOLDEN write it."""
    path = GOLDEN / name
    if os.environ.get(REWRITE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text

"""The table of `bad_clusters.yaml`: `bad_objects` of the second kind."""

from pathlib import Path
from typing import Any

import yaml

from tests.unit.webhooks.bad_objects import Bad


class BadCluster(Bad):
    """Name and spec of a `MemcachedCluster`, and every error of it, in order."""

    @property
    def manifest(self) -> dict[str, Any]:
        return {**super().manifest, "apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "MemcachedCluster"}


def _read(number: int, row: dict[str, Any]) -> BadCluster:
    apiserver = row["errors"] if row.get("apiserver") == "same" else row.get("apiserver")
    return BadCluster(row.get("name", f"bad-{number}"), row["spec"], row["errors"], apiserver)


_TABLE = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
BAD_CLUSTERS = [_read(number, row) for number, row in enumerate(yaml.safe_load(_TABLE))]

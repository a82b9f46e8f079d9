"""The table of what is refused, for unit tests and for tests against a real API server."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Bad(NamedTuple):
    """An object's name and spec, and every error of it, in order.

    `apiserver` is what an API server says of it where the CRD's schema or CEL refuses it, before it asks a webhook.
    """

    name: str
    spec: dict[str, Any]
    errors: list[str]
    apiserver: list[str] | None

    @property
    def manifest(self) -> dict[str, Any]:
        return {
            "apiVersion": "memcached.c5c3.io/v1beta1",
            "kind": "Memcached",
            "metadata": {"name": self.name},
            "spec": self.spec,
        }


def _read(number: int, row: dict[str, Any]) -> Bad:
    apiserver = row["errors"] if row.get("apiserver") == "same" else row.get("apiserver")
    return Bad(row.get("name", f"bad-{number}"), row["spec"], row["errors"], apiserver)


_TABLE = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
BAD = [_read(number, row) for number, row in enumerate(yaml.safe_load(_TABLE))]

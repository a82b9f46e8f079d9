"""`Memcached`s for tests: as builders take them, and as the API server would send them."""

from typing import Any

import msgspec

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE, DEFAULT_IMAGE, MemcachedSpec
from memop.reconcilers.memcached.instance import Instance, own_replicas
from memop.refs import Key

KEY = Key("default", "cache")


SELECTOR = {
    "app.kubernetes.io/name": "memcached",
    "app.kubernetes.io/instance": "cache",
    "app.kubernetes.io/managed-by": "memcached-operator",
}


def instance(spec: dict[str, Any] | None = None, **around: Any) -> Instance:
    parsed = MemcachedSpec.model_validate(spec or {})
    monitoring = parsed.enabled_monitoring
    fields: dict[str, Any] = {
        "key": KEY,
        "spec": parsed,
        "image": parsed.image or DEFAULT_IMAGE,
        "exporter_image": (monitoring and monitoring.exporter_image) or DEFAULT_EXPORTER_IMAGE,
        "replicas": own_replicas(parsed),
        **around,
    }
    return Instance(**fields)


def memcached(
    spec: dict[str, Any] | None = None,
    *,
    version: int = 1,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    managed_fields: list[dict[str, Any]] | None = None,
    **metadata: Any,
) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "memcached.c5c3.io/v1beta1",
            "kind": "Memcached",
            "metadata": {
                "namespace": KEY.namespace,
                "name": KEY.name,
                "uid": "cr-uid",
                "resourceVersion": str(version),
                "generation": generation,
                "annotations": annotations or {},
                "managedFields": managed_fields or [],
                **metadata,
            },
            "spec": spec or {},
            "status": status or {},
        }
    )

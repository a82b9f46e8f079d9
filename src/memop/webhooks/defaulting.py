"""Defaults that are stored with a `Memcached`, so that `kubectl get -o yaml` and `kubectl scale` see them.

Stored is what the API itself fixes for good: `replicas`, the settings that become memcached's arguments, and the fields
of blocks that the user opened (`highAvailability.antiAffinityPreset`, the delays of `gracefulShutdown`, the times of
`serviceMonitor`). A pool keeps these when a later version of memop has other defaults. Not stored:

* images: their default is a flag of the operator, and a mirror that moves must reach the pools that name none;
* lists and embedded Kubernetes types (`autoscaling.metrics`, `behavior`, resources, security contexts): who keeps
  `metrics: []` in Git would see a difference for ever, and derived memory must follow what it is derived from;
* `false`, and whole blocks other than `memcached`: their presence means something.

Nothing that was given is changed, with one exception: a `replicas: 1` that was stored by default goes when autoscaling
or `replicasFrom` is turned on. It counts as a default when the update leaves it as it is and no field manager owns it:
the API server credits no manager with what admission fills in. So goes, when autoscaling is turned on, a size that
only replica sync owns: it stands in nobody's manifest.
"""

from typing import Any

from memop.api.memcached import DEFAULT_REPLICAS, GracefulShutdown, HighAvailability, MemcachedConfig, ServiceMonitor

Json = Any

SYNC_MANAGER = "memop-sync"  # `reconcilers.sync` writes sizes by this name


def default(new: Json, old: Json = None) -> Json:
    """The object with its defaults; `old` is the stored one when `new` updates it. Odd shapes are left as they are."""
    if not isinstance(new, dict) or not isinstance(new.get("spec"), dict | None):
        return new
    spec = dict(new.get("spec") or {})
    if _sized_by_another(spec):
        if old is not None and _is_default(new, old):
            del spec["replicas"]
    elif spec.get("replicas") is None:
        spec["replicas"] = DEFAULT_REPLICAS
    fill(spec, "memcached", _CONFIG, always=True)
    fill(spec, "highAvailability", {"antiAffinityPreset": field_default(HighAvailability, "anti_affinity_preset")})
    fill_within(spec, "highAvailability", "gracefulShutdown", _GRACE)
    fill_within(spec, "monitoring", "serviceMonitor", _SCRAPE)
    return {**new, "spec": spec}


def field_default(model: type[Any], name: str) -> Json:
    return model.model_fields[name].default


_CONFIG = {
    "maxMemoryMB": field_default(MemcachedConfig, "max_memory_mb"),
    "maxConnections": field_default(MemcachedConfig, "max_connections"),
    "threads": field_default(MemcachedConfig, "threads"),
    "maxItemSize": field_default(MemcachedConfig, "max_item_size"),
    "verbosity": field_default(MemcachedConfig, "verbosity"),
}
_GRACE = {
    "preStopDelaySeconds": field_default(GracefulShutdown, "pre_stop_delay_seconds"),
    "terminationGracePeriodSeconds": field_default(GracefulShutdown, "termination_grace_period_seconds"),
}
_SCRAPE = {
    "interval": field_default(ServiceMonitor, "interval"),
    "scrapeTimeout": field_default(ServiceMonitor, "scrape_timeout"),
}


def fill(owner: dict[str, Json], name: str, defaults: dict[str, Json], *, always: bool = False) -> None:
    block = owner.get(name)
    if block is None and always:
        block = {}
    if isinstance(block, dict):
        missing = {field: value for field, value in defaults.items() if block.get(field) is None}
        owner[name] = {**block, **missing}


def fill_within(spec: dict[str, Json], outer: str, inner: str, defaults: dict[str, Json]) -> None:
    if isinstance(spec.get(outer), dict):
        spec[outer] = dict(spec[outer])
        fill(spec[outer], inner, defaults)


def _sized_by_another(spec: Json) -> bool:
    return spec.get("replicasFrom") is not None or _autoscaled(spec)


def _autoscaled(spec: Json) -> bool:
    autoscaling = spec.get("autoscaling")
    return isinstance(autoscaling, dict) and autoscaling.get("enabled") is True


def _is_default(new: Json, old: Json) -> bool:
    """Whether `replicas` is what memop itself filled in or followed, and another is to decide from now on."""
    before = (old.get("spec") if isinstance(old, dict) else None) or {}
    if not isinstance(before, dict) or new["spec"].get("replicas") != before.get("replicas"):
        return False
    managers = _managers(new)
    if managers == {SYNC_MANAGER}:
        return _autoscaled(new["spec"]) and not _autoscaled(before)
    return not managers and new["spec"].get("replicas") == DEFAULT_REPLICAS and not _sized_by_another(before)


def _managers(new: Json) -> set[str]:
    """The field managers on record for `spec.replicas`."""
    metadata = new.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    found = set()
    for entry in entries if isinstance(entries, list) else ():
        tree: Json = entry
        for step in ("fieldsV1", "f:spec", "f:replicas"):
            tree = tree.get(step) if isinstance(tree, dict) else None
        if tree is not None:
            found.add(str(entry.get("manager", "")))
    return found

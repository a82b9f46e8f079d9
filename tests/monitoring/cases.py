"""For every alert the series with which it fires, and some with which it only just does not.

Values are promtool's: `0+60x200` is 0, 60, 120 … , one a minute; x200 outlasts every test.
"""

from dataclasses import dataclass

DAY = 86400
LEASE = "d4f3c8a2.c5c3.io"
_NOT_MANY = " ".join(str(minute // 4) for minute in range(200))  # four in a quarter of an hour


@dataclass(frozen=True)
class Case:
    """`labels` and `value` are what the alert tells of, the value as it stands in the description."""

    alert: str
    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str]
    value: str = ""


def _of(service: str, pod: str = "0", **labels: str) -> str:
    """The labels of a pod's series."""
    target = {"namespace": "shop", "service": service, "pod": f"{service}-{pod}"}
    return "{" + ",".join(f'{name}="{value}"' for name, value in {**target, **labels}.items()) + "}"


def _memop(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in {"job": "memop", **labels}.items()) + "}"


def _cr(name: str, **labels: str) -> str:
    return (
        "{" + ",".join(f'{key}="{value}"' for key, value in {"namespace": "shop", "name": name, **labels}.items()) + "}"
    )


def _commands(service: str, command: str, **per_minute: int) -> dict[str, str]:
    return {
        f"memcached_commands_total{_of(service, command=command, status=status)}": f"0+{count}x200"
        for status, count in per_minute.items()
    }


def _waits(le: str) -> dict[str, str]:
    """Keys that waited longer than the bucket below `le` and less than `le`."""
    bounds = ("1.0", "10.0", "100.0", "+Inf")
    return {
        f"workqueue_queue_duration_seconds_bucket{_memop(name='memcached', controller='memcached', le=bound)}": (
            "0+60x200" if place >= bounds.index(le) else "0x200"
        )
        for place, bound in enumerate(bounds)
    }


def _reconciles(error: int, success: int) -> dict[str, str]:
    series = "controller_runtime_reconcile"
    return {
        f"{series}_errors_total{_memop(controller='memcached')}": f"0+{error}x200",
        f"{series}_total{_memop(controller='memcached', result='error')}": f"0+{error}x200",
        f"{series}_total{_memop(controller='memcached', result='success')}": f"0+{success}x200",
    }


def _requests(failed: int, fine: int) -> dict[str, str]:
    api = {"method": "GET", "host": "10.96.0.1"}
    return {
        f"rest_client_requests_total{_memop(code='503', **api)}": f"0+{failed}x200",
        f"rest_client_requests_total{_memop(code='200', **api)}": f"0+{fine}x200",
    }


def _reviews(failed: int, fine: int) -> dict[str, str]:
    series = "controller_runtime_webhook_requests_total"
    return {
        f"{series}{_memop(webhook='/validate', code='500')}": f"0+{failed}x200",
        f"{series}{_memop(webhook='/validate', code='200')}": f"0+{fine}x200",
    }


def _replicas(name: str, ready: int, desired: int) -> dict[str, str]:
    return {
        f"memcached_operator_instance_replicas_ready{_cr(name)}": f"{ready}x200",
        f"memcached_operator_instance_replicas_desired{_cr(name)}": f"{desired}x200",
    }


def _target(service: str, up: int) -> dict[str, str]:
    return {f"up{_of(service, instance='10.0.0.1:9150')}": f"{up}x200"}


def _info(name: str) -> dict[str, str]:
    return {f"memcached_operator_instance_info{_cr(name, image='memcached:1.6')}": "1x200"}


def _items(service: str, *counts: int) -> dict[str, str]:
    return {f"memcached_current_items{_of(service, str(pod))}": f"{count}x200" for pod, count in enumerate(counts)}


def _memory(service: str, given: int) -> dict[str, str]:
    """Of 64 MiB."""
    return {
        f"memcached_malloced_bytes{_of(service)}": f"{given << 20}x200",
        f"memcached_limit_bytes{_of(service)}": f"{64 << 20}x200",
    }


def _connections(service: str, count: int) -> dict[str, str]:
    return {
        f"memcached_current_connections{_of(service)}": f"{count}x200",
        f"memcached_max_connections{_of(service)}": "1000x200",
    }


def _turned_away(rejected: str, disabled: str) -> dict[str, str]:
    return {
        f"memcached_connections_rejected_total{_of('cache')}": rejected,
        f"memcached_connections_listener_disabled_total{_of('cache')}": disabled,
    }


def _proxy(lost: str) -> dict[str, str]:
    return {
        f"memcached_proxy_backend_marked_bad_total{_of('cache')}": lost,
        f"memcached_proxy_backend_total{_of('cache')}": "8x200",
    }


_POD = {"namespace": "shop", "service": "cache", "pod": "cache-0"}
_SERVICE = {"namespace": "shop", "service": "cache"}
_CR = {"namespace": "shop", "name": "cache"}
_CONTROLLER = {"controller": "memcached"}
_EXPIRY = f"memop_webhook_certificate_expiry_timestamp_seconds{_memop()}"
_LEADS = "leader_election_master_status"
_FAILURES = "memop_informer_failures_total"
_WATCH = {"resource": "services", "namespace": ""}
_PANICS = f"controller_runtime_reconcile_panics_total{_memop(**_CONTROLLER)}"
_LONGEST = f"workqueue_longest_running_processor_seconds{_memop(name='memcached', **_CONTROLLER)}"
_RECONCILES = "memcached_operator_reconcile_total"

CASES = (
    Case(
        "MemopDown",
        {f"up{_memop(pod='memop-0')}": "0x200", f"up{_memop(pod='memop-1')}": "0x200"},
        {f"up{_memop(pod='memop-0')}": "0x200", f"up{_memop(pod='memop-1')}": "1x200"},
        {},
    ),
    Case(
        "MemopNoLeader",
        {
            f"{_LEADS}{_memop(pod='memop-0', name=LEASE)}": "0x200",
            f"{_LEADS}{_memop(pod='memop-1', name=LEASE)}": "0x200",
        },
        {
            f"{_LEADS}{_memop(pod='memop-0', name=LEASE)}": "0x200",
            f"{_LEADS}{_memop(pod='memop-1', name=LEASE)}": "1x200",
        },
        {"name": LEASE},
    ),
    Case("MemopReconcileErrors", _reconciles(1, 4), _reconciles(1, 19), _CONTROLLER, "20%"),
    Case("MemopPanic", {_PANICS: "0x10 1x200"}, {_PANICS: "0x200"}, _CONTROLLER, "1"),
    Case("MemopQueueSlow", _waits("100.0"), _waits("10.0"), _CONTROLLER, "1m 39s"),
    Case("MemopReconcileStuck", {_LONGEST: "2100x200"}, {_LONGEST: "300x200"}, _CONTROLLER, "35m 0s"),
    Case(
        "MemopWatchFailing",
        {f"{_FAILURES}{_memop(**_WATCH, error='Forbidden')}": "0+1x200"},
        {
            f"{_FAILURES}{_memop(**_WATCH, error='NotFound')}": "0+1x200",
            f"{_FAILURES}{_memop(**_WATCH, error='Gone')}": "0+1x200",
            f"{_FAILURES}{_memop(**_WATCH, error='Unreachable')}": _NOT_MANY,
        },
        {"resource": "services", "error": "Forbidden"},
        "15",
    ),
    Case("MemopRequestErrors", _requests(10, 90), _requests(4, 96), {}, "10%"),
    Case("MemopWebhookErrors", _reviews(5, 95), _reviews(1, 199), {"webhook": "/validate"}, "5%"),
    Case(
        "MemopCertificateExpiring",
        {_EXPIRY: f"{6 * DAY + 90 * 60}x200"},  # tests begin in 1970, and look after 90 minutes
        {_EXPIRY: f"{8 * DAY}x200", _EXPIRY.replace("}", ',pod="memop-1"}'): "NaN " * 200},
        {},
        "6d 0h 0m 0s",
    ),
    Case(
        "MemcachedDown",
        {f"memcached_up{_of('cache')}": "0x200"},
        {f"memcached_up{_of('cache')}": "1 0 0 0 1 0 0 0 0 1x200"},
        _POD,
    ),
    Case(
        "MemcachedNotScraped",
        {**_target("cache", 0), **_info("cache")},
        {**_target("cache", 1), **_info("cache"), **_target("stranger", 0)},
        {**_POD, "instance": "10.0.0.1:9150"},
    ),
    Case(
        "MemcachedUnavailable",
        _replicas("cache", ready=0, desired=2),
        {**_replicas("cache", ready=1, desired=2), **_replicas("idle", ready=0, desired=0)},
        _CR,
    ),
    Case(
        "MemcachedReplicasMissing",
        _replicas("cache", ready=1, desired=3),
        {**_replicas("cache", ready=3, desired=3), **_replicas("shrinks", ready=3, desired=1)},
        _CR,
        "2",
    ),
    Case(
        "MemcachedNotReconciled",
        {
            f"{_RECONCILES}{_cr('cache', result='error')}": "0+1x200",
            f"{_RECONCILES}{_cr('cache', result='success')}": "4x200",
        },
        {
            f"{_RECONCILES}{_cr('cache', result='error')}": "0+3x200",
            f"{_RECONCILES}{_cr('cache', result='success')}": "0+1x200",
        },
        _CR,
        "30",
    ),
    Case(
        "MemcachedHitRatioLow",
        _commands("cache", "get", hit=600, miss=1400),
        {**_commands("cache", "get", hit=1100, miss=900), **_commands("idle", "get", hit=60, miss=140)},
        _SERVICE,
        "30%",
    ),
    Case(
        "MemcachedEvicting",
        {f"memcached_items_evicted_total{_of('cache')}": "0+1500x200", **_commands("cache", "set", hit=2000)},
        {
            f"memcached_items_evicted_total{_of('cache')}": "0+800x200",
            **_commands("cache", "set", hit=2000),
            f"memcached_items_evicted_total{_of('idle')}": "0+60x200",
            **_commands("idle", "set", hit=80),
        },
        _SERVICE,
        "75%",
    ),
    Case(
        "MemcachedMemoryFull",
        _memory("cache", 64),
        {**_memory("cache", 60), **_memory("proxy", 64), f"memcached_proxy_backend_total{_of('proxy')}": "8x200"},
        _POD,
        "100%",
    ),
    Case(
        "MemcachedOutOfMemory",
        {f"memcached_item_no_memory_total{_of('cache')}": "0+1x200"},
        {f"memcached_item_no_memory_total{_of('cache')}": "7x200"},
        _POD,
        "10",
    ),
    Case("MemcachedConnectionsNearLimit", _connections("cache", 900), _connections("cache", 800), _POD, "90%"),
    Case("MemcachedConnectionsRefused", _turned_away("0+1x200", "0+2x200"), _turned_away("9x200", "9x200"), _POD, "30"),
    Case(
        "MemcachedRingUnbalanced",
        _items("cache", 3000, 300, 300),
        {**_items("two", 2000, 0), **_items("small", 300, 30, 30), **_items("fair", 3000, 2000, 2500)},
        _SERVICE,
        "2.5",
    ),
    Case("MemcachedProxyLosesServers", _proxy("0+1x200"), _proxy("0x10 8x10 16x200"), _POD, "30"),
    Case(
        "MemcachedProxyConfigRefused",
        {f"memcached_proxy_config_reload_fails_total{_of('cache')}": "0+1x200"},
        {f"memcached_proxy_config_reload_fails_total{_of('cache')}": "2x200"},
        _POD,
        "10",
    ),
)

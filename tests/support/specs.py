"""Valid specs of a `Memcached`, drawn by a `random.Random`: every field, features on and off, lists of any order.

The pools that names and values come from are small, so that two specs often share a key with another value, and odd in
places: quantities that the server rewrites, texts that are no ASCII. A test calls `specs.spec` with a generator that
it has seeded itself and names the seed when it fails, or with hypothesis's own.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from memop.api.memcached import MAX_REPLICAS
from memop.webhooks.validation import validate

Json = dict[str, Any]
T = TypeVar("T")

KEYS = ("a", "b", "example.com/team", "sidecar.example.com/inject")
LABEL_VALUES = ("", "1", "blue", "Very-Long.label_value")
TEXTS = ("", "true", "x=y", "größer als 日本", "two\nlines", '{"json": [1]}', "$(HOME)")
NAMES = ("one", "two", "other-3")
CPUS = ("1", "1000m", "0.5", "500m", "1.5", "2", "100m", "0.001", "0", "100u", "0.0015", "1n", "1e-1")
MEMORIES = ("64Mi", "1Gi", "1024Mi", "1G", "1000M", "1e9", "128974848", "1.5Gi", "129M", "123456789k", "4Gi", "90Gi")
ARGUMENTS = (
    *(["-F"], ["-R", "200"], ["--disable-cas"], ["-b", "1024"], ["-o", "hash_algorithm=murmur3,no_lru_crawler"]),
    *(["-f1.5"], ["größer"], [""], ["$(HOME)", "$$"]),
)
METRICS: tuple[Json, ...] = (
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "0.5"}}},
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1024Mi"}}},
    {
        "type": "ContainerResource",
        "containerResource": {
            "container": "memcached",
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 70},
        },
    },
    {
        "type": "Pods",
        "pods": {"metric": {"name": "gets"}, "target": {"type": "AverageValue", "averageValue": "1000"}},
    },
    {
        "type": "Object",
        "object": {
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"},
            "metric": {"name": "hits"},
            "target": {"type": "Value", "value": "2000m"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "queue", "selector": {"matchLabels": {"queue": "q"}}},
            "target": {"type": "AverageValue", "averageValue": "30000m"},
        },
    },
)
POLICIES: tuple[Json, ...] = (
    {"type": "Pods", "value": 4, "periodSeconds": 60},
    {"type": "Percent", "value": 50, "periodSeconds": 15},
)
PEERS: tuple[Json, ...] = (
    {"podSelector": {}},
    {"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}},
    {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}},
    {"ipBlock": {"cidr": "10.0.0.0/8"}},
    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
)
CONSTRAINTS: tuple[Json, ...] = (
    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2},
    {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "memcached"}},
        "matchLabelKeys": ["pod-template-hash"],
        "nodeAffinityPolicy": "Ignore",
        "nodeTaintsPolicy": "Honor",
    },
    {"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
)
TOLERATIONS: tuple[Json, ...] = (
    {"operator": "Exists"},
    {"key": "cache", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "cache", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
    {"key": "spot", "operator": "Equal", "value": "", "effect": "PreferNoSchedule"},
)
PROFILES: tuple[Json, ...] = ({"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "cache.json"})


@dataclass(frozen=True)
class Wish:
    """A spec and what else an `Instance` is made of, as keyword arguments of `tests.unit…instances.instance`."""

    spec: Json
    around: Json = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return str(self.spec.get("podIdentity", "Ephemeral"))


def wish(rng: random.Random, identity: str = "Ephemeral") -> Wish:
    return _wished(rng, spec(rng, identity))


def variation(rng: random.Random, of: Wish) -> Wish:
    """What a user may make of a wish: some blocks as in another spec, some lists in another order."""
    for _ in range(20):
        other = spec(rng, of.identity)
        taken = {name for name in sorted(of.spec.keys() | other.keys()) if _coin(rng)}
        varied = {
            **{name: value for name, value in of.spec.items() if name not in taken},
            **{name: value for name, value in other.items() if name in taken},
        }
        varied = _shuffled(rng, varied)
        if not _errors(varied):
            return _wished(rng, varied)
    return wish(rng, of.identity)


def spec(rng: random.Random, identity: str = "Ephemeral") -> Json:
    """A spec that admission and the CRD take; `podIdentity` is immutable, and so given."""
    autoscaling = _autoscaling(rng) if _coin(rng) else None
    autoscaled = bool(autoscaling and autoscaling.get("enabled"))
    size = "autoscaling" if autoscaled else rng.choice(("none", "replicas", "replicas", "replicasFrom"))
    replicas = rng.choice((0, 1, 2, 3, 5, MAX_REPLICAS)) if size == "replicas" else None
    config = _config(rng)
    result = {
        **_some(
            rng,
            image=lambda: rng.choice(("memcached:1.6", "memcached:1.6.38", f"mirror:5000/m@sha256:{'0' * 64}")),
            memcached=lambda: config,
            highAvailability=lambda: _high_availability(rng, replicas if size in ("none", "replicas") else -1),
            monitoring=lambda: _monitoring(rng),
            security=lambda: _security(rng),
            service=lambda: _some(
                rng, annotations=lambda: _map(rng, TEXTS), publishNotReadyAddresses=lambda: _coin(rng)
            ),
            nodeSelector=lambda: _map(rng, LABEL_VALUES),
            tolerations=lambda: _list(rng, TOLERATIONS),
            priorityClassName=lambda: rng.choice(("", *NAMES)),
            imagePullSecrets=lambda: [{"name": name} for name in _list(rng, NAMES)],
            podLabels=lambda: _map(rng, LABEL_VALUES),
            podAnnotations=lambda: _map(rng, TEXTS),
        ),
        **({"podIdentity": identity} if identity != "Ephemeral" or _coin(rng) else {}),
        **({"autoscaling": autoscaling} if autoscaling is not None else {}),
        **({"replicas": replicas} if replicas is not None else {}),
        **({"replicasFrom": _replicas_from(rng)} if size == "replicasFrom" else {}),
    }
    if _coin(rng):
        result["resources"] = _resources(rng, result.get("memcached", {}).get("maxMemoryMB", 64))
    if autoscaled:
        _request_cpu(result)
    errors = _errors(result)
    assert not errors, (result, errors)
    return result


def _wished(rng: random.Random, spec: Json) -> Wish:
    around: Json = _some(
        rng,
        secret_hash=lambda: rng.choice(("0" * 16, "f" * 16)),
        restart_trigger=lambda: rng.choice(TEXTS),
        default_uid=lambda: _coin(rng),
        cluster_domain=lambda: rng.choice(("cluster.local", "example.org")),
    )
    if "replicasFrom" in spec:  # the reconciler looks the size up, and applies none where there is none to find
        around["replicas"] = rng.choice((None, 0, 1, 4))
    return Wish(spec, around)


def _errors(spec: Json) -> list[str]:
    return [str(error) for error in validate({"metadata": {"name": "cache"}, "spec": spec}).errors]


def _config(rng: random.Random) -> Json:
    config = _some(
        rng,
        maxMemoryMB=lambda: rng.choice((16, 64, 100, 1024, 65536)),
        maxConnections=lambda: rng.choice((1, 1024, 65536)),
        threads=lambda: rng.choice((1, 4, 128)),
        maxItemSize=lambda: rng.choice(("1k", "512k", "8m")),
        verbosity=lambda: rng.randint(0, 2),
        extraArgs=lambda: [part for arguments in _list(rng, ARGUMENTS) for part in arguments],
    )
    if config.get("maxMemoryMB") in (64, 1024) and _coin(rng):
        config["maxItemSize"] = f"{config['maxMemoryMB'] // 2}m"
    return config


def _resources(rng: random.Random, megabytes: int) -> Json:
    """Requests, limits or both, in the spellings that users have."""
    while True:
        resources = _some(
            rng,
            requests=lambda: _quantities(rng),
            limits=lambda: {**_quantities(rng), **_some(rng, **{"example.com/gpu": lambda: rng.choice("012")})},
        )
        if not _errors({"memcached": {"maxMemoryMB": megabytes}, "resources": resources}):
            return resources


def _quantities(rng: random.Random) -> Json:
    return _some(
        rng,
        cpu=lambda: rng.choice(CPUS),
        memory=lambda: rng.choice(MEMORIES),
        **{"ephemeral-storage": lambda: rng.choice(("1Gi", "1073741824"))},
    )


def _request_cpu(spec: Json) -> None:
    """The default metric is a share of the request."""
    resources = spec.setdefault("resources", {})
    if not any("cpu" in resources.get(block, {}) for block in ("requests", "limits")):
        resources["requests"] = {**resources.get("requests", {}), "cpu": "100m"}


def _high_availability(rng: random.Random, replicas: int | None) -> Json:
    """`replicas` is None for the default, negative where somebody else decides."""
    least = 1 if replicas is None else replicas
    available = (0, "50%", "0%", *((1,) if least > 1 else ()), *((3,) if least in (-1, 0, MAX_REPLICAS) else ()))

    def budget() -> Json:
        bound: Json = rng.choice(
            (
                {"minAvailable": rng.choice(available)},
                {"maxUnavailable": rng.choice((0, 1, 2, "25%", "100%"))},
            )
        )
        return {"enabled": True, **bound} if _coin(rng) else rng.choice(({}, {"enabled": False}, bound))

    def shutdown() -> Json:
        times: Json = rng.choice(
            (
                {},
                {"preStopDelaySeconds": 20},
                {"terminationGracePeriodSeconds": 600},
                {"preStopDelaySeconds": 300, "terminationGracePeriodSeconds": 301},
            )
        )
        return {"enabled": _coin(rng), **times}

    return _some(
        rng,
        antiAffinityPreset=lambda: rng.choice(("soft", "hard")),
        topologySpreadConstraints=lambda: _list(rng, CONSTRAINTS),
        podDisruptionBudget=budget,
        gracefulShutdown=shutdown,
    )


def _monitoring(rng: random.Random) -> Json:
    return {
        "enabled": rng.choice((True, True, False)),
        **_some(
            rng,
            exporterImage=lambda: f"mirror:5000/exporter:{rng.choice('12')}",
            exporterResources=lambda: _resources(rng, 16),
            serviceMonitor=lambda: _some(
                rng,
                additionalLabels=lambda: {
                    **_map(rng, LABEL_VALUES),
                    **_some(rng, **{"app.kubernetes.io/name": lambda: "mine"}),
                },
                interval=lambda: rng.choice(("", "30s", "1m30s")),
                scrapeTimeout=lambda: rng.choice(("", "10s", "5s")),
            ),
        ),
    }


def _security(rng: random.Random) -> Json:
    shared: dict[str, Callable[[], Any]] = {
        "runAsUser": lambda: rng.choice((1000, 11211, 65534)),
        "runAsGroup": lambda: rng.choice((0, 1000)),
        "runAsNonRoot": lambda: True,
        "seccompProfile": lambda: rng.choice(PROFILES),
        "seLinuxOptions": lambda: rng.choice(({"level": "s0:c1,c2"}, {"type": "container_t", "level": "s0"}, {})),
        "appArmorProfile": lambda: rng.choice(PROFILES),
    }

    def tls() -> Json:
        block = _some(rng, enableClientCert=lambda: _coin(rng), allowPlaintext=lambda: _coin(rng))
        block["enabled"] = rng.choice((True, True, False))
        issuer = {
            "name": rng.choice(NAMES),
            **_some(
                rng,
                kind=lambda: rng.choice(("Issuer", "ClusterIssuer")),
                group=lambda: rng.choice(("cert-manager.io", "example.com")),
            ),
        }
        sources: list[Json] = [{"certificateSecretRef": {"name": rng.choice(NAMES)}}, {"issuerRef": issuer}]
        return {**block, **rng.choice(sources if block["enabled"] else [*sources, {}])}

    def sasl() -> Json:
        return {"enabled": _coin(rng), "credentialsSecretRef": {"name": rng.choice(NAMES)}}

    return _some(
        rng,
        podSecurityContext=lambda: _some(
            rng,
            **shared,
            fsGroup=lambda: rng.choice((0, 1000)),
            fsGroupChangePolicy=lambda: rng.choice(("Always", "OnRootMismatch")),
            supplementalGroups=lambda: _list(rng, (1, 2, 3)),
            sysctls=lambda: [{"name": "net.ipv4.tcp_keepalive_time", "value": rng.choice(("60", "600"))}],
        ),
        containerSecurityContext=lambda: _some(
            rng,
            **shared,
            readOnlyRootFilesystem=lambda: _coin(rng),
            allowPrivilegeEscalation=lambda: False,
            privileged=lambda: False,
            procMount=lambda: "Default",
            capabilities=lambda: rng.choice(({}, {"drop": ["NET_RAW", "ALL"]}, {"add": []}, {"drop": []})),
        ),
        sasl=sasl,
        tls=tls,
        networkPolicy=lambda: _some(
            rng, enabled=lambda: rng.choice((True, True, False)), allowedSources=lambda: _list(rng, PEERS)
        ),
    )


def _autoscaling(rng: random.Random) -> Json:
    def rules() -> Json:
        return _some(
            rng,
            stabilizationWindowSeconds=lambda: rng.choice((0, 60)),
            selectPolicy=lambda: rng.choice(("Max", "Min", "Disabled")),
            policies=lambda: _list(rng, POLICIES, least=1),
        )

    return {
        "enabled": rng.choice((True, True, False)),
        "maxReplicas": rng.choice((5, 100)),
        **_some(
            rng,
            minReplicas=lambda: rng.choice((1, 2, 5)),
            metrics=lambda: _list(rng, METRICS),
            behavior=lambda: _some(rng, scaleUp=rules, scaleDown=rules),
        ),
    }


def _replicas_from(rng: random.Random) -> Json:
    return {
        "kind": rng.choice(("Deployment", "StatefulSet")),
        "name": rng.choice(NAMES),
        **_some(rng, min=lambda: rng.choice((0, 2)), max=lambda: rng.choice((2, MAX_REPLICAS))),
    }


def _coin(rng: random.Random) -> bool:
    return rng.choice((True, False))


def _some(rng: random.Random, **fields: Callable[[], Any]) -> Json:
    """Each of the fields, or not."""
    return {name: make() for name, make in fields.items() if _coin(rng)}


def _map(rng: random.Random, values: Sequence[str]) -> Json:
    return _some(rng, **dict.fromkeys(KEYS, lambda: rng.choice(values)))


def _list(rng: random.Random, items: Sequence[T], *, least: int = 0) -> list[T]:
    """Any of the items, each once, in any order."""
    return rng.sample(items, rng.randint(least, len(items)))


def _shuffled(rng: random.Random, value: Any) -> Any:
    """The same with its lists, arguments aside, in another order, one in two."""
    if isinstance(value, dict):
        return {name: below if name == "extraArgs" else _shuffled(rng, below) for name, below in value.items()}
    if isinstance(value, list):
        return rng.sample(value, len(value)) if _coin(rng) else value
    return value

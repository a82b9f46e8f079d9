"""The pods of a pool, and what makes them: a Deployment, or a StatefulSet where pods keep their names."""

from memop.api.memcached import RESERVED_POD_ANNOTATIONS, MemcachedSpec
from memop.reconcilers import pods
from memop.reconcilers.memcached import sasl, tls
from memop.reconcilers.memcached.instance import SECRET_HASH, Instance
from memop.reconcilers.memcached.labels import metadata, selector, workload_labels
from memop.reconcilers.memcached.memory import resources
from memop.reconcilers.memcached.monitoring import exporter
from memop.reconcilers.memcached.ports import memcached_ports
from memop.reconcilers.memcached.security import container_security_context, pod_security_context
from memop.reconcilers.objects import RESTART_TRIGGER, Json
from memop.reconcilers.pods import ISOLATION, anti_affinity, container_ports, each_once, placement
from memop.refs import STATEFUL_SETS

_PROBE: Json = {
    "tcpSocket": {"port": "memcached"},
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_DEPLOYMENT: Json = {
    "paused": False,
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
}


def workload(instance: Instance) -> Json:
    """`spec.replicas` is there only where it is memop's to set."""
    own = _stateful_set(instance) if instance.workload is STATEFUL_SETS else _DEPLOYMENT
    spec: Json = {"selector": {"matchLabels": selector(instance.key)}, "template": pod_template(instance), **own}
    if instance.replicas is not None:
        spec["replicas"] = instance.replicas
    return {
        "apiVersion": instance.workload.api_version,
        "kind": instance.workload.kind,
        "metadata": {**metadata(instance), "labels": workload_labels(instance)},
        "spec": spec,
    }


def _stateful_set(instance: Instance) -> Json:
    """Parallel: cache nodes do not wait for each other to start or stop; an update takes one after the other."""
    return {
        "serviceName": instance.key.name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    }


def secret_names(instance: Instance) -> list[str]:
    """The Secrets that the pods read, each once: the `secret_hash` is over these."""
    spec = instance.spec
    names = [
        *([sasl.secret_name(spec.enabled_sasl)] if spec.enabled_sasl else []),
        *([tls.secret_name(instance, spec.enabled_tls)] if spec.enabled_tls else []),
    ]
    return [name for name in dict.fromkeys(names) if name]


def pod_template(instance: Instance) -> Json:
    spec = instance.spec
    pod: Json = {
        **ISOLATION,
        "securityContext": pod_security_context(instance),
        "containers": [_memcached(instance)],
        **_spread(instance),
        **placement(spec),
    }
    if spec.enabled_monitoring is not None:
        pod["containers"].append(exporter(instance, spec.enabled_monitoring))
    volumes = [
        *([sasl.volume(spec.enabled_sasl)] if spec.enabled_sasl else []),
        *([tls.volume(instance, spec.enabled_tls)] if spec.enabled_tls else []),
    ]
    if volumes:
        pod["volumes"] = volumes
    if (shutdown := spec.enabled_graceful_shutdown) is not None:
        pod["terminationGracePeriodSeconds"] = shutdown.termination_grace_period_seconds
    return {"metadata": _pod_metadata(instance), "spec": pod}


def _pod_metadata(instance: Instance) -> Json:
    ours = {SECRET_HASH: instance.secret_hash, RESTART_TRIGGER: instance.restart_trigger}
    return pods.metadata(instance.spec, workload_labels(instance), ours, reserved=RESERVED_POD_ANNOTATIONS)


def _spread(instance: Instance) -> Json:
    """How pods keep away from each other."""
    high_availability = instance.spec.high_availability
    if high_availability is None:
        return {}
    term = anti_affinity(selector(instance.key), high_availability.anti_affinity_preset)
    result: Json = {"affinity": {"podAntiAffinity": term}}
    if constraints := high_availability.topology_spread_constraints:
        result["topologySpreadConstraints"] = each_once(constraints, "topologyKey", "whenUnsatisfiable")
    return result


def _memcached(instance: Instance) -> Json:
    spec = instance.spec
    container: Json = {
        "name": "memcached",
        "image": instance.image,
        "command": tls.command(spec.enabled_tls) if spec.enabled_tls else [],
        "args": arguments(spec),
        "ports": container_ports(memcached_ports(spec)),
        "livenessProbe": {**_PROBE, "initialDelaySeconds": 10, "periodSeconds": 10},
        "readinessProbe": {**_PROBE, "initialDelaySeconds": 5, "periodSeconds": 5},
        "resources": resources(spec),
        "securityContext": container_security_context(instance),
    }
    mounts = [*([sasl.mount()] if spec.enabled_sasl else []), *([tls.mount()] if spec.enabled_tls else [])]
    if mounts:
        container["volumeMounts"] = mounts
    if (shutdown := spec.enabled_graceful_shutdown) is not None:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(shutdown.pre_stop_delay_seconds)]}}}
    return container


def arguments(spec: MemcachedSpec) -> list[str]:
    """memcached's arguments, exactly these and in this order: existing users assert on them."""
    config = spec.memcached
    return [
        *("-m", str(config.max_memory_mb)),
        *("-c", str(config.max_connections)),
        *("-t", str(config.threads)),
        *("-I", config.max_item_size),
        *{0: [], 1: ["-v"], 2: ["-vv"]}[config.verbosity],
        *(sasl.arguments() if spec.enabled_sasl else []),
        *(tls.arguments(spec.enabled_tls) if spec.enabled_tls else []),
        *config.extra_args,
    ]

"""The Deployment of a pool."""

from typing import Literal

from memop.api.memcached import MemcachedConfig
from memop.reconcilers.memcached.instance import RESTART_TRIGGER, Instance
from memop.reconcilers.memcached.labels import selector, workload_labels
from memop.reconcilers.objects import INSTANCE_LABEL, NAME_LABEL, Json

CLIENT_PORT = 11211
# The official image's user has a name, and runAsNonRoot needs a number to believe it.
MEMCACHED_UID = 11211

_POD_SECURITY: Json = {
    "runAsNonRoot": True,
    "runAsUser": MEMCACHED_UID,
    "runAsGroup": MEMCACHED_UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# What the pod says already is said again, and what is the default anyway: only what is applied can be put back.
_CONTAINER_SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"add": [], "drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": MEMCACHED_UID,
    "runAsGroup": MEMCACHED_UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_PROBE: Json = {
    "tcpSocket": {"port": "memcached"},
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}


def deployment(instance: Instance) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": instance.key.name,
            "namespace": instance.key.namespace,
            "labels": workload_labels(instance),
        },
        "spec": {
            "replicas": instance.replicas,
            "paused": False,
            "selector": {"matchLabels": selector(instance.key)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": _pod_template(instance),
        },
    }


def arguments(config: MemcachedConfig) -> list[str]:
    """memcached's arguments, exactly these and in this order: existing users assert on them."""
    return [
        *("-m", str(config.max_memory_mb)),
        *("-c", str(config.max_connections)),
        *("-t", str(config.threads)),
        *("-I", config.max_item_size),
        *{0: [], 1: ["-v"], 2: ["-vv"]}[config.verbosity],
        *config.extra_args,
    ]


def _pod_template(instance: Instance) -> Json:
    spec = instance.spec
    annotations = dict(spec.pod_annotations)
    if instance.restart_trigger is not None:
        annotations[RESTART_TRIGGER] = instance.restart_trigger
    pod: Json = {
        "automountServiceAccountToken": False,
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "securityContext": _POD_SECURITY,
        "containers": [_memcached(instance)],
    }
    high_availability = spec.high_availability
    if high_availability is not None:
        pod["affinity"] = {"podAntiAffinity": _anti_affinity(instance, high_availability.anti_affinity_preset)}
        if high_availability.topology_spread_constraints:
            pod["topologySpreadConstraints"] = high_availability.topology_spread_constraints
    if (shutdown := spec.enabled_graceful_shutdown) is not None:
        pod["terminationGracePeriodSeconds"] = shutdown.termination_grace_period_seconds
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        pod["tolerations"] = spec.tolerations
    if spec.priority_class_name:
        pod["priorityClassName"] = spec.priority_class_name
    secrets = dict.fromkeys(secret["name"] for secret in spec.image_pull_secrets if secret.get("name"))
    if secrets:  # the list merges by name, so that none may stand twice
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]
    metadata: Json = {"labels": {**spec.pod_labels, **workload_labels(instance)}}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": pod}


def _anti_affinity(instance: Instance, preset: Literal["soft", "hard"]) -> Json:
    labels = selector(instance.key)
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {name: labels[name] for name in (NAME_LABEL, INSTANCE_LABEL)}},
    }
    if preset == "hard":
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def _memcached(instance: Instance) -> Json:
    container: Json = {
        "name": "memcached",
        "image": instance.image,
        "command": [],
        "args": arguments(instance.spec.memcached),
        "ports": [{"name": "memcached", "containerPort": CLIENT_PORT, "protocol": "TCP"}],
        "livenessProbe": {**_PROBE, "initialDelaySeconds": 10, "periodSeconds": 10},
        "readinessProbe": {**_PROBE, "initialDelaySeconds": 5, "periodSeconds": 5},
        "securityContext": _CONTAINER_SECURITY,
    }
    if instance.spec.resources:
        container["resources"] = instance.spec.resources
    if (shutdown := instance.spec.enabled_graceful_shutdown) is not None:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(shutdown.pre_stop_delay_seconds)]}}}
    return container

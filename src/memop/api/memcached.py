"""`Memcached`: one pool of memcached pods. Versions v1alpha1 and v1beta1 have the same schema.

Attributes hold what the user gave or the default that always applies. `None` means "not given" where the default
depends on something else: another field, a flag of the operator, or what Kubernetes itself would choose.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from memop.api.base import (
    ATOMIC_MAP,
    Column,
    HorizontalPodAutoscalerBehavior,
    IntOrString,
    Kind,
    LocalObjectReference,
    MetricSpec,
    Model,
    NetworkPolicyPeer,
    PodSecurityContext,
    ResourceRequirements,
    Rule,
    Scale,
    SecurityContext,
    Toleration,
    TopologySpreadConstraint,
    rules,
)
from memop.api.conditions import Condition

GROUP = "memcached.c5c3.io"

DEFAULT_IMAGE = "memcached:1.6"
DEFAULT_EXPORTER_IMAGE = "prom/memcached-exporter:v0.15.4"
DEFAULT_REPLICAS = 1
MAX_REPLICAS = 64

# A name becomes a Service's (DNS-1035 label, 63). A StatefulSet's name must also fit, with "-" and a ten-character
# revision hash after it, into the label controller-revision-hash of its pods.
MAX_NAME_LENGTH = 63
MAX_STABLE_NAME_LENGTH = 52

# Keys of pod metadata that memop or the workload controllers set; `podLabels` and `podAnnotations` cannot.
RESERVED_POD_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
)
RESERVED_POD_ANNOTATIONS = (f"{GROUP}/restart-trigger", f"{GROUP}/secret-hash")

# Prometheus's own duration format; the empty string counts as absent there.
_DURATION = r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
_ITEM_SIZE_KIB = (
    "(int(self.maxItemSize.substring(0, size(self.maxItemSize) - 1)) * (self.maxItemSize.endsWith('m') ? 1024 : 1))"
)


def without_keys(keys: Sequence[str]) -> Rule:
    """Refuse these keys of a map.

    One look-up a key: the API server holds a rule that goes through the keys of a map to be too costly, since a schema
    cannot bound their length.
    """
    return Rule(
        " && ".join(f"!('{key}' in self)" for key in keys),
        f"may not have keys that the operator or Kubernetes sets: remove {', '.join(keys)}",
        reason="FieldValueForbidden",
    )


PodLabelValue = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]


class MemcachedConfig(Model):
    """Settings of the memcached process."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"!has(self.maxItemSize) || ({_ITEM_SIZE_KIB} >= 1 && {_ITEM_SIZE_KIB} <= 1048576)",
                "memcached takes item sizes from 1k to 1024m: choose one in between",
                ".maxItemSize",
            ),
            Rule(
                f"!has(self.maxItemSize) || 2 * {_ITEM_SIZE_KIB} <= self.?maxMemoryMB.orValue(64) * 1024",
                "more than half of maxMemoryMB (64 when absent), with which memcached does not start: "
                "lower maxItemSize or raise maxMemoryMB",
                ".maxItemSize",
            ),
        )
    )

    max_memory_mb: int = Field(
        default=64,
        alias="maxMemoryMB",
        description="Memory for items in MiB (-m), 16 to 65536. Default: 64.",
        ge=16,
        le=65536,
    )
    max_connections: int = Field(
        default=1024, description="Simultaneous connections (-c), 1 to 65536. Default: 1024.", ge=1, le=65536
    )
    threads: int = Field(default=4, description="Worker threads (-t), 1 to 128. Default: 4.", ge=1, le=128)
    max_item_size: str = Field(
        default="1m",
        description="Largest item (-I) with unit k or m, 1k to 1024m and at most half of maxMemoryMB. Default: 1m.",
        max_length=8,
        pattern=r"^[0-9]+(k|m)$",
    )
    verbosity: int = Field(default=0, description="0 logs errors, 1 adds -v, 2 adds -vv. Default: 0.", ge=0, le=2)
    extra_args: list[str] = Field(
        default_factory=list,
        description="Further arguments, appended last; flags that memop sets are refused. Default: none.",
    )


class PodDisruptionBudget(Model):
    """How many pods a voluntary disruption such as a node drain may take away."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.?enabled.orValue(false) || has(self.minAvailable) || has(self.maxUnavailable)",
                "an enabled PodDisruptionBudget needs a bound: set minAvailable or maxUnavailable",
                ".minAvailable",
                reason="FieldValueRequired",
            ),
            Rule(
                "!self.?enabled.orValue(false) || !has(self.minAvailable) || !has(self.maxUnavailable)",
                "minAvailable and maxUnavailable exclude each other: remove one of them",
                ".maxUnavailable",
                reason="FieldValueForbidden",
            ),
        )
    )

    enabled: bool = Field(default=False, description="Make a PodDisruptionBudget. Default: false.")
    min_available: IntOrString | None = Field(
        default=None,
        description="Pods that must stay, a number below replicas or a percentage. Excludes maxUnavailable. "
        "Default: none; 1 for objects that were stored with neither of the two.",
        json_schema_extra={"pattern": "^(100|[0-9]{1,2})%$", "minimum": 0},
    )
    max_unavailable: IntOrString | None = Field(
        default=None,
        description="Pods that may be away at once, a number or a percentage. Excludes minAvailable. Default: none.",
        json_schema_extra={"pattern": "^(100|[0-9]{1,2})%$", "minimum": 0},
    )


class GracefulShutdown(Model):
    """Time for clients to leave before a pod stops."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.?enabled.orValue(false)"
                " || self.?terminationGracePeriodSeconds.orValue(30) > self.?preStopDelaySeconds.orValue(10)",
                "must be greater than preStopDelaySeconds (30 and 10 when absent), or memcached is killed before it "
                "can stop: raise terminationGracePeriodSeconds or lower preStopDelaySeconds",
                ".terminationGracePeriodSeconds",
            ),
        )
    )

    enabled: bool = Field(default=False, description="Delay the stop of a pod by a preStop hook. Default: false.")
    pre_stop_delay_seconds: int = Field(
        default=10, description="Seconds between unready and stop, 1 to 300. Default: 10.", ge=1, le=300
    )
    termination_grace_period_seconds: int = Field(
        default=30,
        description="Seconds until the pod is killed, 1 to 600, the delay included. Default: 30.",
        ge=1,
        le=600,
        json_schema_extra={"format": "int64"},
    )


class HighAvailability(Model):
    """How pods are spread, and how gently they go."""

    anti_affinity_preset: Literal["soft", "hard"] = Field(
        default="soft",
        description="Keep pods on different nodes: soft prefers it, hard demands it. "
        "Default: soft when highAvailability is given, else no anti-affinity.",
    )
    topology_spread_constraints: list[TopologySpreadConstraint] = Field(
        default_factory=list, description="Copied to the pods. Default: none."
    )
    pod_disruption_budget: PodDisruptionBudget | None = Field(
        default=None, description="Limit voluntary disruptions. Default: no PodDisruptionBudget."
    )
    graceful_shutdown: GracefulShutdown | None = Field(
        default=None, description="Delay the stop of a pod. Default: no delay."
    )


class ServiceMonitor(Model):
    """The ServiceMonitor for the Prometheus operator."""

    additional_labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels for Prometheus to select by; memop's own labels win. Default: none.",
    )
    interval: str = Field(default="30s", description="Time between scrapes. Default: 30s.", pattern=_DURATION)
    scrape_timeout: str = Field(default="10s", description="Time a scrape may take. Default: 10s.", pattern=_DURATION)


class Monitoring(Model):
    """Metrics for Prometheus."""

    enabled: bool = Field(
        default=False, description="Add the exporter sidecar and port metrics (9150). Default: false."
    )
    exporter_image: str | None = Field(
        default=None,
        description=f"Image of the exporter. Default: {DEFAULT_EXPORTER_IMAGE}, or what the operator's flag says.",
    )
    exporter_resources: ResourceRequirements | None = Field(
        default=None, description="Resources of the exporter container. Default: none."
    )
    service_monitor: ServiceMonitor | None = Field(
        default=None, description="Make a ServiceMonitor, even when this block is empty. Default: no ServiceMonitor."
    )


class SecretReference(Model):
    """A Secret in the same namespace."""

    model_config = ConfigDict(json_schema_extra=ATOMIC_MAP)

    # Go clients write `name: ""` or an empty block for a reference that is not set, so the name cannot be required.
    name: str = Field(default="", description='Name of the Secret. Default: "", which is no Secret.', max_length=253)


class Sasl(Model):
    """SASL authentication of clients."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.?enabled.orValue(false) || self.?credentialsSecretRef.?name.orValue('') != ''",
                "SASL needs credentials: set name to a Secret with the key password-file, or enabled to false",
                ".credentialsSecretRef.name",
                reason="FieldValueRequired",
            ),
        )
    )

    enabled: bool = Field(default=False, description="Demand SASL authentication. Default: false.")
    credentials_secret_ref: SecretReference | None = Field(
        default=None, description="Secret with the key password-file. Required when enabled. Default: none."
    )


class IssuerRef(Model):
    """A cert-manager issuer."""

    name: str = Field(description="Name of the issuer. Required.", min_length=1, max_length=253)
    kind: str = Field(default="Issuer", description="Issuer, ClusterIssuer or an external kind. Default: Issuer.")
    group: str = Field(default="cert-manager.io", description="API group of the kind. Default: cert-manager.io.")


class Tls(Model):
    """Encryption of client connections."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.?enabled.orValue(false)"
                " || self.?certificateSecretRef.?name.orValue('') != '' || has(self.issuerRef)",
                "TLS needs a certificate: set name to a Secret with tls.crt and tls.key, or give issuerRef, "
                "or set enabled to false",
                ".certificateSecretRef.name",
                reason="FieldValueRequired",
            ),
            Rule(
                "!has(self.issuerRef) || self.?certificateSecretRef.?name.orValue('') == ''",
                "certificateSecretRef and issuerRef exclude each other: remove one of them",
                ".issuerRef",
                reason="FieldValueForbidden",
            ),
            # An explicit `enabled: false` keeps the block for later; an issuer with nothing said would leave the
            # user in the belief that traffic is encrypted.
            Rule(
                "!has(self.issuerRef) || has(self.enabled)",
                "issuerRef alone does not turn TLS on: set enabled to true, or to false to keep issuerRef for later",
                ".enabled",
                reason="FieldValueRequired",
            ),
        )
    )

    enabled: bool = Field(default=False, description="Listen with TLS on 11211 and 11212. Default: false.")
    certificate_secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret with tls.crt and tls.key, and ca.crt for client certificates. Excludes issuerRef. "
        "Default: none.",
    )
    enable_client_cert: bool = Field(
        default=False, description="Refuse clients without a certificate signed by ca.crt. Default: false."
    )
    allow_plaintext: bool = Field(
        default=False, description="Listen in plain text on 11211, with TLS on 11212 alone. Default: false."
    )
    issuer_ref: IssuerRef | None = Field(
        default=None,
        description="Issuer of a cert-manager Certificate that memop makes with the right DNS names. "
        "Excludes certificateSecretRef. Default: none.",
    )


class NetworkPolicy(Model):
    """Who may connect."""

    enabled: bool = Field(default=False, description="Make a NetworkPolicy for the pods' ports. Default: false.")
    allowed_sources: list[NetworkPolicyPeer] = Field(
        default_factory=list, description="Peers that may connect. Default: none, which admits everyone."
    )


class Security(Model):
    """Security contexts, authentication, encryption and network access."""

    pod_security_context: PodSecurityContext | None = Field(
        default=None, description="Fields given here win over the restricted profile. Default: the restricted profile."
    )
    container_security_context: SecurityContext | None = Field(
        default=None, description="Fields given here win over the restricted profile. Default: the restricted profile."
    )
    sasl: Sasl | None = Field(default=None, description="SASL authentication of clients. Default: none.")
    tls: Tls | None = Field(default=None, description="Encryption of client connections. Default: none.")
    network_policy: NetworkPolicy | None = Field(default=None, description="Who may connect. Default: everyone.")


class Autoscaling(Model):
    """The HorizontalPodAutoscaler."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.?enabled.orValue(false) || has(self.maxReplicas)",
                "autoscaling needs an upper limit: set maxReplicas, or enabled to false",
                ".maxReplicas",
                reason="FieldValueRequired",
            ),
            Rule(
                "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "must not be greater than maxReplicas: lower minReplicas or raise maxReplicas",
                ".minReplicas",
            ),
        )
    )

    enabled: bool = Field(
        default=False, description="Let a HorizontalPodAutoscaler decide the number of pods. Default: false."
    )
    min_replicas: int | None = Field(default=None, description="Fewest pods. Default: 1, the autoscaler's own.", ge=1)
    max_replicas: int | None = Field(default=None, description="Most pods. Required when enabled. Default: none.", ge=1)
    metrics: list[MetricSpec] = Field(
        default_factory=list, description="What to scale by. Default: CPU at 80 % of the request."
    )
    behavior: HorizontalPodAutoscalerBehavior | None = Field(
        default=None, description="How fast to scale. Default: scaleDown with a stabilization window of 300 seconds."
    )


class ServiceSpec(Model):
    """The headless Service."""

    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations of the Service; one removed here is removed there. Default: none.",
    )
    publish_not_ready_addresses: bool = Field(
        default=False, description="Give DNS names to pods that are not ready, too. Default: false."
    )


class ReplicasFrom(Model):
    """A workload in the same namespace whose `spec.replicas` the pool follows."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"self.?min.orValue(0) <= self.?max.orValue({MAX_REPLICAS})",
                "must not be greater than max: lower min or raise max",
                ".min",
            ),
        )
    )

    kind: Literal["Deployment", "StatefulSet"] = Field(description="Deployment or StatefulSet. Required.")
    name: str = Field(description="Name of the workload. Required.", min_length=1, max_length=253)
    min: int = Field(default=0, description="Fewest pods, 0 to 64. Default: 0.", ge=0, le=MAX_REPLICAS)
    max: int = Field(default=MAX_REPLICAS, description="Most pods, 0 to 64. Default: 64.", ge=0, le=MAX_REPLICAS)


class PodSettings(Model):
    """What pods of any workload may be given."""

    node_selector: dict[str, str] = Field(
        default_factory=dict,
        description="Labels of the nodes that pods may run on. Default: any node.",
        json_schema_extra=ATOMIC_MAP,
    )
    tolerations: list[Toleration] = Field(default_factory=list, description="Taints that pods tolerate. Default: none.")
    priority_class_name: str | None = Field(
        default=None, description="Priority class of the pods. Default: the cluster's.", max_length=253
    )
    image_pull_secrets: list[LocalObjectReference] = Field(
        default_factory=list, description="Secrets for pulling the images. Default: none."
    )
    pod_labels: dict[str, PodLabelValue] = Field(
        default_factory=dict,
        description="Further labels of the pods; keys that memop uses are refused. Default: none.",
        json_schema_extra=rules(without_keys(RESERVED_POD_LABELS)),
    )
    pod_annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Further annotations of the pods; keys that memop uses are refused. Default: none.",
        json_schema_extra=rules(without_keys(RESERVED_POD_ANNOTATIONS)),
    )


class PoolSpec(PodSettings):
    """Memcached pods and what is around them, whoever decides on their number and names."""

    image: str | None = Field(
        default=None, description=f"Image of memcached. Default: {DEFAULT_IMAGE}, or what the operator's flag says."
    )
    resources: ResourceRequirements | None = Field(
        default=None,
        description="Resources of the memcached container. "
        "Default: memory derived from maxMemoryMB, maxConnections and threads.",
    )
    memcached: MemcachedConfig = Field(
        # A factory: pydantic would copy a default that is a model, deeply, for every CR.
        default_factory=MemcachedConfig,
        description="Settings of the memcached process. Default: its fields' defaults.",
    )
    high_availability: HighAvailability | None = Field(
        default=None, description="How pods are spread, and how gently they go. Default: none."
    )
    monitoring: Monitoring | None = Field(default=None, description="Metrics for Prometheus. Default: none.")
    security: Security | None = Field(
        default=None,
        description="Security contexts, authentication, encryption and network access. "
        "Default: the restricted profile, plain text, everyone.",
    )
    service: ServiceSpec = Field(
        default=ServiceSpec(), description="The headless Service. Default: its fields' defaults."
    )

    @property
    def enabled_pod_disruption_budget(self) -> PodDisruptionBudget | None:
        """The block when it is given and enabled; the same for the properties below."""
        block = self.high_availability and self.high_availability.pod_disruption_budget
        return block if block and block.enabled else None

    @property
    def enabled_graceful_shutdown(self) -> GracefulShutdown | None:
        block = self.high_availability and self.high_availability.graceful_shutdown
        return block if block and block.enabled else None

    @property
    def enabled_monitoring(self) -> Monitoring | None:
        return self.monitoring if self.monitoring and self.monitoring.enabled else None

    @property
    def enabled_sasl(self) -> Sasl | None:
        block = self.security and self.security.sasl
        return block if block and block.enabled else None

    @property
    def enabled_tls(self) -> Tls | None:
        block = self.security and self.security.tls
        return block if block and block.enabled else None

    @property
    def enabled_network_policy(self) -> NetworkPolicy | None:
        block = self.security and self.security.network_policy
        return block if block and block.enabled else None


class MemcachedSpec(PoolSpec):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.replicas) || !self.?autoscaling.?enabled.orValue(false)",
                "the autoscaler decides the number of pods: remove replicas, or set autoscaling.enabled to false",
                ".replicas",
                reason="FieldValueForbidden",
            ),
            Rule(
                "!has(self.replicas) || !has(self.replicasFrom)",
                "replicasFrom decides the number of pods: remove replicas or replicasFrom",
                ".replicas",
                reason="FieldValueForbidden",
                refuses="creation",  # later memop itself writes the size there
            ),
            Rule(
                "!has(self.replicasFrom) || !self.?autoscaling.?enabled.orValue(false)",
                "the autoscaler decides the number of pods: remove replicasFrom, or set autoscaling.enabled to false",
                ".replicasFrom",
                reason="FieldValueForbidden",
            ),
            # Zero replicas are excepted: scaling to nothing must work.
            Rule(
                "!self.?highAvailability.?podDisruptionBudget.?enabled.orValue(false)"
                " || self.?autoscaling.?enabled.orValue(false) || has(self.replicasFrom)"
                " || type(self.?highAvailability.?podDisruptionBudget.?minAvailable.orValue('')) != int"
                f" || self.?replicas.orValue({DEFAULT_REPLICAS}) == 0"
                " || int(self.highAvailability.podDisruptionBudget.minAvailable)"
                f" < self.?replicas.orValue({DEFAULT_REPLICAS})",
                "must be less than replicas (1 when absent), or no node can ever be drained: "
                "lower minAvailable or raise replicas",
                ".highAvailability.podDisruptionBudget.minAvailable",
            ),
        )
    )

    replicas: int | None = Field(
        default=None,
        description="Number of pods, 0 to 64. Default: 1, unless autoscaling is enabled or replicasFrom is given.",
        ge=0,
        le=MAX_REPLICAS,
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="A HorizontalPodAutoscaler. Excludes replicas and replicasFrom. Default: none."
    )
    pod_identity: Literal["Ephemeral", "Stable"] = Field(
        default="Ephemeral",
        description="Ephemeral pods come from a Deployment; Stable ones from a StatefulSet and keep their DNS names. "
        "Immutable. Default: Ephemeral.",
    )
    replicas_from: ReplicasFrom | None = Field(
        default=None,
        description="Follow the size of another workload. Excludes replicas and autoscaling. Default: none.",
    )

    @property
    def enabled_autoscaling(self) -> Autoscaling | None:
        return self.autoscaling if self.autoscaling and self.autoscaling.enabled else None


class MemcachedStatus(Model):
    """What memop saw."""

    conditions: list[Condition] = Field(
        default_factory=list,
        description="Available, Progressing, Degraded and Ready; MonitoringReady and ReplicasSynced where they apply. "
        "Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    ready_replicas: int = Field(default=0, description="Pods that are ready. Default: 0.", ge=0)
    replicas: int = Field(default=0, description="Pods that exist. Default: 0.", ge=0)
    selector: str = Field(default="", description='Label selector of the pods, as a string. Default: "".')
    observed_generation: int = Field(
        default=0,
        description="The metadata.generation the status speaks of. Default: 0.",
        ge=0,
        json_schema_extra={"format": "int64"},
    )
    server_list: list[str] = Field(
        default_factory=list, description="Addresses for clients, host:port, while Ready. Default: none."
    )


MEMCACHED = Kind(
    group=GROUP,
    kind="Memcached",
    plural="memcacheds",
    short_names=("mc",),
    versions=("v1alpha1", "v1beta1"),
    description="A pool of memcached pods behind a headless Service.",
    spec=MemcachedSpec,
    status=MemcachedStatus,
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
    columns=(
        Column("Replicas", "integer", ".spec.replicas", "Number of pods wanted"),
        Column("Ready", "integer", ".status.readyReplicas", "Number of pods ready"),
        Column("Available", "string", '.status.conditions[?(@.type=="Available")].status', "Whether any pod serves"),
        Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
    ),
    # On the root, not on spec: the name is seen only here, and spec may come or go as a whole.
    rules=(
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
            f" && size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            f"the Service is named after it, so it must be a DNS-1035 label of at most {MAX_NAME_LENGTH} characters: "
            "lower-case letters, digits and '-', a letter first, no '-' last",
            ".metadata.name",
            refuses="creation",
        ),
        Rule(
            "self.?spec.?podIdentity.orValue('Ephemeral') != 'Stable'"
            f" || size(self.metadata.name) <= {MAX_STABLE_NAME_LENGTH}",
            f"at most {MAX_STABLE_NAME_LENGTH} characters with podIdentity Stable, since pod names and revisions "
            "append to it: choose a shorter name or podIdentity Ephemeral",
            ".metadata.name",
            refuses="creation",
        ),
        Rule(
            "(self.?spec.?podIdentity.orValue('Ephemeral') == 'Stable')"
            " == (oldSelf.?spec.?podIdentity.orValue('Ephemeral') == 'Stable')",
            "is immutable (Ephemeral when absent): make a new Memcached under another name",
            ".spec.podIdentity",
            refuses="transition",
        ),
    ),
)

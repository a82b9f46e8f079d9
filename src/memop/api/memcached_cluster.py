"""`MemcachedCluster`: shards of memcached pods, each in one or more copies, behind a proxy with one Service.

Copy j is a Stable `Memcached` called `<cluster>-r<j>`, whose pod i is shard i. As in `memcached`, `None` means "not
given" where the default is a flag of the operator.
"""

from typing import Literal

from pydantic import ConfigDict, Field

from memop.api.base import (
    Column,
    Kind,
    Model,
    PodSecurityContext,
    ResourceRequirements,
    Rule,
    Scale,
    SecurityContext,
    rules,
)
from memop.api.conditions import Condition
from memop.api.memcached import (
    GROUP,
    MAX_REPLICAS,
    MAX_STABLE_NAME_LENGTH,
    RESERVED_POD_ANNOTATIONS,
    PodSettings,
    PoolSpec,
    without_keys,
)

DEFAULT_SHARDS = 5
DEFAULT_COPIES = 1
MAX_SHARDS = MAX_REPLICAS
MAX_COPIES = 8

# Official images below 1.6.38 are built without the proxy.
DEFAULT_BUILTIN_IMAGE = "memcached:1.6.38"
DEFAULT_MCROUTER_IMAGE = "ghcr.io/dragoangel/mcrouter:v2026.06.29.00"

# `<cluster>-r<j>` is the name of a Stable Memcached, j one digit.
MAX_CLUSTER_NAME_LENGTH = MAX_STABLE_NAME_LENGTH - len("-r7")

# As for a pool's pods, and what rolls the proxy's.
RESERVED_PROXY_ANNOTATIONS = (*RESERVED_POD_ANNOTATIONS, f"{GROUP}/config-hash")

ProxyKind = Literal["builtin", "twemproxy", "mcrouter"]
ReadPolicy = Literal["failover", "random", "latest"]
WritePolicy = Literal["fastest", "all"]
TwemproxyHash = Literal[
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
]
TwemproxyDistribution = Literal["ketama", "modula", "random"]


class Builtin(Model):
    """memcached's own proxy, which memcached has from 1.6.38 on."""

    image: str | None = Field(
        default=None,
        description=f"Image of a memcached built with its proxy. Default: {DEFAULT_BUILTIN_IMAGE}, "
        "or what the operator's flag says.",
    )


class Twemproxy(Model):
    """twemproxy (nutcracker). It speaks plain text to the pool and knows one copy of every shard."""

    image: str | None = Field(
        default=None,
        description="Image of twemproxy, of which none is maintained publicly. Default: what the operator's flag says; "
        "required where it says nothing.",
    )
    hash: TwemproxyHash = Field(
        default="fnv1a_64", description="Hash of the keys. Another one moves nearly all keys. Default: fnv1a_64."
    )
    distribution: TwemproxyDistribution = Field(
        default="ketama",
        description="How hashes become shards. Another one moves nearly all keys. Default: ketama.",
    )
    server_failure_limit: int = Field(
        default=1, description="Failures in a row until a server leaves the ring for a time. Default: 1.", ge=1
    )
    server_retry_timeout: int = Field(
        default=2000, description="Milliseconds until such a server is tried again. Default: 2000.", ge=1
    )


class Mcrouter(Model):
    """mcrouter."""

    image: str | None = Field(
        default=None,
        description=f"Image of mcrouter. Default: {DEFAULT_MCROUTER_IMAGE}, or what the operator's flag says.",
    )
    debug_fifo_root: str = Field(
        default="",
        description="Directory, as an absolute path, for FIFOs with what mcrouter reads and writes. "
        'Default: "", no FIFOs.',
        max_length=255,
        pattern=r"^((/[A-Za-z0-9_][A-Za-z0-9_.-]*)+/?)?$",
    )


class ProxyService(Model):
    """The cluster's one Service."""

    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations of the Service; one removed here is removed there. Default: none.",
    )


class ProxySecurity(Model):
    """Security contexts of the proxy's pods."""

    pod_security_context: PodSecurityContext | None = Field(
        default=None, description="Fields given here win over the restricted profile. Default: the restricted profile."
    )
    container_security_context: SecurityContext | None = Field(
        default=None, description="Fields given here win over the restricted profile. Default: the restricted profile."
    )


class Proxy(PodSettings):
    """The proxies, each of which knows the whole pool."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(has(self.builtin) ? 1 : 0) + (has(self.twemproxy) ? 1 : 0) + (has(self.mcrouter) ? 1 : 0) <= 1",
                "builtin, twemproxy and mcrouter exclude each other: keep one of them, or none for builtin",
                reason="FieldValueForbidden",
            ),
        )
    )

    replicas: int = Field(default=2, description="Number of proxy pods, 0 to 64. Default: 2.", ge=0, le=MAX_REPLICAS)
    port: int = Field(default=11211, description="Port of the Service, 1 to 65535. Default: 11211.", ge=1, le=65535)
    builtin: Builtin | None = Field(
        default=None, description="memcached's own proxy. Default: in use when no other proxy is given."
    )
    twemproxy: Twemproxy | None = Field(
        default=None, description="twemproxy, for replicasPerShard 1 without TLS. Default: not in use."
    )
    mcrouter: Mcrouter | None = Field(default=None, description="mcrouter. Default: not in use.")
    read_policy: ReadPolicy = Field(
        default="failover",
        description="With several copies: failover asks any copy, and the next one on an error or a miss; random asks "
        "any copy; latest always the same one, and the next one on an error. Default: failover.",
    )
    write_policy: WritePolicy = Field(
        default="fastest",
        description="With several copies, all of which are written: fastest answers with the first good reply; "
        "all fails when any copy does. Default: fastest.",
    )
    resources: ResourceRequirements | None = Field(
        default=None, description="Resources of the proxy container. Default: what the operator holds to be enough."
    )
    security: ProxySecurity | None = Field(
        default=None, description="Security contexts. Default: the restricted profile."
    )
    service: ProxyService = Field(
        default=ProxyService(), description="The cluster's one Service. Default: its fields' defaults."
    )
    pod_annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Further annotations of the pods; keys that memop uses are refused. Default: none.",
        json_schema_extra=rules(without_keys(RESERVED_PROXY_ANNOTATIONS)),
    )

    @property
    def kind(self) -> ProxyKind:
        """Which of the three is in use."""
        if self.twemproxy is not None:
            return "twemproxy"
        return "builtin" if self.mcrouter is None else "mcrouter"


class MemcachedClusterSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"!self.?proxy.?twemproxy.hasValue() || self.?replicasPerShard.orValue({DEFAULT_COPIES}) <= 1",
                "twemproxy knows no copies: set replicasPerShard to 1, or choose proxy.builtin or proxy.mcrouter",
                ".replicasPerShard",
            ),
            Rule(
                "!self.?memcached.?security.?tls.?enabled.orValue(false) || self.?proxy.?mcrouter.hasValue()",
                "builtin and twemproxy speak plain text to the pool: choose proxy.mcrouter, or set enabled to false",
                ".memcached.security.tls.enabled",
                reason="FieldValueForbidden",
            ),
            Rule(
                "!self.?memcached.?security.?tls.?enabled.orValue(false) || !self.?proxy.?mcrouter.hasValue()"
                " || !self.?memcached.?security.?tls.?enableClientCert.orValue(false)",
                "mcrouter shows no certificate: set it to false",
                ".memcached.security.tls.enableClientCert",
                reason="FieldValueForbidden",
            ),
            Rule(
                "!self.?memcached.?security.?sasl.?enabled.orValue(false)",
                "no proxy can authenticate to the pool: set enabled to false, and say in security.networkPolicy who "
                "may connect",
                ".memcached.security.sasl.enabled",
                reason="FieldValueForbidden",
            ),
            Rule(
                "!self.?memcached.?highAvailability.?podDisruptionBudget.?enabled.orValue(false)"
                " || type(self.?memcached.?highAvailability.?podDisruptionBudget.?minAvailable.orValue('')) != int"
                " || int(self.memcached.highAvailability.podDisruptionBudget.minAvailable)"
                f" < self.?shards.orValue({DEFAULT_SHARDS})",
                f"must be less than shards ({DEFAULT_SHARDS} when absent), or no node can ever be drained: "
                "lower minAvailable or raise shards",
                ".memcached.highAvailability.podDisruptionBudget.minAvailable",
            ),
        )
    )

    shards: int = Field(
        default=DEFAULT_SHARDS,
        description="Servers that keys are hashed over, 1 to 64. Lowering it loses the last ones' keys. Default: 5.",
        ge=1,
        le=MAX_SHARDS,
    )
    replicas_per_shard: int = Field(
        default=DEFAULT_COPIES,
        description="Copies of every shard, 1 to 8. Each is a Memcached of its own. Default: 1.",
        ge=1,
        le=MAX_COPIES,
    )
    memcached: PoolSpec = Field(
        default_factory=PoolSpec,
        description="The memcached pods, in the fields of a Memcached's spec. Default: its fields' defaults.",
    )
    proxy: Proxy = Field(default_factory=Proxy, description="The proxy. Default: its fields' defaults.")


class MemcachedClusterStatus(Model):
    """What memop saw."""

    conditions: list[Condition] = Field(
        default_factory=list,
        description="Available, Progressing, Degraded and Ready; PoolReady and ProxyReady. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    endpoint: str = Field(default="", description='Address for clients, host:port of the Service. Default: "".')
    shards: int = Field(default=0, description="Shards that the proxies hash over. Default: 0.", ge=0)
    replicas_per_shard: int = Field(default=0, description="Copies that the proxies know. Default: 0.", ge=0)
    selector: str = Field(default="", description='Label selector of the pool\'s pods, as a string. Default: "".')
    config_hash: str = Field(default="", description='Hash of the configuration that the proxies have. Default: "".')
    observed_generation: int = Field(
        default=0,
        description="The metadata.generation the status speaks of. Default: 0.",
        ge=0,
        json_schema_extra={"format": "int64"},
    )


MEMCACHED_CLUSTER = Kind(
    group=GROUP,
    kind="MemcachedCluster",
    plural="memcachedclusters",
    short_names=("mcc",),
    versions=("v1alpha1",),
    description="Shards of memcached pods, each in one or more copies, behind a proxy with one Service.",
    spec=MemcachedClusterSpec,
    status=MemcachedClusterStatus,
    scale=Scale(".spec.shards", ".status.shards", ".status.selector"),
    columns=(
        Column("Shards", "integer", ".spec.shards", "Number of shards wanted"),
        Column("Copies", "integer", ".spec.replicasPerShard", "Copies of every shard wanted"),
        Column("Available", "string", '.status.conditions[?(@.type=="Available")].status', "Whether any proxy serves"),
        Column("Endpoint", "string", ".status.endpoint", "Address for clients"),
        Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
    ),
    rules=(
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
            f" && size(self.metadata.name) <= {MAX_CLUSTER_NAME_LENGTH}",
            "Services and pods are named after it, so it must be a DNS-1035 label of at most "
            f"{MAX_CLUSTER_NAME_LENGTH} characters: lower-case letters, digits and '-', a letter first, no '-' last",
            ".metadata.name",
            refuses="creation",
        ),
    ),
)

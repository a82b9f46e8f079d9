"""`Memshack` of example.memshack.com: the kind of github.com/nicksenger/memshack."""

from pydantic import ConfigDict, Field

from memop.api.base import Kind, Rule
from memop.api.foreign import COLUMNS, ForeignStatus, SnakeCaseBlock, name_rule, preserving
from memop.api.memcached import MAX_REPLICAS
from memop.api.memcached_cluster import MAX_COPIES, MAX_SHARDS

DEFAULT_MCROUTER_IMAGE = "mcrouter/mcrouter:latest"
DEFAULT_MEMCACHED_IMAGE = "memcached:1.6-alpine"

# The gateway Service is called so, after the Memshack's own name.
SUFFIX = "-memshack"

MEMCACHED_PORT = 11211


class MemshackSpec(SnakeCaseBlock):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=preserving(
            Rule(
                f"self.?mcrouter_port.orValue(5000) != {MEMCACHED_PORT}",
                f"{MEMCACHED_PORT} is memcached's own port: choose another, such as 5000",
                ".mcrouter_port",
            ),
        )
    )

    mcrouter_pool_size: int = Field(default=2, description="Gateway pods, 0 to 64. Default: 2.", ge=0, le=MAX_REPLICAS)
    num_shards: int = Field(
        default=3, description="Shards that keys are hashed over, 1 to 64. Default: 3.", ge=1, le=MAX_SHARDS
    )
    num_replicas: int = Field(default=2, description="Copies of every shard, 1 to 8. Default: 2.", ge=1, le=MAX_COPIES)
    memcached_image: str = Field(
        default=DEFAULT_MEMCACHED_IMAGE, description=f"Image of memcached. Default: {DEFAULT_MEMCACHED_IMAGE}."
    )
    mcrouter_image: str = Field(
        default=DEFAULT_MCROUTER_IMAGE, description=f"Image of mcrouter. Default: {DEFAULT_MCROUTER_IMAGE}."
    )
    mcrouter_port: int = Field(
        default=5000,
        description=f"Port of mcrouter and its Service, 1 to 65535 but {MEMCACHED_PORT}. Default: 5000.",
        ge=1,
        le=65535,
    )


class MemshackStatus(ForeignStatus):
    """What memop saw; `phase` and `message` are the other operator's."""

    phase: str = Field(default="", description='Running, or Error where the spec is not usable. Default: "".')
    message: str = Field(default="", description='The same for people. Default: "".')


MEMSHACK = Kind(
    group="example.memshack.com",
    kind="Memshack",
    plural="memshacks",
    versions=("v1",),
    description="Shards of memcached in copies behind a gateway; memop serves it by a MemcachedCluster.",
    spec=MemshackSpec,
    status=MemshackStatus,
    columns=COLUMNS,
    rules=(name_rule(SUFFIX),),
)

"""`Mcrouter` of mcrouter.example.com: the kind of github.com/geerlingguy/mcrouter-operator."""

from typing import Literal

from pydantic import ConfigDict, Field

from memop.api.base import Kind, Rule
from memop.api.foreign import COLUMNS, ForeignStatus, SnakeCaseBlock, name_rule, preserving
from memop.api.memcached_cluster import MAX_COPIES, MAX_SHARDS

DEFAULT_MCROUTER_IMAGE = "devan2502/mcrouter:latest"
DEFAULT_MEMCACHED_IMAGE = "memcached:1.5-alpine"


class McrouterSpec(SnakeCaseBlock):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=preserving(
            Rule(
                "self.?pool_setup.orValue('replicated') == 'sharded'"
                f" || self.?memcached_pool_size.orValue(2) <= {MAX_COPIES}",
                f"at most {MAX_COPIES} copies of each key: lower memcached_pool_size, or set pool_setup to sharded",
                ".memcached_pool_size",
            ),
        )
    )

    mcrouter_image: str = Field(
        default=DEFAULT_MCROUTER_IMAGE, description=f"Image of mcrouter. Default: {DEFAULT_MCROUTER_IMAGE}."
    )
    mcrouter_port: int = Field(
        default=5000, description="Port of mcrouter and its Service, 1 to 65535. Default: 5000.", ge=1, le=65535
    )
    memcached_image: str = Field(
        default=DEFAULT_MEMCACHED_IMAGE, description=f"Image of memcached. Default: {DEFAULT_MEMCACHED_IMAGE}."
    )
    memcached_pool_size: int = Field(
        default=2,
        description="memcached pods, 1 to 64, replicated ones to 8. Default: 2.",
        ge=1,
        le=MAX_SHARDS,
    )
    memcached_port: int = Field(
        default=11211,
        description="Port of memcached. It has no equivalent: memop's pods listen on 11211. Default: 11211.",
        ge=1,
        le=65535,
    )
    pool_setup: Literal["replicated", "sharded"] = Field(
        default="replicated",
        description="Whether each key is on all pods, or on one of them. Default: replicated.",
    )
    debug_fifo_root: str = Field(
        default="",
        description='Directory, as an absolute path, for mcpiper\'s FIFOs. Default: "", no FIFOs.',
        max_length=255,
        pattern=r"^((/[A-Za-z0-9_][A-Za-z0-9_.-]*)+/?)?$",
    )


class McrouterStatus(ForeignStatus):
    """What memop saw; the condition Running is the other operator's."""


MCROUTER = Kind(
    group="mcrouter.example.com",
    kind="Mcrouter",
    plural="mcrouters",
    versions=("v1alpha3",),
    description="Shards or copies of memcached behind mcrouter; memop serves it by a MemcachedCluster.",
    spec=McrouterSpec,
    status=McrouterStatus,
    columns=COLUMNS,
    rules=(name_rule(),),
)

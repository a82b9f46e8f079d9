"""What the models of other operators' kinds share. memop serves them as they are: see `memop.translate`.

Unknown fields of a spec are preserved, unlike in memop's own kinds, so that what has no equivalent can be told of.
Attributes hold what the user gave or the default that the other operator had.
"""

from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, Field

from memop.api.base import Column, Model, Rule, rules
from memop.api.conditions import Condition
from memop.api.memcached_cluster import MAX_CLUSTER_NAME_LENGTH

PRESERVE = "x-kubernetes-preserve-unknown-fields"


def preserving(*validations: Rule) -> Callable[[dict[str, Any]], None]:
    """Say in a block's JSON schema, in the words of a CRD, that it keeps what it does not know."""

    def extend(schema: dict[str, Any]) -> None:
        del schema["additionalProperties"]
        schema[PRESERVE] = True
        if validations:
            schema.update(rules(*validations))

    return extend


class ForeignBlock(Model):
    """A block of a foreign spec, camelCase on the wire; `model_extra` holds its unknown fields."""

    model_config = ConfigDict(extra="allow", validate_by_name=False, json_schema_extra=preserving())


class SnakeCaseBlock(ForeignBlock):
    """The same with its fields in snake_case on the wire, too."""

    model_config = ConfigDict(alias_generator=None)


class ForeignStatus(Model):
    """What memop tells of each of them, in camelCase."""

    conditions: list[Condition] = Field(
        default_factory=list,
        description="Available, Progressing, Degraded and Ready, as of the MemcachedCluster that serves it; "
        "Translated, False where a field has no equivalent. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    endpoint: str = Field(default="", description='Address for clients, host:port of the Service. Default: "".')
    observed_generation: int = Field(
        default=0,
        description="The metadata.generation the status speaks of. Default: 0.",
        ge=0,
        json_schema_extra={"format": "int64"},
    )


COLUMNS = (
    Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether all pods are ready"),
    Column("Endpoint", "string", ".status.endpoint", "Address for clients"),
    Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
)


def name_rule(suffix: str = "") -> Rule:
    """Refuse names that, with the suffix, no MemcachedCluster can have."""
    longest = MAX_CLUSTER_NAME_LENGTH - len(suffix)
    return Rule(
        f"self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= {longest}",
        f"Services and pods are named after it, so it must be a DNS-1035 label of at most {longest} characters: "
        "lower-case letters, digits and '-', a letter first, no '-' last",
        ".metadata.name",
        refuses="creation",
    )

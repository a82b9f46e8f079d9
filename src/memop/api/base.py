"""What the models of all kinds share: the base class, the markers that `schema` reads, the description of a kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, JsonValue
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

KUBERNETES_TYPE = "x-memop-kubernetes-type"
VALIDATIONS = "x-kubernetes-validations"

ATOMIC_MAP: dict[str, JsonValue] = {"x-kubernetes-map-type": "atomic"}


class Model(BaseModel):
    """A frozen block of an API object: snake_case in Python, camelCase on the wire, `model_dump()` gives the wire form.

    Unknown fields are ignored, so that an operator one version behind its CRD still reads the objects.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """Marks a value that is passed through as it is; in the CRD it has the schema of the named Kubernetes type."""

    type: str

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {KUBERNETES_TYPE: self.type}


IntOrString = Annotated[int | str, Kubernetes("io.k8s.apimachinery.pkg.util.intstr.IntOrString")]
ResourceRequirements = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.ResourceRequirements")]
TopologySpreadConstraint = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.TopologySpreadConstraint")]
PodSecurityContext = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.PodSecurityContext")]
SecurityContext = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.SecurityContext")]
Toleration = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.Toleration")]
LocalObjectReference = Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.LocalObjectReference")]
NetworkPolicyPeer = Annotated[dict[str, Any], Kubernetes("io.k8s.api.networking.v1.NetworkPolicyPeer")]
MetricSpec = Annotated[dict[str, Any], Kubernetes("io.k8s.api.autoscaling.v2.MetricSpec")]
HorizontalPodAutoscalerBehavior = Annotated[
    dict[str, Any], Kubernetes("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior")
]


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL validation of the block it stands on.

    `message` follows the field's path in the API server's error, so it says what is wrong and what to do, not where.
    `field_path` is relative to the block (".tls.issuerRef"), `reason` one of the four the API server knows.
    `refuses` says which writes: what is `worse`, so that an object that broke the rule before stays editable; a
    `creation` alone, for what cannot change later; or a `transition`, an update, whose rule names `oldSelf` itself.
    """

    rule: str
    message: str
    field_path: str = ""
    reason: str = "FieldValueInvalid"
    refuses: Literal["worse", "creation", "transition"] = "worse"

    def to_dict(self) -> dict[str, JsonValue]:
        """Return the entry of `x-kubernetes-validations`. `optionalOldSelf` needs Kubernetes 1.30."""
        entry: dict[str, JsonValue] = {"message": self.message, "reason": self.reason}
        match self.refuses:
            case "worse":
                entry["rule"] = f"({self.rule}) || oldSelf.optMap(self, !({self.rule})).orValue(false)"
                entry["optionalOldSelf"] = True
            case "creation":
                entry["rule"] = f"oldSelf.hasValue() || ({self.rule})"
                entry["optionalOldSelf"] = True
            case "transition":
                entry["rule"] = self.rule
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry


def rules(*validations: Rule) -> dict[str, JsonValue]:
    """Return the rules in the form that `json_schema_extra` takes, for a model's config and for a single field."""
    return {VALIDATIONS: [validation.to_dict() for validation in validations]}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    json_path: str
    description: str


@dataclass(frozen=True, slots=True)
class Scale:
    """The JSON paths behind the `scale` subresource."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind and everything its CRD says; all versions share one schema, the last one is stored."""

    group: str
    kind: str
    plural: str
    versions: Sequence[str]
    description: str
    spec: type[Model]
    status: type[Model]
    short_names: Sequence[str] = ()
    columns: Sequence[Column] = ()
    scale: Scale | None = None
    rules: Sequence[Rule] = ()

    @property
    def api_version(self) -> str:
        """The stored version, e.g. `memcached.c5c3.io/v1beta1`: the one memop reads and writes."""
        return f"{self.group}/{self.versions[-1]}"

    @property
    def crd_name(self) -> str:
        """The CustomResourceDefinition's name, e.g. `memcacheds.memcached.c5c3.io`."""
        return f"{self.plural}.{self.group}"

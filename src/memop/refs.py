"""How resources and objects are named: the API server's paths and the queue's keys."""

from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """An object's name within its kind; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server serves it; `group` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (all namespaces when `namespace` is empty), object or subresource."""
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """An object that an event is about, as `core/v1 ObjectReference` names it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""

    def encode(self) -> dict[str, str]:
        fields = {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
        }
        return {name: value for name, value in fields.items() if value}


CERTIFICATES = Resource("cert-manager.io", "v1", "Certificate", "certificates")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"
)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
EVENTS = Resource("events.k8s.io", "v1", "Event", "events")
HORIZONTAL_POD_AUTOSCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")
MEMCACHEDS = Resource("memcached.c5c3.io", "v1beta1", "Memcached", "memcacheds")
MEMCACHED_CLUSTERS = Resource("memcached.c5c3.io", "v1alpha1", "MemcachedCluster", "memcachedclusters")
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"
)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
PODS = Resource("", "v1", "Pod", "pods")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
SECRETS = Resource("", "v1", "Secret", "secrets")
SERVICE_MONITORS = Resource("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors")
SERVICES = Resource("", "v1", "Service", "services")
STATEFUL_SETS = Resource("apps", "v1", "StatefulSet", "statefulsets")
SUBJECT_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews")
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"
)

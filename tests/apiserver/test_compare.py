"""The compare against the server that it has to agree with: after one apply, whatever the spec, nothing differs."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memop.api.memcached import MemcachedSpec
from memop.client import Client
from memop.reconcilers.compare import Difference, FieldSet, difference
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.service import service
from memop.reconcilers.memcached.workload import deployment
from memop.reconcilers.objects import CONTROLLER, controlled, decoder
from memop.refs import DEPLOYMENTS, MEMCACHEDS, SERVICES, Key, Resource
from tests.support.kubectl import Kubectl

NOBODY = "00000000-0000-0000-0000-000000000000"
MANAGER = "memop-memcached"
RESOURCES = {"Deployment": DEPLOYMENTS, "Service": SERVICES}

names = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
label_values = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?)?", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
cpus = st.sampled_from(["1", "1000m", "0.5", "500m", "1.5", "2", "100m", "0.001", "0", "100u", "0.0015", "1n"])
memories = st.sampled_from(["64Mi", "1Gi", "1024Mi", "1G", "1000M", "1e9", "128974848", "1.5Gi", "129M", "123456789k"])
quantities = st.fixed_dictionaries({}, optional={"cpu": cpus, "memory": memories})
limits = st.fixed_dictionaries({}, optional={"cpu": cpus, "memory": memories, "example.com/x.y": st.sampled_from("01")})
tolerations = st.fixed_dictionaries(
    {"operator": st.just("Exists")},
    optional={"key": names, "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule"])},
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 64),
        "image": st.sampled_from(["memcached:1.6", "memcached:1.6.38", "mirror:5000/a/memcached@sha256:" + "0" * 64]),
        "resources": st.fixed_dictionaries({}, optional={"requests": quantities, "limits": st.just({})})
        | st.builds(lambda limits: {"limits": limits}, limits),
        "memcached": st.fixed_dictionaries(
            {},
            optional={
                "maxMemoryMB": st.integers(16, 65536),
                "maxConnections": st.integers(1, 65536),
                "threads": st.integers(1, 128),
                "maxItemSize": st.sampled_from(["1k", "8m", "512k"]),
                "verbosity": st.integers(0, 2),
                "extraArgs": st.lists(text, max_size=3),
            },
        ),
        "service": st.fixed_dictionaries(
            {},
            optional={
                "annotations": st.dictionaries(names, text, max_size=3),
                "publishNotReadyAddresses": st.booleans(),
            },
        ),
        "nodeSelector": st.dictionaries(names, label_values, max_size=3),
        "tolerations": st.lists(tolerations, max_size=3),
        "priorityClassName": names,
        "imagePullSecrets": st.lists(st.fixed_dictionaries({}, optional={"name": names | st.just("")}), max_size=4),
        "podLabels": st.dictionaries(names, label_values, max_size=3),
        "podAnnotations": st.dictionaries(names, text, max_size=3),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs, restart_trigger=st.none() | text)
async def test_after_one_apply_of_any_spec_nothing_differs(
    client: Client, kubectl: Kubectl, spec: dict[str, Any], restart_trigger: str | None
) -> None:
    """All examples change one pair of objects, so that each apply also has to drop what the spec before it had."""
    key = Key(kubectl.namespace, "cache")
    parsed = MemcachedSpec.model_validate(spec)
    instance = Instance(key, parsed, parsed.image or "memcached:1.6", restart_trigger)
    for body in (deployment(instance), service(instance)):
        resource: Resource = RESOURCES[body["kind"]]
        raw = await client.apply(resource, key, controlled(body, key, NOBODY, MEMCACHEDS), manager=MANAGER)
        compared = controlled(body, key, CONTROLLER, MEMCACHEDS)
        assert _difference(compared, raw) is None
        assert _difference(compared, await client.get(resource, key)) is None


def _difference(body: dict[str, Any], raw: bytes) -> Difference | None:
    live = decoder(MANAGER)(raw)
    return difference(body, live.fields(), FieldSet(msgspec.json.decode(live.owned)))

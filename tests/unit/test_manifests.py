"""What is shipped agrees with what memop is: flags, ports, probes, names, and no generated file is stale."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from hack.manifests import CHART, MANIFESTS, from_source, stale
from memop import __version__
from memop.server import STOP_TIMEOUT, Health, parse_address
from memop.settings import Settings, parse

Json = dict[str, Any]
VALUES = MANIFESTS / CHART / "values.yaml"


@pytest.fixture(scope="module")
def install() -> list[Json]:
    """manifests/default as it is shipped; tests/apiserver proves that it is what kubectl builds."""
    text = (MANIFESTS / "install.yaml").read_text(encoding="utf-8")
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def one(objects: list[Json], kind: str, name: str = "memop") -> Json:
    (found,) = (item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


@pytest.fixture(scope="module")
def pod(install: list[Json]) -> Json:
    """Its template."""
    template: Json = one(install, "Deployment")["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def container(pod: Json) -> Json:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def taken(args: list[str], environ: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """As memop reads its own arguments; argparse would take an abbreviation, too."""
    command, *flags = args
    assert command == "run"
    known = {f"--{field.name.replace('_', '-')}" for field in fields(Settings)}
    assert {flag.partition("=")[0] for flag in flags} <= known
    return parse(flags, environ)


@pytest.fixture(scope="module")
def settings(container: Json) -> Settings:
    assert "env" not in container
    return taken(container["args"])


def test_what_is_generated_from_the_source_is_current() -> None:
    assert stale(from_source()) == [], "run: python -m hack.manifests"


def test_memop_takes_its_arguments(settings: Settings, install: list[Json]) -> None:
    assert one(install, "Deployment")["spec"]["replicas"] > 1
    assert settings.leader_elect, "or two replicas would both act"
    assert settings.enable_webhooks
    assert settings.metrics_secure
    assert not settings.allow_privileged_pods
    assert settings.watch_namespaces == ()


def test_no_service_names_a_variable_that_memop_reads(pod: Json, install: list[Json]) -> None:
    """Kubernetes tells pods of each Service of their namespace: of `memop-webhook` by MEMOP_WEBHOOK_PORT, a URL."""
    services = [item["metadata"]["name"] for item in install if item["kind"] == "Service"]
    told = {f"{name}_{what}".upper().replace("-", "_") for name in services for what in ("port", "service_host")}
    assert told & {f"MEMOP_{field.name.upper()}" for field in fields(Settings)} == {"MEMOP_WEBHOOK_PORT"}
    assert pod["spec"]["enableServiceLinks"] is False


def test_ports_are_those_that_memop_listens_on(settings: Settings, container: Json) -> None:
    listens = {
        "webhook": settings.webhook_port,
        "metrics": (parse_address("", settings.metrics_bind_address) or ("", 0))[1],
        "health": (parse_address("", settings.health_probe_bind_address) or ("", 0))[1],
    }
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == listens


def test_services_lead_to_those_ports(install: list[Json], container: Json) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("metrics", "webhook"):
        (port,) = one(install, "Service", f"memop-{name}")["spec"]["ports"]
        assert port["name"] == name
        assert port["targetPort"] in (name, ports[name])


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe"])
def test_probes_ask_what_memop_answers(probe: str, container: Json) -> None:
    request = container[probe]["httpGet"]
    assert request["port"] == "health"
    told = Health(live={}, ready={}, info={})
    assert told.answer(request["path"].removeprefix("/"), "", verbose=False, exclude=frozenset()) == (200, "ok")


def test_the_grace_is_enough_for_all_that_memop_does_at_its_end(pod: Json, container: Json, settings: Settings) -> None:
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    release = settings.leader_election_renew_deadline / 2
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause + settings.shutdown_timeout + STOP_TIMEOUT + release


def test_admission_is_answered_all_through_a_rollout_and_a_drain(install: list[Json]) -> None:
    assert one(install, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert one(install, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_whoever_selects_memops_pods_selects_them_and_no_others(install: list[Json], pod: Json) -> None:
    selectors = [
        one(install, "Deployment")["spec"]["selector"]["matchLabels"],
        one(install, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in pod["spec"]["topologySpreadConstraints"]),
        *(item["spec"]["selector"] for item in install if item["kind"] == "Service"),
    ]
    assert len(selectors) == 5
    assert selectors == [pod["metadata"]["labels"]] * 5


def test_the_image_is_of_this_version(container: Json) -> None:
    assert container["image"] == f"docker.io/memop/memop:{__version__}"


def test_everything_is_labelled_as_memops_and_stands_in_its_namespace(install: list[Json]) -> None:
    for item in install:
        metadata = item["metadata"]
        if item["kind"] != "CustomResourceDefinition":
            assert metadata["labels"]["app.kubernetes.io/name"] == "memop", metadata
        assert metadata.get("namespace") in (None, "memop-system"), metadata


def test_admission_asks_memops_service_and_not_of_memop_itself(
    install: list[Json], settings: Settings, pod: Json
) -> None:
    account = one(install, "ServiceAccount", pod["spec"]["serviceAccountName"])["metadata"]
    memop = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    service = one(install, "Service", settings.webhook_name)
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in one(install, kind, settings.webhook_name)["webhooks"]:
            asked = webhook["clientConfig"]["service"]
            assert (asked["namespace"], asked["name"]) == (
                service["metadata"]["namespace"],
                service["metadata"]["name"],
            )
            assert service["spec"]["ports"][0]["port"] == asked.get("port", 443)
            excluded = [condition["expression"] for condition in webhook["matchConditions"]]
            assert f"request.userInfo.username != '{memop}'" in excluded


def test_pods_are_restricted_and_nothing_else_gets_the_token(install: list[Json], pod: Json, container: Json) -> None:
    namespace = one(install, "Namespace", "memop-system")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["runAsUser"] >= 1000
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [volume.keys() - {"name"} for volume in pod["spec"]["volumes"]] == [{"emptyDir"}]
    assert pod["spec"].keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC", "initContainers"})
    assert one(install, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["spec"]["automountServiceAccountToken"] is True


def test_secrets_have_a_place_in_memory_to_pass_through(pod: Json, container: Json) -> None:
    (volume,) = pod["spec"]["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]  # noqa: S108


def paths(values: Any, above: str = "") -> Iterator[str]:
    """Every key of values.yaml that holds a value."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from paths(value, f"{above}.{key}")
    else:
        yield above


def closed(schema: Json, definitions: Json, above: str = "") -> Iterator[str]:
    """Every path that the schema knows; an object that takes any key is one."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "properties" not in schema:
        yield above
        return
    assert schema["additionalProperties"] is False, f"{above}: a misspelt key would go unseen"
    for key, value in schema["properties"].items():
        yield from closed(value, definitions, f"{above}.{key}")


# Helm's own; and what of values.yaml is an example of an open object, or an empty one that the schema closes.
HELMS = {".global"}
OPEN = {
    ".affinity": {".affinity.nodeAffinity", ".affinity.podAffinity", ".affinity.podAntiAffinity"},
    ".webhooks.certManager.issuerRef": {f".webhooks.certManager.issuerRef.{key}" for key in ("group", "kind", "name")},
    ".resources.requests.cpu": {".resources.requests"},
    ".resources.requests.memory": {".resources.requests"},
    ".resources.limits.memory": {".resources.limits"},
}


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((MANIFESTS / CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = set(closed(schema, schema["definitions"])) - HELMS
    given = set(paths(yaml.safe_load(VALUES.read_text(encoding="utf-8"))))
    assert set().union(*(OPEN.get(path, {path}) for path in given)) == known


def test_every_value_is_used_and_every_one_used_exists() -> None:
    templates = [path.read_text(encoding="utf-8") for path in sorted(Path(MANIFESTS, CHART, "templates").iterdir())]
    used = set(re.findall(r"\.Values((?:\.\w+)+)", "\n".join(templates)))
    given = set(paths(yaml.safe_load(VALUES.read_text(encoding="utf-8"))))
    covers = {value: [path for path in given if f"{path}.".startswith(f"{value}.")] for value in used}
    assert {value for value, those in covers.items() if not those} == set()
    # Blocks that are taken as a whole (`with .Values.image`, `$metrics := .Values.metrics`) use what is in them.
    assert given - set().union(*covers.values()) == set()


def test_every_default_image_can_be_given() -> None:
    flags = {field.name for field in fields(Settings)}
    images = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["images"]
    snake = {re.sub(r"([A-Z])", r"_\1", key).lower() for key in images}
    assert {f"{key}_image" for key in snake} == {name for name in flags if name.endswith("_image")}

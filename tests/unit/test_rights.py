"""Every right has its use, and every use its right."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

import memop.app
from memop import rights
from memop.app import App
from memop.certificates import CertificateKeeper
from memop.client import Client
from memop.pem import Certificate
from memop.reconcilers.apply import Applier
from memop.refs import Resource
from memop.settings import Settings
from tests.unit.test_app import SlowServer
from tests.unit.virtual_time import VirtualClock

RBAC = Path(__file__).parents[2] / "manifests/rbac"
Json = dict[str, Any]

READ = {"get", "list", "watch"}
CHILD = READ | {"create", "patch", "delete"}
SERVED = {
    "memcacheds.memcached.c5c3.io": CHILD,
    "memcachedclusters.memcached.c5c3.io": CHILD,
    "memcachedclusters.ianlewis.org": READ,
    "mcrouters.mcrouter.example.com": READ,
    "memshacks.example.memshack.com": READ,
    "configmaps": CHILD,
    "deployments.apps": CHILD,
    "statefulsets.apps": CHILD,
    "services": CHILD,
    "poddisruptionbudgets.policy": CHILD,
    "networkpolicies.networking.k8s.io": CHILD,
    "horizontalpodautoscalers.autoscaling": CHILD,
    "servicemonitors.monitoring.coreos.com": CHILD,
    "certificates.cert-manager.io": CHILD,
    "secrets": {"get"},
    "events.events.k8s.io": {"create", "patch"},
}


def verbs(rules: Iterable[Json]) -> dict[str, set[str]]:
    """`plural.group/subresource` → verbs; no resource stands in two rules."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, slash, subresource = resource.partition("/")
                name = (f"{plural}.{group}" if group else plural) + slash + subresource
                assert name not in found
                found[name] = set(rule["verbs"])
    return found


class Recorded(Applier):
    """What the composition root gives its appliers."""

    made: list[tuple[Resource, Mapping[Resource, Any]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made.append((kwargs["resource"], kwargs["children"]))


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    Recorded.made = []
    monkeypatch.setattr(memop.app, "Applier", Recorded)
    settings = Settings(leader_elect=True, metrics_secure=False)
    client = cast("Client", SlowServer(0))
    return App(settings, client, namespace="memop-system", clock=VirtualClock(), registry=CollectorRegistry())


@pytest.mark.parametrize("file", rights.manifests())
def test_the_checked_in_manifest_is_up_to_date(file: str) -> None:
    hint = "run: python -m hack.manifests"
    assert (RBAC / file).read_text(encoding="utf-8") == rights.to_yaml(rights.manifests()[file]), hint


def test_no_manifest_is_left_that_nothing_makes() -> None:
    found = {str(path.relative_to(RBAC)) for path in RBAC.rglob("*") if path.is_file()}
    by_hand = {file for file in found if file.endswith("kustomization.yaml")} | {"service-account.yaml"}
    assert found == rights.manifests().keys() | by_hand


def test_in_what_it_serves_memop_may_do_this_and_nothing_else() -> None:
    owners = [name for name in SERVED if name.partition(".")[2] in {kind.group for kind in rights.OTHERS_KINDS}]
    owners += [str(kind) for kind in rights.OWN_KINDS]
    assert len(owners) == 5
    assert verbs(rights.served()) == (
        SERVED
        | {f"{name}/status": {"patch"} for name in owners}
        | {f"{name}/finalizers": {"update"} for name in owners}
    )


def test_every_cache_can_be_filled(app: App) -> None:
    allowed = verbs(rights.served())
    resources = {str(informer.resource) for informer in app._informers}
    assert len(resources) >= 13
    assert {name for name in resources if not allowed[name] >= {"list", "watch"}} == set()


def test_every_child_can_be_written_and_every_owner_told(app: App) -> None:
    allowed = verbs(rights.served())
    assert len(Recorded.made) == 5
    for owner, children in Recorded.made:
        assert allowed[str(owner)] >= {"get"}
        assert (allowed[f"{owner}/status"], allowed[f"{owner}/finalizers"]) == ({"patch"}, {"update"})
        for child in children:
            assert allowed[str(child)] >= {"get", "create", "patch", "delete"}
    assert {str(child) for _, children in Recorded.made for child in children} == {
        name for name, those in verbs(rights.served()).items() if {"create", "get"} <= those
    }


def test_what_can_be_limited_to_a_name_is() -> None:
    limited = [*rights.lease(), *rights.webhook_secret(), *rights.webhook_configurations()]
    assert [rule for rule in limited if "resourceNames" not in rule and rule["verbs"] != ["create"]] == []
    assert {name for rule in limited for name in rule.get("resourceNames", ())} == {
        *("d4f3c8a2.c5c3.io", "memop-webhook-cert", "memop-webhook")
    }


def test_the_names_are_those_that_memop_asks_for(app: App) -> None:
    keeper = CertificateKeeper(
        cast("Client", SlowServer(0)),
        name=Settings().webhook_name,
        namespace="memop-system",
        serve=lambda _certificate: None,
        clock=VirtualClock(),
        make=never,
    )
    assert rights.webhook_secret()[1]["resourceNames"] == [keeper._secret.name]
    assert rights.webhook_configurations()[0]["resourceNames"] == [keeper._configurations.name]
    assert app._elector is not None
    assert rights.lease()[1]["resourceNames"] == [app._elector._key.name]


async def never(*_: Any) -> Certificate:
    raise AssertionError("not asked for")


def test_no_rule_has_a_wildcard_and_none_reaches_pods_nodes_or_rbac() -> None:
    for file, objects in rights.manifests().items():
        for rule in (rule for item in objects for rule in item.get("rules", ())):
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            assert {"escalate", "bind", "impersonate"}.isdisjoint(rule["verbs"])
            if file != "cluster/users.yaml":
                assert {"pods", "nodes", "serviceaccounts/token", "roles"}.isdisjoint(rule["resources"])
            if "secrets" in rule["resources"]:
                assert "list" not in rule["verbs"]
                assert "watch" not in rule["verbs"]


def test_what_is_bound_is_bound_to_memops_service_account_alone() -> None:
    subjects = [item["subjects"] for objects in rights.manifests().values() for item in objects if "subjects" in item]
    assert len(subjects) == 6
    assert all(one == [{"kind": "ServiceAccount", "name": "memop", "namespace": "memop-system"}] for one in subjects)


def test_viewers_change_nothing_and_editors_leave_the_status_to_memop() -> None:
    viewer, editor = verbs(rights.viewer()), verbs(rights.editor())
    assert viewer.keys() == editor.keys()
    assert set().union(*viewer.values()) == READ
    assert all(editor[name] >= viewer[name] for name in viewer)
    assert {name for name in editor if name.endswith("/status") and editor[name] != {"get"}} == set()
    assert editor["memcacheds.memcached.c5c3.io/scale"] == {"get", "patch", "update"}


def test_users_roles_become_part_of_kubernetes_own() -> None:
    aggregated = {
        item["metadata"]["name"]: {
            label.removeprefix("rbac.authorization.k8s.io/aggregate-to-")
            for label in item["metadata"]["labels"]
            if label.startswith("rbac")
        }
        for file in ("cluster/users.yaml", "compat/users.yaml")
        for item in rights.manifests()[file]
    }
    assert aggregated == {
        "memop-edit": {"admin", "edit"},
        "memop-view": {"admin", "edit", "view"},
        "memop-status": set(),
        "memop-compat-edit": {"admin", "edit"},
        "memop-compat-view": {"admin", "edit", "view"},
    }

import re
from typing import Any

import pytest

from memop.reconcilers.cluster import builtin, mcrouter, topology, twemproxy
from memop.reconcilers.cluster.topology import Topology, absolute
from tests.unit.reconcilers.cluster.proxies import proxy

MODULES: dict[str, Any] = {"builtin": builtin, "twemproxy": twemproxy, "mcrouter": mcrouter}


@pytest.mark.parametrize(
    "host",
    [
        'a"b',
        "a b",
        "a\nb",
        "a\n",
        "a:1",
        "a]]",
        "a\\",
        "a'",
        "a{",
        "a,b",
        "",
        "-a",
        "a.",
        ".a",
        "ä",
    ],
)
def test_a_host_that_means_something_else_in_a_configuration_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"is no host name"):
        Topology(copies=(("fine",), (host,)), port=11211)


@pytest.mark.parametrize("copies", [(), ((),), ((), ())])
def test_a_pool_of_nothing_is_refused(copies: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"at least one copy and one shard"):
        Topology(copies=copies, port=11211)


def test_copies_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every copy has every shard"):
        Topology(copies=(("a", "b"), ("c",)), port=11211)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("a.b.svc.cluster.local", "a.b.svc.cluster.local."), ("127.0.0.1", "127.0.0.1")],
)
def test_names_are_absolute_and_addresses_stay(host: str, expected: str) -> None:
    assert absolute(host) == expected


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_the_container_is_what_the_pod_and_the_service_count_on(module: Any) -> None:
    built = module.container(proxy(), "mirror:5000/image:1")
    assert (built["name"], built["image"]) == ("proxy", "mirror:5000/image:1")
    assert built["ports"] == [{"name": "proxy", "containerPort": 11211, "protocol": "TCP"}]
    assert {"securityContext", "resources"}.isdisjoint(built)
    assert {"name": "config", "mountPath": "/etc/proxy", "readOnly": True} in built["volumeMounts"]
    assert all("subPath" not in mount for mount in built["volumeMounts"]), "a subPath never sees a change"
    mounted = {mount["name"] for mount in built["volumeMounts"]} - {"config"}
    assert mounted == {volume["name"] for volume in module.volumes(proxy())}


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_probes_and_drain_need_no_program_in_the_image(module: Any) -> None:
    built = module.container(proxy(), "image")
    for probe in (built["livenessProbe"], built["readinessProbe"]):
        assert probe["tcpSocket"] == {"port": "proxy"}
    assert built["lifecycle"] == {"preStop": {"sleep": {"seconds": topology.DRAIN_SECONDS}}}
    assert module.GRACE_SECONDS > topology.DRAIN_SECONDS


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_the_command_names_files_that_the_configmap_has(module: Any) -> None:
    config = module.files(Topology(copies=(("a",),), port=11211), proxy())
    text = " ".join(module.container(proxy(), "image")["command"])
    assert set(re.findall(r"/etc/proxy/([a-z.]+)", text)) == config.keys()


def test_a_proxy_that_cannot_reload_says_so() -> None:
    assert {name: module.RELOADS for name, module in MODULES.items()} == {
        "builtin": True,
        "twemproxy": False,
        "mcrouter": True,
    }


@pytest.mark.parametrize(("asked", "expected"), [(5000, 5000), (1024, 1024), (1023, 11211), (80, 11211)])
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_it_listens_on_the_services_port_where_no_capability_is_needed(module: Any, asked: int, expected: int) -> None:
    given = proxy(port=asked)
    built = module.container(given, "image")
    assert built["ports"][0]["containerPort"] == expected
    text = " ".join(built["command"]) + "".join(module.files(Topology(copies=(("a",),), port=1), given).values())
    assert re.search(rf"(-p |--port=|listen: 0\.0\.0\.0:){expected}\b", text)

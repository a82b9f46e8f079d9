"""Several clusters on one machine."""

from pathlib import Path

from hack.cluster.cluster import free_ports, programs_of
from hack.cluster.components import Components, Ports
from hack.cluster.layout import Layout
from hack.cluster.mountpoints import Mountpoints


def test_clusters_of_one_checkout_and_of_two_share_no_name() -> None:
    layouts = [Layout(Path(checkout), name) for checkout in ("/src/a", "/src/b") for name in ("api", "node")]

    assert len({layout.id for layout in layouts}) == 4
    assert len({layout.run for layout in layouts}) == 4
    assert len({layout.state for layout in layouts}) == 4


def test_a_deep_checkout_does_not_make_socket_names_too_long() -> None:
    layout = Layout(Path("/" + "very-long-directory-name/" * 10), "node")

    assert len(str(layout.run / "containerd.sock")) < 100


def test_free_ports_are_all_different() -> None:
    ports = free_ports()

    assert len({ports.etcd, ports.etcd_peer, ports.api, ports.controller_manager, ports.scheduler, ports.kwok}) == 6


def test_a_level_has_the_programs_of_the_levels_below() -> None:
    assert programs_of(1) == ["etcd", "kube-apiserver", "kubectl"]
    assert set(programs_of(1)) < set(programs_of(2)) < set(programs_of(3))


def api_server(level: int, *extra: str) -> list[str]:
    programs = {"kube-apiserver": Path("/bin/kube-apiserver")}
    components = Components(Layout(Path("/src"), "x"), level, Ports(), programs)
    return [str(word) for word in components.api_server(extra)]


def test_an_api_server_flag_of_the_user_replaces_ours() -> None:
    flags = api_server(3, "profiling=true", "--audit-log-path=-")

    assert [flag for flag in flags if flag.startswith("--profiling")] == ["--profiling=true"]
    assert "--audit-log-path=-" in flags


def test_only_where_nobody_makes_service_accounts_pods_may_do_without() -> None:
    assert "--disable-admission-plugins=ServiceAccount" in api_server(1)
    assert not [flag for flag in api_server(2) if flag.startswith("--disable-admission-plugins")]


def test_the_last_node_of_the_machine_removes_the_mountpoints_that_were_made(tmp_path: Path) -> None:
    made, found = tmp_path / "lib" / "kubelet", tmp_path / "lib" / "cni"
    found.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    nodes = [Mountpoints(tmp_path / "run" / f"memop-{n}", (made, found), tmp_path / "lock") for n in (1, 2)]
    for node in nodes:
        node.claim()

    nodes[0].release()
    assert made.is_dir()  # removing it would take the other node's mount away
    nodes[1].release()
    assert not made.exists()
    assert found.is_dir()  # not ours
    assert list((tmp_path / "run").iterdir()) == []

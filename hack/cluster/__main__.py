"""Command line of the test cluster: `python -m hack.cluster --help`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hack.cluster import prerequisites
from hack.cluster.binaries import Finder
from hack.cluster.cluster import Cluster, Record, programs_of
from hack.cluster.crds import CrdStore
from hack.cluster.errors import ClusterError
from hack.cluster.gomod import pin
from hack.cluster.images import ImageStore
from hack.cluster.kind import KindCluster
from hack.cluster.layout import DEFAULT_NAME, Layout, cache_dir
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.provider import Machine, choose
from hack.cluster.versions import KUBERNETES, catalogue, crds, is_kubernetes, kubernetes_project, load_versions


def parser() -> argparse.ArgumentParser:
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", type=_name, default=DEFAULT_NAME, help="one checkout can have several clusters")
    root = argparse.ArgumentParser(prog="python -m hack.cluster", description="A real Kubernetes for tests.")
    commands = root.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", parents=[named], help="bring the cluster up")
    up.add_argument("--level", type=int, choices=[1, 2, 3], help="1: API server; 2: + controllers; 3: + a node")
    up.add_argument("--provider", choices=["kind", "binaries"])
    up.add_argument(
        "--kubernetes",
        metavar="VERSION",
        type=_kubernetes,
        default=load_versions()[KUBERNETES],
        dest="kubernetes_project",
        help="oldest, newest, or a version pinned in versions.toml; levels 1 and 2",
    )
    up.add_argument("--no-install", action="store_true", help="name missing Debian packages, don't install them")
    up.add_argument(
        "--apiserver-arg",
        metavar="KEY=VALUE",
        type=_key_value,
        action="append",
        default=[],
        help="a kube-apiserver flag; replaces the tool's own of that name; repeatable",
    )
    commands.add_parser("down", parents=[named], help="remove the cluster and every trace of it")
    commands.add_parser("status", parents=[named], help="say how the cluster is")
    run = commands.add_parser("exec", parents=[named], help="run a command that reaches the cluster")
    run.add_argument("argv", nargs="+", metavar="CMD")
    load = commands.add_parser("load-image", parents=[named], help="import an image archive into the node")
    load.add_argument("archive", type=Path)
    commands.add_parser("prereqs", help="say what this machine has and lacks, for each level")
    pinning = commands.add_parser("pin", help="rewrite hack/go after a change of versions.toml")
    pinning.add_argument("projects", nargs="*", metavar="PROJECT", help="a key of versions.toml; default: all")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    progress = Progress()
    try:
        return _dispatch(arguments, progress)
    except ClusterError as error:
        print(error.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `down` removes what was started", file=sys.stderr)
        return 130


def _dispatch(arguments: argparse.Namespace, progress: Progress) -> int:
    match arguments.command:
        case "prereqs":
            return _prereqs(progress)
        case "pin":
            with progress.phase("hack/go", "pinned"):
                pin(arguments.projects)
            return 0
    layout = Layout.of(arguments.name)
    cluster = Cluster(layout, progress)
    match arguments.command:
        case "exec":
            return _exec(cluster, arguments.argv)
        case "status":
            return _status(cluster, progress)
    lock = cache_dir() / "locks" / f"{layout.id}.lock"
    with exclusive(lock, lambda: progress.say("another command works on this cluster, waiting for it")):
        match arguments.command:
            case "up":
                _up(cluster, arguments, progress)
            case "down":
                _down(cluster, progress)
            case "load-image":
                _load_image(cluster, arguments.archive, progress)
    return 0


def _up(cluster: Cluster, arguments: argparse.Namespace, progress: Progress) -> None:
    layout = cluster.layout
    asked = choose(Machine.look(), arguments.provider, arguments.level)
    if asked.level == 3 and arguments.kubernetes_project != KUBERNETES:
        raise ClusterError("only levels 1 and 2 come in other versions than the default", hint="add --level 1")
    versions = load_versions()
    kubernetes = versions[arguments.kubernetes_project]
    if (record := cluster.record()) is not None:
        if complaints := _complaints(cluster, record, progress):
            raise ClusterError("; ".join(complaints), hint="`down`, then `up`")
        wanted = (asked.provider, asked.level, kubernetes, tuple(arguments.apiserver_arg))
        if wanted != (record.provider, record.level, record.kubernetes, record.api_server_arguments):
            raise ClusterError(
                f"cluster {layout.name} is up with provider {record.provider}, level {record.level},"
                f" Kubernetes {record.kubernetes} and API server arguments {list(record.api_server_arguments)}",
                hint="`down` first, or another --name",
            )
        progress.say(f"cluster {layout.name} is already up (level {record.level}); nothing done")
        return
    progress.say(f"provider {asked.provider}, level {asked.level}, Kubernetes {kubernetes}: {asked.reason}")
    with progress.phase(f"cluster {layout.name}", "up", spinner=False):
        if asked.provider == "kind":
            kubectl = Finder(cache_dir(), progress).find([catalogue(versions)["kubectl"]])
            KindCluster(layout, progress).up(kubernetes, kubectl)
        else:
            cluster.up(
                asked.level,
                arguments.apiserver_arg,
                install=not arguments.no_install,
                kubernetes_project=arguments.kubernetes_project,
            )
    progress.say(f"KUBECONFIG={layout.kubeconfig}")
    progress.say(f"reach it with: python -m hack.cluster exec --name {layout.name} -- kubectl get all -A")


def _down(cluster: Cluster, progress: Progress) -> None:
    record = cluster.record()
    if record is not None and record.provider == "kind":
        KindCluster(cluster.layout, progress).down()
    if not cluster.down():
        progress.say(f"there is no cluster {cluster.layout.name}; nothing done")


def _load_image(cluster: Cluster, archive: Path, progress: Progress) -> None:
    record = cluster.record()
    if record is not None and record.provider == "kind":
        KindCluster(cluster.layout, progress).load_image(archive)
    else:
        cluster.load_image(archive)


def _status(cluster: Cluster, progress: Progress) -> int:
    record = cluster.record()
    if record is None:
        progress.say(f"cluster {cluster.layout.name}: down")
        return 3
    complaints = _complaints(cluster, record, progress)
    progress.say(
        f"cluster {cluster.layout.name} ({cluster.layout.id}): {'not well' if complaints else 'up'},"
        f" provider {record.provider}, level {record.level}, Kubernetes {record.kubernetes}"
    )
    for complaint in complaints:
        progress.say(f"  {complaint}")
    for process in cluster.table.all():
        progress.say(f"  {process.name}: {'pid ' + str(process.pid) if process.alive() else 'ended'}  {process.log}")
    return 1 if complaints else 0


def _exec(cluster: Cluster, argv: Sequence[str]) -> int:
    record = cluster.record()
    if record is None:
        raise ClusterError(f"there is no cluster {cluster.layout.name}", hint="bring it up with `up`")
    environment = {**os.environ, **cluster.environment(record)}
    command = cluster.enter(argv)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - becoming the command is the point
    except FileNotFoundError:
        raise ClusterError(f"no such command: {command[0]}") from None


def _complaints(cluster: Cluster, record: Record, progress: Progress) -> list[str]:
    if record.provider == "kind":
        return KindCluster(cluster.layout, progress).complaints(record)
    return cluster.complaints(record)


def _prereqs(progress: Progress) -> int:
    versions = load_versions()
    binaries = catalogue(versions)
    finder = Finder(cache_dir(), progress)
    choice = choose(Machine.look())
    progress.say(f"`up` would bring up: provider {choice.provider}, level {choice.level}: {choice.reason}")
    go = subprocess.run(["sh", "-c", "go env GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    for level in (1, 2, 3):
        to_build = [name for name in programs_of(level) if finder.needs_go([binaries[name]])]
        state = f"{', '.join(to_build)} to download or build" if to_build else "binaries are there"
        progress.say(f"level {level}: {state}")
    images = [recipe.name for recipe in ImageStore(cache_dir(), finder, progress).missing(binaries)]
    progress.say(f"images: {', '.join(images) + ' to make' if images else 'are there'}")
    definitions = [crd.name for crd in CrdStore(cache_dir(), progress).missing(crds(versions).values())]
    progress.say(f"definitions: {', '.join(definitions) + ' to fetch' if definitions else 'are there'}")
    progress.say(f"Go: {go or 'missing; needed to build what is not found elsewhere'}")
    lacking = prerequisites.missing((*prerequisites.NODE, *prerequisites.IMAGES, *prerequisites.OPERATOR_IMAGE))
    for prerequisite in lacking:
        progress.say(f"level 3 lacks {prerequisite.command} ({prerequisite.purpose})")
    if lacking:
        progress.say(f"as root: {prerequisites.install_command(lacking)}")
    return 1 if lacking else 0


def _name(text: str) -> str:
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", text) is None:
        raise argparse.ArgumentTypeError("a name is lower-case letters, digits and dashes")
    return text


def _kubernetes(text: str) -> str:
    versions = load_versions()
    project = kubernetes_project(versions, text)
    if project is None:
        pinned = ", ".join(version for name, version in versions.items() if is_kubernetes(name))
        raise argparse.ArgumentTypeError(f"{text} is not pinned; oldest, newest, or one of {pinned}")
    return project


def _key_value(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return text


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the benchmark: `python -m hack.bench --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from hack.bench import baseline, place
from hack.bench.errors import BenchError
from hack.bench.features import FULL, PLAIN
from hack.bench.limit import Call
from hack.bench.phases import PHASES, Setting, running
from hack.bench.progress import say, told
from hack.bench.report import Report, Run
from hack.cluster.binaries import Finder
from hack.cluster.cluster import programs_of
from hack.cluster.errors import ClusterError
from hack.cluster.layout import cache_dir
from hack.cluster.progress import Progress
from hack.cluster.versions import catalogue, load_versions

_MEMOP = shlex.join(
    [
        *(sys.executable, "-m", "memop.cli", "run", "--health-probe-bind-address={health}"),
        *("--metrics-bind-address={metrics}", "--metrics-secure=false", "--log-format=json"),
    ]
)
_WITHOUT_ROOT = "bytes are left out: telling the operator's from others' takes a network namespace, and that takes root"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m hack.bench",
        description="Measures an operator for Memcached, on API servers (level 1) made for that.",
        epilog="In a COMMAND, {kubeconfig} is a file, {metrics} and {health} are host:port to listen on; KUBECONFIG is "
        "set. /readyz at {health} says when it is ready, workqueue_* at {metrics} (plain HTTP) when its queue is "
        "empty; without them its CPU time alone says so. The table goes to stdout, progress to stderr.",
    )
    root.add_argument("--n", type=_positive, default=1000, metavar="N", help="CRs (default 1000)")
    root.add_argument("--cmd", default=_MEMOP, metavar="COMMAND", help="the operator (default: memop of this venv)")
    root.add_argument("--compare", metavar="COMMAND", help="a second operator, beside the first, with ratios")
    root.add_argument("--runs", type=_positive, default=3, metavar="R", help="the figures are their median (default 3)")
    root.add_argument(
        "--full",
        dest="features",
        action="store_const",
        const=FULL,
        default=PLAIN,
        help="every CR has TLS, a NetworkPolicy, a PodDisruptionBudget, a ServiceMonitor; adds the phase steady",
    )
    root.add_argument(
        "--phases",
        type=_phases,
        metavar="P,…",
        help=f"of {','.join(PHASES)} (default: all, steady with --full alone: it takes two minutes)",
    )
    root.add_argument("--namespaces", type=_positive, default=1, metavar="K", help="that the CRs are in (default 1)")
    root.add_argument("--no-limit", action="store_true", help="leave out the bare client's writes")
    memory = root.add_mutually_exclusive_group()
    memory.add_argument(
        "--memory", type=_sizes, default=(500, 5000), metavar="A,B", help="memory of a CR between A and B"
    )
    memory.add_argument("--no-memory", dest="memory", action="store_const", const=(), help="leave memory of a CR out")
    root.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds for a phase (default 600)")
    root.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return root


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    arguments.phases = arguments.phases or tuple(
        phase for phase in PHASES if phase != "steady" or arguments.features is FULL
    )
    inside = place.directory_inside()
    try:
        if inside is not None:
            return _bench(arguments, inside, place.Apart.make())
        place.end_on_sigterm()
        # The namespaces have no network to download anything from.
        progress = Progress(Console(stderr=True, highlight=False, soft_wrap=True))
        Finder(cache_dir(), progress).find([catalogue(load_versions())[name] for name in programs_of(1)])
        arguments.features.fetch(progress)
        with tempfile.TemporaryDirectory(prefix="memop-bench-") as directory:
            if os.geteuid() == 0:
                return place.run_inside(argv, Path(directory))
            say(_WITHOUT_ROOT)
            return _bench(arguments, Path(directory), place.Here())
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ClusterError as error:
        print(error.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if inside is None:
            print("interrupted; nothing is left", file=sys.stderr)
        return 130


def _bench(arguments: argparse.Namespace, directory: Path, where: place.Place) -> int:
    setting = Setting(directory, where, arguments.namespaces, arguments.timeout, arguments.features)
    report = asyncio.run(_measure(arguments, setting))
    if where.traffic() is None:
        report.notes.append(_WITHOUT_ROOT)
    print(report.table())
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report.json()), indent=2) + b"\n")
        say(f"written: {arguments.json}")
    return 0


async def _measure(arguments: argparse.Namespace, setting: Setting) -> Report:
    report = Report(arguments.n, arguments.namespaces, _labelled(arguments.cmd, arguments.compare), arguments.features)
    pools = setting.pools(0, arguments.n)
    for number in range(1, arguments.runs + 1):
        title = f"run {number} of {arguments.runs}"
        run = Run()
        report.runs.append(run)
        calls: list[Call] = []
        for operator, command in report.commands.items():
            results = run.operators.setdefault(operator, {})
            say(f"{title}, {operator}: start")
            async with running(setting, command) as measurement:
                report.server_version = measurement.server.version
                for phase in _with_cold(arguments.phases):
                    with told(f"{title}, {operator}: {phase}"):
                        result = await measurement.phase(phase, pools)
                    if phase in arguments.phases:
                        results[phase] = result
                    if phase == "cold" and not calls:
                        # One whose replicas are no other number in its bodies.
                        calls = await baseline.learn(measurement.server, pools[min(3, len(pools) - 1)])
        for width in () if arguments.no_limit or "cold" not in arguments.phases else baseline.WIDTHS:
            with told(f"{title}, limit: {width} at once"):
                run.limits[width] = await baseline.measure(setting, calls, arguments.n, width)
    for operator, command in report.commands.items() if arguments.memory else ():
        report.memory[operator] = await _memory(arguments, setting, command, operator)
    return report


def _with_cold(phases: Sequence[str]) -> list[str]:
    """The phases, and `cold` before those that need its CRs."""
    last = max(map(PHASES.index, phases))
    return [phase for phase in PHASES[: last + 1] if phase in phases or phase == "cold"]


async def _memory(arguments: argparse.Namespace, setting: Setting, command: str, operator: str) -> dict[int, int]:
    """RSS in KiB by number of CRs."""
    sizes: dict[int, int] = {}
    async with running(setting, command) as measurement:
        first = 0
        for crs in arguments.memory:
            with told(f"memory, {operator}: {crs} CRs"):
                sizes[crs] = await measurement.grow(setting.pools(first, crs))
            first = crs
    return sizes


def _labelled(first: str, second: str | None) -> dict[str, str]:
    """Commands by short and different names."""
    labels = {label(first): first}
    if second is not None:
        labels[label(second) if label(second) not in labels else f"{label(second)}-2"] = second
    return labels


def label(command: str) -> str:
    """`memop` of `python -m memop.cli run`, `manager` of `/usr/bin/manager --flag`."""
    words = shlex.split(command)
    name = words[words.index("-m") + 1].partition(".")[0] if "-m" in words[:-1] else Path(words[0]).name
    return name[:10]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("wants 1 or more")
    return value


def _phases(text: str) -> tuple[str, ...]:
    wanted = text.split(",")
    if unknown := set(wanted) - set(PHASES):
        raise argparse.ArgumentTypeError(f"no such phase: {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}")
    return tuple(phase for phase in PHASES if phase in wanted)


def _sizes(text: str) -> tuple[int, int]:
    few, _, many = text.partition(",")
    if not (few.isdigit() and many.isdigit() and 0 < int(few) < int(many)):
        raise argparse.ArgumentTypeError("wants two numbers of CRs, the smaller first")
    return int(few), int(many)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Many runs as one table for people and one JSON for machines."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap
from typing import Any

from hack.bench.features import PLAIN, Features
from hack.bench.meter import Result
from hack.bench.phases import PHASES
from hack.cluster.versions import HACK, load_versions

LIMIT = "limit"


@dataclass
class Run:
    """One run: results by operator and phase, the limit's by its width."""

    operators: dict[str, dict[str, Result]] = field(default_factory=dict)
    limits: dict[int, Result] = field(default_factory=dict)

    def best(self) -> tuple[int, Result] | None:
        """The quickest of the limits, and its width."""
        return min(self.limits.items(), key=lambda item: item[1].figures["seconds_to_converge"], default=None)


@dataclass
class Report:
    """Everything that was measured. `memory`: by operator, RSS in KiB by number of CRs."""

    crs: int
    namespaces: int
    commands: dict[str, str]
    features: Features = PLAIN
    server_version: str = ""
    runs: list[Run] = field(default_factory=list)
    memory: dict[str, dict[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def phases(self) -> list[str]:
        return [
            name for name in PHASES if any(name in result for run in self.runs for result in run.operators.values())
        ]

    def results(self, operator: str, phase: str) -> list[Result]:
        return [run.operators[operator][phase] for run in self.runs]

    def limits(self) -> list[tuple[int, Result]]:
        return [best for run in self.runs if (best := run.best()) is not None]

    def to_limit(self, operator: str) -> dict[str, dict[str, float]]:
        """Each run's cold phase over the same run's limit."""
        return ratios(self.results(operator, "cold"), [result for _, result in self.limits()]) if self.limits() else {}

    def compared(self, phase: str) -> dict[str, dict[str, float]]:
        """The second operator over the first."""
        first, second = self.commands
        return ratios(self.results(second, phase), self.results(first, phase))

    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(self.server_version),
            "crs": self.crs,
            "features": self.features.name,
            "namespaces": self.namespaces,
            "runs": len(self.runs),
            "notes": self.notes,
            "operators": {
                operator: {
                    "command": command,
                    "phases": {phase: _merged(self.results(operator, phase)) for phase in self.phases()},
                    "cold_to_limit_ratios": self.to_limit(operator),
                    "memory": _memory(self.memory.get(operator, {})),
                }
                for operator, command in self.commands.items()
            },
        }
        if limits := self.limits():
            widths = sorted({width for run in self.runs for width in run.limits})
            content["limit"] = {
                "best": _merged([result for _, result in limits]),
                "best_at_once": [width for width, _ in limits],
                "by_at_once": {str(width): _merged([run.limits[width] for run in self.runs]) for width in widths},
            }
        if len(self.commands) == 2:
            content["second_to_first_ratios"] = {phase: self.compared(phase) for phase in self.phases()}
        return content

    def table(self) -> str:
        lines = [*self._head(), "", _row(_TITLES), _row(_UNITS)]
        for phase in self.phases():
            lines.append("")
            lines += [_figures(f"{phase}  {name}", summary(self.results(name, phase))) for name in self.commands]
            if phase == "cold" and self.limits():
                lines.append(_figures(f"{phase}  {LIMIT}", summary([result for _, result in self.limits()])))
                lines += [_times(f"{operator} / {LIMIT}", self.to_limit(operator)) for operator in self.commands]
            if len(self.commands) == 2:
                lines.append(_times(" / ".join(reversed(self.commands)), self.compared(phase)))
        return "\n".join([*lines, "", *self._steady(), *self._memory(), *self._requests(), *self._tail()])

    def _head(self) -> list[str]:
        here, parts = machine(), versions(self.server_version)
        crs = f"{self.crs} {self.features.name} CRs, children: {len(self.features.children)}"
        return [
            f"{crs}, namespaces: {self.namespaces}; medians of runs: {len(self.runs)} (seconds: least-most)",
            f"{here['cpu_model']}, {here['cpus']} CPUs, {here['memory_gib']} GiB, Linux {here['kernel']}",
            ", ".join(f"{name} {value}" for name, value in parts.items()),
            *(
                line
                for operator, command in self.commands.items()
                for line in wrap(f"{operator}: {command}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            ),
        ]

    def _steady(self) -> Iterable[str]:
        for operator in self.commands if "steady" in self.phases() else ():
            figures = {name: spread["median"] for name, spread in summary(self.results(operator, "steady")).items()}
            seconds = figures["observed_seconds"]
            yield (
                f"steady  {operator}: {figures['secret_gets_per_second']:.1f} secret GETs/s, "
                f"{figures['secret_gets_in_busiest_second']:.0f} in the busiest second; "
                f"{figures['operator_cpu_seconds'] / seconds:.1%} of a CPU; over {seconds:.0f} s"
            )

    def _memory(self) -> Iterable[str]:
        for operator, sizes in self.memory.items():
            told = _memory(sizes)
            figures = ", ".join(f"{kib / 1024:.1f} MiB with {crs} CRs" for crs, kib in sizes.items())
            yield f"memory of {operator}: {told['rss_kib_per_cr']:.2f} KiB a CR ({figures}; one run)"

    def _requests(self) -> Iterable[str]:
        for operator in self.commands:
            for phase in self.phases():
                yield _counts(f"{phase}  {operator}", requests(self.results(operator, phase)))
            if "backlog" in self.phases():
                figures = summary(self.results(operator, "backlog"))
                if "latency_max_milliseconds" in figures:
                    most = figures["latency_max_milliseconds"]["max"]
                    number = figures["live_changes"]["median"]
                    yield f"{operator}: {number:g} live changes in the backlog, the slowest seen after {most:.0f} ms"
        if self.limits():
            widths = ", ".join(str(width) for width, _ in self.limits())
            yield _counts(f"cold  {LIMIT}", requests([result for _, result in self.limits()]))
            yield f"{LIMIT}: the same child and status writes by a bare aiohttp client; best with {widths} at once"

    def _tail(self) -> list[str]:
        return [
            "p50, p99: from the sending of a CR's create or change to its Deployment as wanted; backlog: live changes",
            "sent, recv: at the network interface, headers included; the audit log of the measured user is on in all",
            *self.notes,
        ]


def summary(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Median, least and most of every figure."""
    names = dict.fromkeys(name for result in results for name in result.figures)
    return {name: _spread([r.figures[name] for r in results if name in r.figures]) for name in names}


def ratios(over: Sequence[Result], under: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Of every figure that both have, by runs; what is nothing in one of them has no ratio."""
    found: dict[str, list[float]] = {}
    for a, b in zip(over, under, strict=True):
        for name in a.figures.keys() & b.figures.keys():
            if a.figures[name] > 0 and b.figures[name] > 0:
                found.setdefault(name, []).append(a.figures[name] / b.figures[name])
    return {name: _spread(values) for name, values in sorted(found.items())}


def requests(results: Sequence[Result]) -> dict[str, float]:
    """The median number of every request, the most frequent first."""
    names = {name for result in results for name in result.requests}
    counts = {name: statistics.median(result.requests.get(name, 0) for result in results) for name in names}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _merged(results: Sequence[Result]) -> dict[str, Any]:
    return {"figures": summary(results), "requests": requests(results)}


def _memory(sizes: Mapping[int, int]) -> dict[str, Any]:
    if not sizes:
        return {}
    (few, less), *_, (many, more) = sizes.items()
    rss = {str(crs): kib for crs, kib in sizes.items()}
    return {"rss_kib_by_crs": rss, "rss_kib_per_cr": (more - less) / (many - few)}


# --- The table's lines ---------------------------------------------------------------------------------------------

_WIDTH = 110
_WIDTHS = (19, 18, 6, 6, 7, 9, 7, 7, 9, 9, 10, 8)
_TITLES = ("phase", "seconds", "p50", "p99", "CPU", "API CPU", "RSS", "peak", "sent", "recv", "requests", "writes")
_UNITS = ("", "", "ms", "ms", "s", "s", "MiB", "MiB", "KiB", "KiB", "", "")
_COLUMNS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("latency_p50_milliseconds", lambda value: f"{value:.0f}"),
    ("latency_p99_milliseconds", lambda value: f"{value:.0f}"),
    ("operator_cpu_seconds", lambda value: f"{value:.2f}"),
    ("api_server_cpu_seconds", lambda value: f"{value:.2f}"),
    ("rss_kib", lambda value: f"{value / 1024:.1f}"),
    ("peak_rss_kib", lambda value: f"{value / 1024:.1f}"),
    ("sent_bytes", lambda value: f"{value / 1024:.0f}"),
    ("received_bytes", lambda value: f"{value / 1024:.0f}"),
    ("requests", lambda value: f"{value:.0f}"),
    ("writes", lambda value: f"{value:.0f}"),
)


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    width, *widths = _WIDTHS
    aligned = (cell.rjust(size) for cell, size in zip(others, widths, strict=True))
    return (first.ljust(width) + "".join(aligned)).rstrip()


def _figures(label: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    cells = [show(figures[name]["median"]) if name in figures else "-" for name, show in _COLUMNS]
    return _row([label, _seconds(figures, "{:.2f}"), *cells])


def _times(label: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    cells = [f"x{figures[name]['median']:.2f}" if name in figures else "" for name, _ in _COLUMNS]
    return _row([f"  {label}", _seconds(figures, "x{:.2f}"), *cells])


def _seconds(figures: Mapping[str, Mapping[str, float]], form: str) -> str:
    seconds = figures.get("seconds_to_converge")
    if seconds is None:
        return "-"
    spread = f" ({seconds['min']:.2f}-{seconds['max']:.2f})" if seconds["min"] < seconds["max"] else ""
    return form.format(seconds["median"]) + spread


def _counts(label: str, counts: Mapping[str, float]) -> str:
    return f"requests of {label}: " + (", ".join(f"{name} {number:g}" for name, number in counts.items()) or "none")


# --- What it was measured on ---------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return {
        "cpu_model": models[0] if models else platform.machine(),
        "cpus": len(models) or 1,
        "memory_gib": round(int(total.split()[1]) / (1 << 20)),
        "kernel": platform.release(),
    }


def versions(server: str) -> dict[str, str]:
    command = ["git", "-C", str(HACK.parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "Kubernetes": server,
        "etcd": str(load_versions()["etcd"]),
        "Python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "memop": f"{version('memop')} ({commit or 'no git'})",
    }

"""`memop doctor`: the findings as they come, or all of them as one document."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from memop import __version__
from memop.client import Client, connect
from memop.clock import Clock, rfc3339
from memop.doctor.examine import Examiner
from memop.doctor.finding import Finding
from memop.metrics import ClientMetrics

_UNLIMITED = 1 << 12  # columns where no terminal sets a limit
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "trouble": ("✗", "red"), "unknown": ("?", "cyan")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`namespace`: whose objects are looked at; None is the kubeconfig's, "" all."""

    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    as_json: bool = False


async def doctor(options: Options, out: TextIO, clock: Clock) -> int:
    """Exit code: 0 where nothing is in trouble, 1 where something is. Raises: ApiError, ConfigurationError."""
    connection = await connect(options.kubeconfig, options.context)
    metrics = ClientMetrics(CollectorRegistry())
    namespace = connection.namespace if options.namespace is None else options.namespace
    console = Console(file=out, width=None if out.isatty() else _UNLIMITED, highlight=False)
    findings: list[Finding] = []
    async with Client(connection, metrics=metrics, clock=clock, user_agent=f"memop/{__version__}") as client:
        async for finding in Examiner(client, clock, namespace).findings():
            if not options.as_json:
                _show(console, finding, first=not findings or findings[-1].check != finding.check)
            findings.append(finding)
    healthy = all(finding.verdict != "trouble" for finding in findings)
    if options.as_json:
        document = {"time": rfc3339(clock.now()), "healthy": healthy, "findings": findings}
        out.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    else:
        console.print(f"\n{_summary(findings)}")
    return int(not healthy)


def _show(console: Console, finding: Finding, *, first: bool) -> None:
    if first:
        console.print(Text(finding.check, style="bold"))
    mark, colour = _MARKS[finding.verdict]
    line = Text.assemble((mark, colour), " ", (finding.subject, "bold" * (finding.verdict == "trouble")), ": ")
    console.print(Padding(line + Text(finding.message), (0, 0, 0, 2), expand=False))
    if finding.remedy:
        console.print(Padding(Text(f"→ {finding.remedy}"), (0, 0, 0, 6), expand=False))


def _summary(findings: Iterable[Finding]) -> str:
    counted = Counter(finding.verdict for finding in findings)
    told = [f"{counted[verdict]} {verdict}" for verdict in ("trouble", "warning", "unknown") if counted[verdict]]
    return ", ".join(told) or "all is well"

"""`memop status`: one look, or one after the other."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TextIO

import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from memop import __version__
from memop.client import Client, connect
from memop.clock import Clock, rfc3339
from memop.errors import RetryableError
from memop.metrics import ClientMetrics
from memop.status.overview import Overview
from memop.status.read import Reader
from memop.status.report import Report

PATIENCE = 1.0  # seconds after which progress is shown
UNLIMITED = 1 << 10  # columns where no terminal sets a limit

Show = Callable[[Report, str], None]  # a look, and why the newest one failed ("" if it did not)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`namespace` None is the kubeconfig's, "" all; `watch` is the seconds between looks, None for one look."""

    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    as_json: bool = False
    pods: bool = False
    stats: bool = True
    watch: float | None = None


async def status(options: Options, out: TextIO, clock: Clock) -> int:
    """Exit code: 0 when all is ready, 1 when something is not. Watching ends by Ctrl-C, with that of the last look."""
    connection = await connect(options.kubeconfig, options.context)
    metrics = ClientMetrics(CollectorRegistry())
    namespace = connection.namespace if options.namespace is None else options.namespace
    async with Client(connection, metrics=metrics, clock=clock, user_agent=f"memop/{__version__}") as client:
        reader = Reader(client, clock, namespace, stats=options.stats)
        async with _progress(reader, Console(file=sys.stderr)):
            report = await reader.look()
        with (_json if options.as_json else _table)(options, namespace, out, clock) as show:
            show(report, "")
            code = int(not report.ready)
            if options.watch is None:
                return code
            try:
                while True:
                    await clock.sleep(options.watch)
                    failure = ""
                    try:
                        report = await reader.look()
                    except RetryableError as error:
                        failure = str(error)
                    show(report, failure)
                    code = int(bool(failure) or not report.ready)
            except asyncio.CancelledError:  # Ctrl-C
                return code


@contextmanager
def _json(options: Options, _namespace: str, out: TextIO, clock: Clock) -> Iterator[Show]:
    """One document, or, while watching, one a line."""

    def show(report: Report, failure: str) -> None:
        document = msgspec.json.encode({"time": rfc3339(clock.now()), "error": failure} if failure else report)
        out.write((document if options.watch else msgspec.json.format(document)).decode() + "\n")
        out.flush()

    yield show


@contextmanager
def _table(options: Options, namespace: str, out: TextIO, clock: Clock) -> Iterator[Show]:
    """One table; while watching, always the newest in the same place, where that can be."""
    console = Console(file=out, width=None if out.isatty() else UNLIMITED, highlight=False)

    def renderable(report: Report, failure: str) -> Overview | Group:
        overview = Overview(report, namespace, pods=options.pods, watched=options.watch is not None)
        if options.watch is None:
            return overview
        line = f"{clock.now().astimezone():%H:%M:%S}, every {options.watch:g} s; Ctrl-C ends"
        return Group(Text(line, style="dim"), overview, *([Text(f"\n{failure}", style="red")] if failure else []))

    if options.watch is None or not console.is_terminal:
        yield lambda report, failure: console.print(renderable(report, failure))
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda report, failure: live.update(renderable(report, failure), refresh=True)


@asynccontextmanager
async def _progress(reader: Reader, console: Console) -> AsyncIterator[None]:
    """How far reading has come, once it takes longer than a moment; where `console` is no terminal rich is silent."""

    async def show() -> None:
        await asyncio.sleep(PATIENCE)
        with console.status("") as line:
            while True:
                line.update(f"asking pod {reader.begun} of {reader.pods}" if reader.pods else "asking the API server")
                await asyncio.sleep(0.1)

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

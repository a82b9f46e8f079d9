"""A report as a table for people, as wide as the terminal allows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from memop.status.report import NOT_ALLOWED, Cluster, Counted, Pool, Proxy, Report, Server, State, Stats, copies

# Columns in order; those that nothing fills are left out.
_FIGURES = ("USED", "HITS", "REQ/S", "ITEMS", "EVICTED", "EVICTED/S", "CONNECTIONS")
_COLUMNS = ("NAME", "KIND", "STATE", "PODS", "PROXIES", "CONFIG", "MEMORY", *_FIGURES)
_TEXTS = ("NAME", "KIND", "STATE", "CONFIG", "MEMORY")  # the others are numbers, and stand to the right
# What a narrow terminal goes without, the first one first.
_DISPENSABLE = ("MEMORY", "CONNECTIONS", "KIND", "ITEMS", "EVICTED", "EVICTED/S", "PROXIES", "USED", "CONFIG")
_STATES = {"Ready": "green", "Pending": "yellow", "Progressing": "yellow", "Paused": "yellow"}  # the others: red
_GAP = 2  # cells between columns
_BAR = 10  # cells
_GOOD, _POOR = 0.9, 0.5  # hit ratios
_UNKNOWN = Text("-", style="dim")

Row = dict[str, Text]


@dataclass(frozen=True)
class Overview:
    """Renders by rich. `namespace` is where was looked, "" everywhere; `pods`: a line for each, too.

    `watched`: hits, requests and evictions since the last look, not since the start.
    """

    report: Report
    namespace: str
    pods: bool = False
    watched: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.report.pools and not self.report.clusters:
            yield f"no Memcached and no MemcachedCluster in {self.namespace or 'any namespace'}"
            return
        rows = list(self._rows(bar="#." if options.ascii_only else "█░"))
        widths = {
            column: max(len(column), *(row[column].cell_len if column in row else 0 for row in rows))
            for column in _COLUMNS
            if any(row.get(column) for row in rows)
        }
        for column in _DISPENSABLE:
            if sum(width + _GAP for width in widths.values()) - _GAP > options.max_width:
                widths.pop(column, None)
        yield _table(list(widths), rows)
        notes = list(self._notes())
        if notes:
            yield Text("\n" + "\n".join(notes), style="yellow")

    # --- lines

    def _rows(self, bar: str) -> Iterator[Row]:
        of_clusters = copies(self.report.pools)
        for pool in self._alone():
            yield {"KIND": Text("pool"), **self._object(pool, bar)}
            yield from self._servers(pool, bar)
        for cluster in self.report.clusters:
            ready = sum(proxy.ready for proxy in cluster.proxies)
            yield {
                "KIND": Text(f"cluster {cluster.shards}x{cluster.replicas_per_shard}"),
                **self._object(cluster, bar),
                "PROXIES": _share(ready, len(cluster.proxies)),
            }
            for pool in of_clusters.get(cluster.key, ()):
                yield from self._servers(pool, bar)
            yield from self._proxies(cluster)

    def _alone(self) -> list[Pool]:
        """The pools that are no part of a cluster that is shown."""
        clusters = {cluster.key for cluster in self.report.clusters}
        return [pool for pool in self.report.pools if (pool.namespace, pool.cluster) not in clusters]

    def _object(self, item: Pool | Cluster, bar: str) -> Row:
        return {
            "NAME": Text(item.name if self.namespace else str(item.key), style="bold"),
            "STATE": Text(item.state, style=_STATES.get(item.state, "red")),
            "PODS": _share(item.ready_pods, item.wanted_pods),
            **self._figures(item.stats, item.since_last, bar),
        }

    def _servers(self, pool: Pool, bar: str) -> Iterator[Row]:
        for server in pool.pods if self.pods else ():
            yield {**_pod(server), **self._figures(server.stats, server.since_last, bar)}

    def _proxies(self, cluster: Cluster) -> Iterator[Row]:
        for proxy in cluster.proxies if self.pods else ():
            yield {**_pod(proxy), "CONFIG": Text(proxy.config, style="" if proxy.config == "current" else "yellow")}

    def _figures(self, stats: Stats | None, since_last: Counted | None, bar: str) -> Row:
        row: Row = {}
        if stats is not None:
            share = stats.used_bytes / stats.limit_bytes if stats.limit_bytes else 0.0
            row |= {
                "MEMORY": _bar(share, bar),
                "USED": Text(_memory(stats.used_bytes, stats.limit_bytes)),
                "ITEMS": Text(_count(stats.items)),
                "CONNECTIONS": Text(_count(stats.connections)),
            }
        counted = since_last if self.watched else stats
        if counted is None:
            return row
        if counted.hit_ratio is not None:
            row["HITS"] = _hits(counted.hit_ratio)
        if not self.watched:
            row["EVICTED"] = _evicted(counted.evictions)
        elif self.report.seconds:
            row["REQ/S"] = Text(_count(counted.requests / self.report.seconds))
            row["EVICTED/S"] = _evicted(counted.evictions / self.report.seconds)
        return row

    # --- what the table has no room for

    def _notes(self) -> Iterator[str]:
        yield from self.report.problems
        for item in (*self._alone(), *self.report.clusters):
            if item.message:
                yield f"{item.key}: {item.message}"
        for pool in self.report.pools:
            yield from _unanswered(pool, pool.pods)
        for cluster in self.report.clusters:
            yield from _unanswered(cluster, cluster.proxies)
            older = sum(proxy.config == "older" for proxy in cluster.proxies)
            if older:
                yield f"{cluster.key}: {older} of {len(cluster.proxies)} proxies have an older configuration"


def _table(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold dim")
    for column in columns:
        table.add_column(column, justify="left" if column in _TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row.get(column, _UNKNOWN if column in _FIGURES else "") for column in columns))
    return table


def _pod(pod: Server | Proxy) -> Row:
    return {
        "NAME": Text(f"  {pod.pod}"),
        "KIND": Text("server" if isinstance(pod, Server) else "proxy", style="dim"),
        "STATE": Text("Ready", style="green") if pod.ready else Text("NotReady", style="red"),
    }


def _unanswered(item: State, pods: Sequence[Server | Proxy]) -> Iterator[str]:
    """The pods that gave no answer, by reason; where nothing may be asked `problems` say so once."""
    reasons = Counter(pod.error for pod in pods if pod.error not in ("", NOT_ALLOWED))
    for reason, count in reasons.items():
        what = "pods" if isinstance(pods[0], Server) else "proxies"
        yield f"{item.key}: {count} of {len(pods)} {what} not read: {reason}"


def _share(part: int, whole: int) -> Text:
    return Text(f"{part}/{whole}", style="" if part == whole else "yellow")


def _bar(share: float, cells: str) -> Text:
    full = round(min(share, 1.0) * _BAR)
    return Text.assemble((cells[0] * full, "cyan"), (cells[1] * (_BAR - full), "dim"))


def _hits(ratio: float) -> Text:
    return Text(f"{ratio:.1%}", style="green" if ratio >= _GOOD else "yellow" if ratio >= _POOR else "red")


def _evicted(number: float) -> Text:
    return Text(_count(number), style="yellow" if number else "")


def _memory(used: int, limit: int) -> str:
    """Both in the unit of the limit: `3.1/64 MiB`."""
    unit, name = (1 << 30, "GiB") if limit >= 10 << 30 else (1 << 20, "MiB")
    part = used / unit
    return f"{part:.{0 if part >= 10 else 1}f}/{limit / unit:.0f} {name}"


def _count(number: float) -> str:
    """At most three digits, and what they count: `0.4`, `950`, `12.3k`, `1.2M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.{1 if number < 99.95 * size else 0}f}{letter}"
    return f"{number:.1f}" if 0 < number < 10 and number != int(number) else f"{number:.0f}"

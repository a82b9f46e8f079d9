"""What is measured alike in every phase, of operators and of the limit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hack.bench.place import Place
from hack.bench.server import Server

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of a phase, with their units in their names, and requests by `verb resource/subresource`."""

    figures: dict[str, float] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


class Meter:
    """Counts from its making to `read`."""

    def __init__(self, server: Server, place: Place, cpu: Callable[[], float] = lambda: 0.0) -> None:
        self._server = server
        self._place = place
        self._cpu = cpu()
        self._server_cpu = server.cpu_seconds()
        self._traffic = place.traffic()
        self._audited = server.audited()

    def read(self, cpu: float) -> Result:
        """The costs so far, of which CPU seconds are given: when they were known was not now."""
        requests = self._server.requests_since(self._audited)
        figures = {
            "operator_cpu_seconds": cpu - self._cpu,
            "api_server_cpu_seconds": self._server.cpu_seconds() - self._server_cpu,
            "requests": float(requests.total()),
            "writes": float(writes(requests)),
        }
        now = self._place.traffic()
        if now is not None and self._traffic is not None:
            figures["received_bytes"] = float(now[0] - self._traffic[0])
            figures["sent_bytes"] = float(now[1] - self._traffic[1])
        return Result(figures, dict(requests.most_common()))


def writes(requests: Counter[str]) -> int:
    """Those that write; a leader's Lease is no work."""
    return sum(
        count
        for name, count in requests.items()
        if name.partition(" ")[0] in _WRITES and name.partition(" ")[2] != "leases"
    )


def busiest(times: Sequence[float]) -> int:
    """The most of these (sorted) moments within one second."""
    most = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - 1:
            first += 1
        most = max(most, index - first + 1)
    return most


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Their 50th and 99th percentile and maximum, in milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    return {
        "latency_p50_milliseconds": percentile(seconds, 50) * 1000,
        "latency_p99_milliseconds": percentile(seconds, 99) * 1000,
        "latency_max_milliseconds": max(seconds) * 1000,
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least so many per cent do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]

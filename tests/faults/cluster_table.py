"""The fault table's rows that can differ for a `MemcachedCluster` and the foreign kinds.

What requests and watches may come to is table.py's; here are the kinds of which memop reads more than it did: pools,
which are its own children's owners, configs, which tell how far a change has come, and clusters of its own making.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.faults.clusters import CLUSTER, IANLEWIS, MCROUTER, MEMSHACK, PROXY
from tests.faults.harness import Stage
from tests.faults.table import TIMEOUT_UNANSWERED, Check, Row, writes_nothing_blindly
from tests.faults.trouble import (
    ALWAYS,
    GONE,
    LATE,
    MOMENTS,
    THEN_THE_ONE_BEFORE,
    Arm,
    OldLists,
    Reads,
    Strike,
    both,
    breaks,
    crash,
    ends_within,
    falls_behind,
    on,
    says,
    struck,
    unheard,
    unsent,
)
from tests.support.proxy import Fault, Match, Request, Rule

OUTAGE = 5.0  # seconds
LOST_AGAIN = "a broken connection after it was carried out, and again when tried again"
CACHES = (
    "memcachedclusters",
    "memcacheds",
    "pools",
    "configmaps",
    "deployments",
    "statefulsets",
    "services",
    "servicemonitors",
)
_POOL = Match("apply", "memcacheds", subresource="")
_PODS = Match("apply", "statefulsets")
_CONFIG = Match("apply", "configmaps")
_PROXIES = Match("apply", "deployments", name=PROXY)
_STATUS = Match("apply", "memcachedclusters", subresource="status")
_CHILD = Match("apply", "memcachedclusters", subresource="")


# --- How memop got there ----------------------------------------------------------------------------------------


def step_by_step(here: Stage, _: Sequence[Rule]) -> None:
    """What grows, grows before the proxies are told of it; what shrinks, they are told of first."""
    _assert_order(here, "copies up", _PODS, _CONFIG)
    _assert_order(here, "copies down", _CONFIG, Match("delete", "memcacheds"))
    _assert_order(here, "shards up", _PODS, _CONFIG)
    _assert_order(here, "shards down", _PROXIES, _POOL)


def step_by_step_and(then: Check) -> Check:
    def check(here: Stage, rules: Sequence[Rule]) -> None:
        step_by_step(here, rules)
        then(here, rules)

    return check


def _assert_order(here: Stage, step: str, first: Match, second: Match) -> None:
    """No `second` is sent in the step before the API server has carried out a `first`."""
    done, sent = (
        [request for request in here.answers(match) if request.at >= here.began[step]] for match in (first, second)
    )
    assert done, f"{step!r}: no {first}"
    assert sent, f"{step!r}: no {second}"
    carried_out = min(request.at for request in done if 200 <= request.status < 300)
    assert carried_out < sent[0].at, f"{step!r}: {sent[0]} came before {done[0]}"


# --- Where it happens -------------------------------------------------------------------------------------------


def writes(fault: Fault, *, times: int = 1) -> Arm:
    """Every kind of write that a cluster's own reconciler makes, each in another step."""
    return both(
        on(_POOL, fault, "create", times=times),
        on(_STATUS, fault, "update", times=times),
        on(_CONFIG, fault, "copies up", times=times),
        on(Match("delete", "memcacheds"), fault, "copies down", times=times),
        on(_PROXIES, fault, "twemproxy", times=times),
        on(_POOL, fault, "shards up", times=times),
        on(_CONFIG, fault, "shards down", times=times),
    )


def foreign_writes(fault: Fault, resource: str, *, times: int = 1) -> Arm:
    return both(
        on(_CHILD, fault, "create", times=times),
        on(Match("apply", resource, subresource="status"), fault, "create", nth=2, times=times),
        on(_CHILD, fault, "change", times=times),
        on(Match("apply", resource, subresource="status"), fault, "change", times=times),
    )


def watches(strike: Strike) -> Arm:
    """The watches that alone tell how far a change has come, each in its midst."""
    return both(
        struck("memcachedclusters", strike, "update"),
        struck("pools", strike, "copies up", "shards up"),
        struck("configmaps", strike, "copies down"),
        struck("deployments", strike, "twemproxy", "shards down"),
    )


def foreign_watches(strike: Strike) -> Arm:
    return both(struck("mcrouters", strike, "change"), struck("compat-clusters", strike, "change", "delete"))


@dataclass
class Outage:
    """From the first write of a step on, every request is broken off for a while, and so are watches with news."""

    step: str
    caches: tuple[str, ...]
    until: float | None = None

    def arm(self, stage: Stage) -> list[Rule]:
        matches = stage.during(self.step, match=self._out)
        broken = [rule for cache in self.caches for rule in struck(cache, breaks, self.step)(stage)]
        return [Rule(matches, unsent, times=ALWAYS), *broken]

    def _out(self, request: Request) -> bool:
        if self.until is None and request.writes:
            self.until = time.monotonic() + OUTAGE
        return self.until is not None and time.monotonic() < self.until


def killed(*where: tuple[Match, str]) -> Arm:
    """memop dies at the first such write of each step, which the API server has carried out, and is started again."""

    def arm(stage: Stage) -> list[Rule]:
        return [
            Rule(stage.during(step, match=match), crash(stage, MOMENTS[number % 2]))
            for number, (match, step) in enumerate(where)
        ]

    return arm


# --- The table --------------------------------------------------------------------------------------------------

CLUSTER_ROWS = [
    Row("write: 409", writes(says(409, "Conflict"))),
    Row("write: 403 for a while", writes(says(403, "Forbidden"), times=4)),
    Row("write: a broken connection after it was carried out", writes(unheard)),
    Row("write: a broken connection whenever tried", writes(unsent, times=3)),
    Row("watch: ended within an event", watches(ends_within), writes_nothing_blindly),
    Row("watch: too slow, events lost", watches(falls_behind), writes_nothing_blindly),
    Row(
        "watch: every event, and the one before again",
        both(*(struck(c, THEN_THE_ONE_BEFORE) for c in CACHES)),
        writes_nothing_blindly,
    ),
    Row(
        "watch: pools and configs a second late",
        both(struck("pools", LATE), struck("configmaps", LATE)),
        writes_nothing_blindly,
    ),
    Row(
        "list: of pools and configs as they once were",
        both(
            struck("pools", GONE, "shards up"),
            OldLists("pools").arm,
            struck("configmaps", GONE, "shards down"),
            OldLists("configmaps").arm,
        ),
        writes_nothing_blindly,
    ),
    Row(
        "list: 404, as if there were no MemcachedCluster and no ServiceMonitor yet",
        both(
            on(Match("list", "memcachedclusters"), says(404, "NotFound"), times=6),
            on(Reads("list", "servicemonitors"), says(404, "NotFound"), "", "create", times=4),
        ),
    ),
    Row(
        "list: 403 for a while",
        both(
            on(Reads("list", "pools"), says(403, "Forbidden"), times=4),
            on(Reads("list", "configmaps"), says(403, "Forbidden"), times=4),
        ),
    ),
    Row("the API server, gone for a while", Outage("shards up", ("memcachedclusters", "pools", "configmaps")).arm),
    Row(
        "memop, killed half-way",
        killed((_CONFIG, "copies up"), (_CONFIG, "copies down"), (_PROXIES, "twemproxy"), (_PROXIES, "shards down")),
    ),
]
FOREIGN_ROWS = [
    Row("write: 409", foreign_writes(says(409, "Conflict"), "mcrouters")),
    Row("write: 403 for a while", foreign_writes(says(403, "Forbidden"), "mcrouters", times=4)),
    Row(f"write: {LOST_AGAIN}", foreign_writes(unheard, "mcrouters", times=2)),
    Row("watch: too slow, events lost", foreign_watches(falls_behind), writes_nothing_blindly),
    Row("list: 404, as if there were no such kind yet", on(Reads("list", "mcrouters"), says(404, "NotFound"), times=4)),
    Row(
        "list: 404, as if there were no MemcachedCluster yet",
        both(
            on(Match("list", "memcachedclusters"), says(404, "NotFound"), "", times=ALWAYS),
            on(Match("list", "memcachedclusters"), says(404, "NotFound"), "create", times=3),
        ),
    ),
    Row("the API server, gone for a while", Outage("change", ("mcrouters", "compat-clusters")).arm),
]
CLUSTER_TABLE = [
    *(
        replace(
            row,
            name=f"cluster: {row.name}",
            then=step_by_step_and(row.then),
            scenario=CLUSTER,
            timeout=TIMEOUT_UNANSWERED,
        )
        for row in CLUSTER_ROWS
    ),
    *(replace(row, name=f"mcrouter: {row.name}", scenario=MCROUTER) for row in FOREIGN_ROWS),
    *(
        Row(f"{name}: write: {LOST_AGAIN}", foreign_writes(unheard, plural, times=2), scenario=kind)
        for name, plural, kind in (
            ("ianlewis", "memcachedclusters", IANLEWIS),
            ("memshack", "memshacks", MEMSHACK),
        )
    ),
]

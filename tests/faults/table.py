"""The fault table: each row is trouble that must leave no trace in what a scenario comes to."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tests.faults.harness import Outcome, Scenario, Stage, run, stage
from tests.faults.scenarios import MEMCACHED, MEMCACHED_DRIFTED, MEMCACHED_RECREATED, WITHOUT_EVENTS
from tests.faults.trouble import (
    ALWAYS,
    GONE,
    LATE,
    PAGE,
    THEN_THE_ONE_BEFORE,
    TWICE,
    Arm,
    OldLists,
    Reads,
    Strike,
    Struck,
    TokenChange,
    answered_late,
    both,
    breaks,
    breaks_within,
    coalesced,
    continued,
    cut_short,
    empty,
    ends,
    ends_within,
    error,
    falls_behind,
    falls_silent,
    first_half_of_a_list,
    first_page,
    half,
    ignored,
    late,
    on,
    only_a_bookmark,
    padded,
    probes,
    replies,
    says,
    second_half_of_a_list,
    struck,
    tells,
    unanswered,
    unheard,
    unknown_first,
    unsent,
)
from tests.support.proxy import Fault, Match, Reply, Request, Rule

# Within which a step converges on a busy machine; likewise where a request is given up after 60 s, a watch after 150.
TIMEOUT, TIMEOUT_UNANSWERED, TIMEOUT_SILENT = 120.0, 180.0, 280.0

Check = Callable[[Stage, Sequence[Rule]], None]


def nothing_more(_: Stage, __: Sequence[Rule]) -> None:
    """The outcome says it all."""


@dataclass(frozen=True)
class Row:
    """`then` asserts what the outcome does not show: how memop got there. A step converges within `timeout`."""

    name: str
    arm: Arm
    then: Check = nothing_more
    scenario: Scenario = MEMCACHED
    timeout: float = TIMEOUT

    def play(self, directory: Path, reference: Outcome) -> None:
        """Raises: AssertionError where the fault has left a trace, or has never happened."""
        with stage(directory) as here:
            rules = self.arm(here)
            here.proxy.rules += rules
            run(self.scenario, here, reference=reference, timeout=self.timeout).assert_equals(reference)
            for rule in rules:
                assert_happened(rule)
            self.then(here, rules)
            assert_sound(here, self.scenario)


def assert_happened(rule: Rule) -> None:
    assert rule.fired, f"never happened: {rule}"
    if isinstance(rule.fault, Struck):
        assert set(rule.fault.times) == set(rule.fault.steps), f"struck at {rule.fault.times} alone"


def assert_sound(here: Stage, scenario: Scenario) -> None:
    """No bug of memop's own came to light, and no fight."""
    for line in here.operator.log():
        assert "traceback" not in line, json.dumps(line)
    writes = here.answers(Match(writes=True))
    assert len(writes) <= scenario.most_writes, f"{len(writes)} writes: {', '.join(map(str, writes))}"


# --- How memop got there ----------------------------------------------------------------------------------------


def waits(seconds: float) -> Check:
    """What was refused is asked again, and not before so many seconds."""

    def check(here: Stage, rules: Sequence[Rule]) -> None:
        for refused in (rule.taken[-1] for rule in rules):
            again = [request for request in here.answers() if request.at > refused.at and _same(request, refused)]
            assert again, f"{refused} was not asked again"
            pause = again[0].at - refused.at
            assert pause >= seconds, f"{refused} again after {pause:.2f} s"

    return check


def _same(request: Request, other: Request) -> bool:
    named = (request.verb, request.resource, request.name) == (other.verb, other.resource, other.name)
    return named and request.query.get("labelSelector") == other.query.get("labelSelector")


def waits_ever_longer(match: Reads, times: int) -> Check:
    """Between as many tries no pause is shorter than client-go's first, and the last is longer than the first."""

    def check(here: Stage, _: Sequence[Rule]) -> None:
        tries = [request.at for request in here.answers(match)[: times + 1]]
        pauses = [after - before for before, after in pairwise(tries)]
        assert min(pauses) >= 0.4, pauses
        assert pauses[-1] > 2 * pauses[0], pauses

    return check


def lists(cache: str, times: int) -> Check:
    """So many lists of a cache, no more and no fewer; asking for the newest version alone is none."""

    def check(here: Stage, _: Sequence[Rule]) -> None:
        found = here.answers(lambda request: Reads("list", cache)(request) and not probes(request))
        assert len(found) == times, f"{len(found)} lists of {cache}"

    return check


def goes_on_from_the_bookmark(here: Stage, _: Sequence[Rule]) -> None:
    for kind in MEMCACHED.kinds:
        first, second = here.answers(Reads("watch", kind))[:2]
        assert int(second.query["resourceVersion"]) > int(first.query["resourceVersion"])
        lists(kind, 1)(here, ())


def writes_nothing_blindly(here: Stage, _: Sequence[Rule]) -> None:
    """No write is based on what was not so: nothing is made that exists, nothing deleted that is gone.

    A deletion may be refused: its object, which the control plane writes to, has changed where memop could not see it.
    """
    writes = here.answers(lambda request: request.writes and request.status in (404, 409))
    wrong = [request for request in writes if (request.verb, request.status) != ("delete", 409)]
    assert not wrong, ", ".join(map(str, wrong))


def others_first(here: Stage, _: Sequence[Rule]) -> None:
    """One refused child keeps none of the others waiting."""
    made = [request.resource for request in here.answers(Match("apply")) if request.status == 201]
    assert made.index("deployments") < made.index("services"), made


def unnoticed(here: Stage, _: Sequence[Rule]) -> None:
    """No reconcile fails of it."""
    failed = [line for line in here.operator.log() if line["msg"] == "reconcile failed"]
    assert not failed, failed


# --- Where it happens -------------------------------------------------------------------------------------------

STATUS = Match("apply", "memcacheds", subresource="status")


def writes(fault: Fault, *, times: int = 1) -> Arm:
    """Every kind of write, each in another step: making a child, changing one, status, deleting one, Events."""
    return both(
        on(Match("apply", "services"), fault, "create", times=times),
        on(Match("apply", "deployments"), fault, "update", times=times),
        on(STATUS, fault, "scale", times=times),
        on(Match("delete", "poddisruptionbudgets"), fault, "feature off", times=times),
        on(Match("create", "events"), fault, times=times),
    )


def relists(fault: Fault) -> Arm:
    """First lists, and those that alone could tell of a change of the CR and of the end of a child; twice each."""
    return both(
        on(Reads("list", "memcacheds"), fault, "", times=2),
        struck("memcacheds", GONE, "update"),
        on(Reads("list", "memcacheds"), fault, "update", times=2),
        on(Reads("list", "deployments"), fault, "", times=2),
        struck("poddisruptionbudgets", GONE, "feature off"),
        on(Reads("list", "poddisruptionbudgets"), fault, "feature off", times=2),
    )


def rewatches(fault: Fault) -> Arm:
    """The watches that alone could tell of a change, twice each."""
    return both(
        on(Reads("watch", "memcacheds"), fault, "update", times=2),
        struck("memcacheds", ends, "update"),
        on(Reads("watch", "deployments"), fault, "scale", times=2),
        struck("deployments", ends, "scale"),
    )


def watches(strike: Strike) -> Arm:
    """Each watch in the midst of what it tells of: a change of the CR, of a child, the end of a child."""
    return both(
        struck("memcacheds", strike, "update"),
        struck("deployments", strike, "scale"),
        struck("poddisruptionbudgets", strike, "feature off"),
    )


def watches_throughout(strike: Strike) -> Arm:
    return both(*(struck(kind, strike) for kind in MEMCACHED.kinds.keys() - WITHOUT_EVENTS))


# --- The table --------------------------------------------------------------------------------------------------

# What any request may be answered with: trouble on the way, ...
TROUBLE: dict[str, Fault] = {
    "429": says(429, "TooManyRequests"),
    "500": says(500, "InternalError"),
    "503": says(503, "ServiceUnavailable"),
    "504": says(504, "Timeout"),
    "a broken connection, unheard of": unsent,
}
# ... what no API server says, ...
NONSENSE: dict[str, Fault] = {
    "a page for people": replies(PAGE),
    "a Status of success": replies(Reply(200, b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}')),
    "a redirection": replies(Reply(302, b"", {"Location": "http://127.0.0.1:1/"})),
}
# ... and half of what was said.
HALVES: dict[str, Fault] = {
    "half an answer that says it is whole": half,
    "half an answer, and a broken connection": cut_short,
}
WRITES = [
    Row("409", writes(says(409, "Conflict"))),
    Row("a broken connection after it was carried out", writes(unheard)),
    Row("that again when tried again", writes(unheard, times=2)),
    Row("a broken connection whenever tried", writes(unsent, times=3)),
    Row("403 for a while", writes(says(403, "Forbidden"), times=6), others_first),
    Row("422 for a while", writes(says(422, "Invalid"), times=6), others_first),
    Row("429 and when to come again", writes(says(429, "TooManyRequests", retry_after=3)), waits(3)),
    Row("503 and when to come again", writes(says(503, "ServiceUnavailable", retry_after=3)), waits(3)),
    Row(
        "429 and to come again later than a request may wait",
        on(Match("apply", "deployments"), says(429, "TooManyRequests", retry_after=12), "update"),
        waits(12),
    ),
    Row("arriving late", writes(late(3))),
    Row("answered after the watch has told of it", writes(answered_late(3))),
    Row("never answered", on(Match("apply", "deployments"), unanswered, "update"), timeout=TIMEOUT_UNANSWERED),
    Row("of a deletion never answered", on(Match("delete"), unanswered, "feature off"), timeout=TIMEOUT_UNANSWERED),
]
LISTS = [
    Row(
        "410 within",
        both(
            struck("memcacheds", GONE, "update"),
            on(first_page(Reads("list", "memcacheds")), first_half_of_a_list, "update"),
            on(continued, says(410, "Expired"), "update"),
        ),
    ),
    Row(
        "500 within",
        both(
            struck("memcacheds", GONE, "update"),
            on(first_page(Reads("list", "memcacheds")), first_half_of_a_list, "update", times=ALWAYS),
            on(continued, says(500, "InternalError"), "update", times=2),
            on(continued, second_half_of_a_list, "update"),
        ),
    ),
    Row("403", relists(says(403, "Forbidden"))),
    Row("404, as if there were no CRD any more", relists(says(404, "NotFound"))),
    Row("404, as if there were no CRD yet", on(Reads("list", "memcacheds"), says(404, "NotFound"), times=4)),
    Row(
        "429 and when to come again",
        on(Reads("list", "memcacheds"), says(429, "TooManyRequests", retry_after=3)),
        waits(3),
    ),
    Row("never answered", on(Reads("list", "memcacheds"), ignored), timeout=TIMEOUT_UNANSWERED),
    Row(
        "of CRs as they once were",
        both(struck("memcacheds", GONE, "update"), OldLists("memcacheds").arm),
        lists("memcacheds", 4),
    ),
    Row(
        "as of an old version, when asked whether to go on",
        both(struck("memcacheds", ends, "update"), OldLists("memcacheds").arm),
        lists("memcacheds", 3),
    ),
    Row(
        "nothing but trouble, when asked whether to go on",
        both(
            struck("memcacheds", ends, "update"),
            *(on(probes, fault, "update", nth=1) for fault in TROUBLE.values()),
        ),
        lists("memcacheds", 1),
    ),
    Row(
        "of children before they were made",
        both(struck("deployments", GONE, "scale"), OldLists("deployments").arm),
        writes_nothing_blindly,
    ),
    Row(
        "of children before they were deleted",
        both(
            struck("poddisruptionbudgets", GONE, "update", "feature off"), OldLists("poddisruptionbudgets", nth=2).arm
        ),
        writes_nothing_blindly,
    ),
]
WATCHES = [
    Row("410", rewatches(says(410, "Expired")), lists("memcacheds", 3)),
    Row("403", rewatches(says(403, "Forbidden")), lists("memcacheds", 3)),
    Row("404", rewatches(says(404, "NotFound")), lists("memcacheds", 3)),
    Row("never started", on(Reads("watch", "memcacheds"), ignored), timeout=TIMEOUT_UNANSWERED),
    Row("CRs, silent", struck("memcacheds", falls_silent, "update"), timeout=TIMEOUT_SILENT),
    Row("children, silent", struck("deployments", falls_silent, "scale"), timeout=TIMEOUT_SILENT),
    Row("410 in its midst", watches(GONE), lists("memcacheds", 2)),
    Row("500 in its midst", watches(tells(error(500, "InternalError"))), lists("memcacheds", 2)),
    Row("an error that nobody knows in its midst", watches(tells(error(799, "Strange"))), lists("memcacheds", 2)),
    Row("an error that is no Status", watches(tells({"type": "ERROR", "object": {}})), lists("memcacheds", 2)),
    Row("ended before an event", watches(ends), lists("memcacheds", 1)),
    Row("broken before an event", watches(breaks)),
    Row("ended within an event", watches(ends_within)),
    Row("broken within an event", watches(breaks_within)),
    Row("too slow, events lost", watches(falls_behind), lists("memcacheds", 2)),
    Row("a page for people in its midst", watches(tells({"html": "Sign in"})), lists("memcacheds", 2)),
    Row("an event of an unknown type", watches(unknown_first), lists("memcacheds", 1)),
    Row("an event of 5 MiB", watches(padded(5 << 20)), lists("memcacheds", 1)),
    Row("an event of 17 MiB", watches(padded(17 << 20)), lists("memcacheds", 2)),
    Row("every event twice", watches_throughout(TWICE), writes_nothing_blindly),
    Row("every event, and the one before again", watches_throughout(THEN_THE_ONE_BEFORE), writes_nothing_blindly),
    Row("every event a second late", watches_throughout(LATE), writes_nothing_blindly, timeout=TIMEOUT_UNANSWERED),
    Row("only the outcome of several events", watches_throughout(coalesced), writes_nothing_blindly),
    Row(
        "nothing but a bookmark",
        # Meanwhile the control plane renews its Leases: the bookmarks are newer than the lists.
        both(
            *(on(Reads("list", kind), answered_late(3)) for kind in MEMCACHED.kinds),
            *(on(Reads("watch", kind), only_a_bookmark) for kind in MEMCACHED.kinds),
        ),
        goes_on_from_the_bookmark,
    ),
    Row(
        "ended at once, again and again",
        on(Reads("watch", "memcacheds"), empty, times=5),
        waits_ever_longer(Reads("watch", "memcacheds"), 5),
    ),
    Row(
        "410 at once, again and again",
        on(Reads("watch", "memcacheds"), says(410, "Expired"), times=4),
        waits_ever_longer(Reads("watch", "memcacheds"), 4),
    ),
    Row("a deleted child, told by a list alone", struck("services", falls_behind, "drift"), scenario=MEMCACHED_DRIFTED),
    Row("a deleted child, broken off", struck("services", breaks_within, "drift"), scenario=MEMCACHED_DRIFTED),
    Row("the end of a CR, told by a list alone", struck("memcacheds", GONE, "delete")),
    Row("the end of a CR, told late", struck("memcacheds", falls_behind, "delete")),
    Row(
        "another CR of the name, told by a list alone",
        struck("memcacheds", falls_behind, "recreate"),
        scenario=MEMCACHED_RECREATED,
    ),
    Row(
        "another CR of the name, told as a change",
        struck("memcacheds", coalesced, "recreate"),
        scenario=MEMCACHED_RECREATED,
    ),
    Row(
        "another CR of the name, and the one before again",
        struck("memcacheds", THEN_THE_ONE_BEFORE, "recreate"),
        scenario=MEMCACHED_RECREATED,
    ),
]
WHOLE_API = [
    Row(
        "services may not be listed", on(Reads("list", "services"), says(403, "Forbidden"), "", "create", times=ALWAYS)
    ),
    Row(
        "services may not be watched",
        on(Reads("watch", "services"), says(403, "Forbidden"), "", "create", times=ALWAYS),
    ),
    Row(
        "budgets may not be listed",
        on(Reads("list", "poddisruptionbudgets"), says(403, "Forbidden"), "", "create", "update", times=ALWAYS),
        timeout=TIMEOUT_UNANSWERED,
    ),
    Row("a Secret, missing for a while", on(Match("get", "secrets"), says(404, "NotFound"), "update")),
    Row("a Secret that may not be read for a while", on(Match("get", "secrets"), says(403, "Forbidden"), "update")),
    Row("a Secret, and trouble", on(Match("get", "secrets"), says(500, "InternalError"), "create", "update", times=2)),
    Row("deployments may not be listed for a while", on(Reads("list", "deployments"), says(403, "Forbidden"), times=4)),
    Row("everything is slow", on(Match(), late(0.7), times=ALWAYS), timeout=TIMEOUT_UNANSWERED),
    Row("a new token, at hand", TokenChange("scale", 0).arm, unnoticed),
    Row("a new token, at hand later", TokenChange("update", 3).arm),
]
TABLE = sorted(
    [
        *(Row(f"write: {name}", writes(fault)) for name, fault in (TROUBLE | NONSENSE | HALVES).items()),
        *(
            Row(f"list: {name}", relists(fault), lists("memcacheds", 6))
            for name, fault in (TROUBLE | NONSENSE | HALVES).items()
        ),
        *(Row(f"watch: {name}", rewatches(fault), lists("memcacheds", 1)) for name, fault in TROUBLE.items()),
        *(Row(f"watch: {name}", rewatches(fault), lists("memcacheds", 3)) for name, fault in NONSENSE.items()),
        *(replace(row, name=f"write: {row.name}") for row in WRITES),
        *(replace(row, name=f"list: {row.name}") for row in LISTS),
        *(replace(row, name=f"watch: {row.name}") for row in WATCHES),
        *WHOLE_API,
    ],
    key=lambda row: -row.timeout,
)

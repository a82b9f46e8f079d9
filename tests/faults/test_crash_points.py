"""memop is killed at every write of every step of a pool's life and started again: the end is as if it never had been.

A write is a request that changes a user's object, Events included. It is numbered as it comes, from the moment in which
the step's user acts. How many a step takes depends a little on when its pods become ready, so several undisturbed runs
are made: memop is killed at as many writes as the longest took, and each that every run surely takes (the shortest
one's, less by how much they vary) must come, in one of a few tries, for one of the two moments at least; the table
tells how many runs had their kill.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults.harness import Outcome, Pool, Scenario, Stage, assert_same, run, snapshot, stage
from tests.faults.scenarios import MEMCACHED
from tests.faults.trouble import MOMENTS, Moment, crash
from tests.support.kubectl import eventually
from tests.support.proxy import Match, Rule

STEPS = [step.name for step in MEMCACHED.steps]
UNDISTURBED = 3  # runs of each step
TRIES = 3  # where the write did not come, as two reports of the status fell into one
CONCURRENT = 8  # runs at once: more than half of each is waiting for silence
SILENCE = 10.0  # seconds without a write at the end
TIMEOUT = 120.0  # seconds for each step, on a machine as busy as this makes it
ANY = Match(writes=True)


@dataclass(frozen=True, slots=True)
class Point:
    """SIGKILL at the step's `number`th write, which the API server has carried out."""

    step: str
    number: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.step}, write {self.number}, {self.moment}"


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run without a crash, and how many writes its last step took."""

    outcome: Outcome
    writes: int


def scenario_of(step: str) -> Scenario:
    """The step, and before it the one that it follows, which makes the CR as well as it would change it."""
    number = STEPS.index(step)
    return replace(MEMCACHED, steps=MEMCACHED.steps[max(number - 1, 0) : number + 1])


def watched(scenario: Scenario, check: Callable[[], None]) -> Scenario:
    """With another check than the steps' own: that all is as in the reference says as much, for half the kubectls."""
    return replace(scenario, steps=tuple(replace(step, check=lambda _: check()) for step in scenario.steps))


def writes_of(stage: Stage, step: str) -> int:
    return len(stage.answers(lambda request: request.writes and request.at >= stage.began[step]))


def undisturbed(directory: Path, step: str) -> Undisturbed:
    with stage(directory) as here:
        outcome = run(scenario_of(step), here, timeout=TIMEOUT)
        return Undisturbed(outcome, writes_of(here, step))


def crashed(directory: Path, point: Point, reference: Outcome) -> bool:
    """Whether the write to crash at ever came. Raises: AssertionError where the end is not the reference's."""
    with stage(directory) as here:
        rule = Rule(here.during(point.step, match=ANY), crash(here, point.moment), nth=point.number)
        here.proxy.rules.append(rule)
        scenario = watched(scenario_of(point.step), here.operator.assert_ready)
        run(scenario, here, reference=reference, timeout=TIMEOUT).assert_equals(reference)
        eventually(here.operator.assert_ready, timeout=TIMEOUT)
        settled = len(here.answers(ANY))
        time.sleep(SILENCE)
        late = here.answers(ANY)[settled:]
        assert not late, f"no silence: {', '.join(map(str, late))}"
        assert_same(snapshot(here, scenario), reference.snapshots[point.step], point.step)
        return bool(rule.fired)


def attempt(directory: Path, point: Point, references: list[Undisturbed]) -> bool | str:
    """Whether the write came, or what went wrong: one failing point must not hide the others."""
    tries = TRIES if point.number <= least(references) else 1
    try:
        return any(crashed(directory / str(number), point, references[0].outcome) for number in range(tries))
    except Exception as error:  # noqa: BLE001 - reported with the others
        return f"{point}: {type(error).__name__}: {error}"


def least(references: list[Undisturbed]) -> int:
    """How many writes every run surely takes: three runs need not have shown the shortest."""
    writes = [reference.writes for reference in references]
    return 2 * min(writes) - max(writes)


def references(directory: Path) -> dict[str, list[Undisturbed]]:
    keys = [(step, number) for step in STEPS for number in range(UNDISTURBED)]
    with Pool(lambda key: undisturbed(directory / f"{key[0]}-{key[1]}", key[0]), keys, concurrent=CONCURRENT) as pool:
        found = {step: [pool.result((step, number)) for number in range(UNDISTURBED)] for step in STEPS}
    for first, *others in found.values():
        for other in others:
            other.outcome.assert_equals(first.outcome)
    return found


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("crds")
def test_a_crash_at_any_write_changes_nothing_in_the_end(tmp_path: Path) -> None:
    """State, creates and deletes of every object are those of an undisturbed run; then there is silence."""
    runs = references(tmp_path / "undisturbed")
    counts = {step: [run.writes for run in runs[step]] for step in STEPS}
    points = [
        Point(step, number, moment)
        for step in STEPS
        for number in range(1, max(counts[step]) + 1)
        for moment in MOMENTS
    ]

    def job(point: Point) -> bool | str:
        return attempt(tmp_path / str(point), point, runs[point.step])

    with Pool(job, points, concurrent=CONCURRENT) as pool:
        came = {point: pool.result(point) for point in points}
    print_table(counts, came)
    failures = [result for result in came.values() if isinstance(result, str)]
    missing = [
        f"{step}, write {number}: never came, though undisturbed runs took {counts[step]} writes"
        for step in STEPS
        for number in range(1, least(runs[step]) + 1)
        if not any(came[Point(step, number, moment)] for moment in MOMENTS)
    ]
    assert not failures + missing, "\n".join([f"{len(failures + missing)} of {len(points)}:", *failures, *missing])


def print_table(counts: dict[str, list[int]], came: dict[Point, bool | str]) -> None:
    """Quoted in release notes."""
    print(f"\n{'step':12} {'writes':>10} {'runs':>5} {'killed':>7} {'as undisturbed':>15}")  # noqa: T201
    for step, writes in counts.items():
        results = [result for point, result in came.items() if point.step == step]
        span = str(min(writes)) if min(writes) == max(writes) else f"{min(writes)} to {max(writes)}"
        killed, good = sum(result is not False for result in results), sum(result is True for result in results)
        print(f"{step:12} {span:>10} {len(results):5} {killed:7} {good:15}")  # noqa: T201

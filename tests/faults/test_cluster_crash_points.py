"""memop is killed at every write that a cluster's or a foreign CR's life takes, and started again: nothing tells.

As in test_crash_points.py, but for savings. One run has a crash in each of its steps, at the write of the same number:
each step must end as undisturbed before the next begins. The two moments take turns. Events are not counted, and of a
foreign CR's writes only those of its own reconciler: what its cluster does is the other scenario's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults.clusters import CLUSTER_ROLLED, MCROUTER
from tests.faults.harness import Outcome, Pool, Scenario, Stage, run, stage
from tests.faults.trouble import MOMENTS, crash
from tests.support.kubectl import eventually
from tests.support.proxy import Match, Request, Rule

UNDISTURBED = 2  # runs of each life
SURE = 0.7  # of the writes come in every run: reports of the status fall together now and then
TIMEOUT = 150.0  # seconds for each step, on a machine as busy as this makes it


def of_a_cluster(request: Request) -> bool:
    return request.writes and request.resource != "events"


def of_a_foreign_cr(request: Request) -> bool:
    child = Match("apply", "memcachedclusters", subresource="")
    return Match(writes=True, resource="mcrouters")(request) or child(request)


@dataclass(frozen=True)
class Life:
    """A scenario without its end, where garbage collection writes alone; `counts` are the writes to crash at."""

    scenario: Scenario
    counts: Callable[[Request], bool]

    @property
    def steps(self) -> list[str]:
        return [step.name for step in self.scenario.steps]

    def writes(self, here: Stage) -> dict[str, int]:
        """How many came in each step."""
        bounds = [*(here.began[step] for step in self.steps), float("inf")]
        at = [request.at for request in here.answers(self.counts)]
        return {
            step: sum(begin <= one < end for one in at)
            for step, begin, end in zip(self.steps, bounds, bounds[1:], strict=False)
        }


LIVES = {
    "cluster": Life(CLUSTER_ROLLED, of_a_cluster),
    "mcrouter": Life(replace(MCROUTER, steps=MCROUTER.steps[:-1]), of_a_foreign_cr),
}


@dataclass(frozen=True)
class Undisturbed:
    outcome: Outcome
    writes: dict[str, int]  # step -> number


def undisturbed(directory: Path, life: Life) -> Undisturbed:
    with stage(directory) as here:
        outcome = run(life.scenario, here, timeout=TIMEOUT)
        return Undisturbed(outcome, life.writes(here))


def crashed(directory: Path, life: Life, number: int, most: dict[str, int], reference: Outcome) -> set[str]:
    """The steps whose `number`th write came. Raises: AssertionError where an end is not the reference's."""
    with stage(directory) as here:
        rules = {
            step: Rule(
                here.during(step, match=life.counts), crash(here, MOMENTS[(number + turn) % len(MOMENTS)]), nth=number
            )
            for turn, step in enumerate(life.steps)
            if number <= most[step]
        }
        here.proxy.rules += rules.values()
        quick = replace(
            life.scenario,
            # That all is as in the reference says as much as the steps' own checks, for fewer kubectls.
            steps=tuple(replace(step, check=lambda _: here.operator.assert_ready()) for step in life.scenario.steps),
        )
        run(quick, here, reference=reference, timeout=TIMEOUT).assert_equals(reference)
        eventually(here.operator.assert_ready, timeout=TIMEOUT)
        return {step for step, rule in rules.items() if rule.fired}


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("crds")
def test_a_crash_at_any_write_of_a_cluster_or_a_foreign_cr_changes_nothing_in_the_end(tmp_path: Path) -> None:
    """State, creates and deletes of every object, after each step, are those of an undisturbed run; then silence."""
    keys = [(name, number) for name in LIVES for number in range(UNDISTURBED)]
    with Pool(lambda key: undisturbed(tmp_path / f"undisturbed-{key[0]}-{key[1]}", LIVES[key[0]]), keys) as pool:
        runs = {name: [pool.result((name, number)) for number in range(UNDISTURBED)] for name in LIVES}
    for first, *others in runs.values():
        for other in others:
            other.outcome.assert_equals(first.outcome)
    counts = {name: {s: [r.writes[s] for r in runs[name]] for s in life.steps} for name, life in LIVES.items()}
    most = {name: {step: max(writes) for step, writes in steps.items()} for name, steps in counts.items()}
    points = [(name, number) for name in LIVES for number in range(1, max(most[name].values()) + 1)]

    def job(point: tuple[str, int]) -> set[str] | str:
        name, number = point
        directory = tmp_path / f"{name}-{number}"
        try:
            return crashed(directory, LIVES[name], number, most[name], runs[name][0].outcome)
        except Exception as error:  # noqa: BLE001 - one failing point must not hide the others
            return f"{name}, write {number} of each step: {type(error).__name__}: {error}"

    with Pool(job, points) as crashes:
        came = {point: crashes.result(point) for point in points}
    failures = [result for result in came.values() if isinstance(result, str)]
    killed = {
        (name, step): [
            number for (of, number), steps in came.items() if of == name and isinstance(steps, set) and step in steps
        ]
        for name in LIVES
        for step in LIVES[name].steps
    }
    for (name, step), numbers in killed.items():  # quoted in docs/faults.md
        print(f"{name:10} {step:12} writes {counts[name][step]}, killed at {numbers}")  # noqa: T201
    missing = [
        f"{name}, {step}: killed at {numbers} alone, though undisturbed runs took {counts[name][step]} writes"
        for (name, step), numbers in killed.items()
        if len(numbers) < SURE * min(counts[name][step])
    ]
    assert not failures + missing, "\n".join([*failures, *missing])

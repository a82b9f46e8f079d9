"""Combinations that nobody thought of: several faults at once, drawn by a seed, and the same end.

`MEMOP_FAULT_SEED=7 make test-faults` plays one more; a failure names its seed and what was drawn.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.faults import trouble
from tests.faults.harness import Outcome, Pool, Stage, run, stage
from tests.faults.scenarios import MEMCACHED
from tests.faults.table import HALVES, NONSENSE, TIMEOUT_UNANSWERED, TROUBLE, assert_sound
from tests.faults.trouble import Strike, Struck
from tests.support.proxy import Fault, Match, Rule

pytestmark = pytest.mark.timeout(600)  # the first test waits for more than its own run
FIXED = (1, 2, 3, 4, 5, 6)
FRESH = 2
# Where pytest-xdist runs the tests, its processes must draw the same.
_SOURCE = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID"))  # noqa: S311 - not a secret
SEEDS = [
    *FIXED,
    *((int(os.environ["MEMOP_FAULT_SEED"]),) if "MEMOP_FAULT_SEED" in os.environ else ()),
    *(_SOURCE.randrange(1 << 32) for _ in range(FRESH)),
]
# Two watches of one kind struck in one run would hide each other's events.
STRIKES: dict[str, Strike] = {
    "410": trouble.GONE,
    "end": trouble.ends,
    "break": trouble.breaks,
    "break within": trouble.breaks_within,
    "end within": trouble.ends_within,
    "fall behind": trouble.falls_behind,
    "twice": trouble.TWICE,
    "late": trouble.LATE,
    "the one before again": trouble.THEN_THE_ONE_BEFORE,
    "coalesced": trouble.coalesced,
}
ANY_REQUEST: dict[str, Fault] = {
    **TROUBLE,
    **NONSENSE,
    "403": trouble.says(403, "Forbidden"),
    "late": trouble.late(1),
}
READS: dict[str, Fault] = {
    "404": trouble.says(404, "NotFound"),
    "410": trouble.says(410, "Expired"),
}
WRITES: dict[str, Fault] = {
    "409": trouble.says(409, "Conflict"),
    "unheard": trouble.unheard,
    "answered late": trouble.answered_late(1),
    **HALVES,
}


@dataclass(frozen=True)
class Draw:
    """One fault of a combination."""

    text: str
    rule: Callable[[Stage], Rule]


def combination(seed: int) -> list[Draw]:
    """Two to five faults; the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    draws = []
    unstruck = list(MEMCACHED.kinds)
    for _ in range(rng.randint(2, 5)):
        drawn = rng.choice((_read, _write, _write, _strike))(rng, unstruck)
        draws.append(drawn)
    return draws


def _read(rng: random.Random, _: list[str]) -> Draw:
    name, fault = rng.choice(sorted({**ANY_REQUEST, **READS}.items()))
    return _rule(rng, Match(rng.choice(("list", "watch")), rng.choice(list(MEMCACHED.kinds))), name, fault)


def _write(rng: random.Random, _: list[str]) -> Draw:
    name, fault = rng.choice(sorted({**ANY_REQUEST, **WRITES}.items()))
    return _rule(rng, Match(writes=True), name, fault)


def _rule(rng: random.Random, match: Match, name: str, fault: Fault) -> Draw:
    nth, times = rng.randint(1, 2 if match.resource else 20), rng.randint(1, 3)
    return Draw(f"{name} to {match} ({nth}, {times} times)", lambda _: Rule(match, fault, nth, times))


def _strike(rng: random.Random, unstruck: list[str]) -> Draw:
    if not unstruck:
        return _write(rng, unstruck)
    kind = unstruck.pop(rng.randrange(len(unstruck)))
    name, strike = rng.choice(sorted(STRIKES.items(), key=lambda item: item[0]))
    step = rng.choice(MEMCACHED.steps).name
    return Draw(
        f"watch of {kind} at {step!r}: {name}",
        lambda stage: Rule(Match("watch", kind), Struck(stage, strike, (step,)), times=trouble.ALWAYS),
    )


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, crds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool[int, None]]:
    """All seeds that were selected, under way."""
    selected = [seed for seed in SEEDS if any(item.name.endswith(f"[{seed}]") for item in request.session.items)]
    directory = tmp_path_factory.mktemp("random")

    def undisturbed(_: str) -> Outcome:
        with stage(directory / "undisturbed") as here:
            return run(MEMCACHED, here)

    def play(seed: int) -> None:
        reference = references.result("")
        with stage(directory / str(seed)) as here:
            here.proxy.rules += [draw.rule(here) for draw in combination(seed)]
            run(MEMCACHED, here, reference=reference, timeout=TIMEOUT_UNANSWERED).assert_equals(reference)
            assert_sound(here, MEMCACHED)

    with Pool(undisturbed, [""]) as references, Pool(play, selected) as pool:
        yield pool


@pytest.mark.parametrize("seed", SEEDS)
def test_several_faults_at_once_change_nothing_in_the_end(played: Pool[int, None], seed: int) -> None:
    try:
        played.result(seed)
    except AssertionError as error:
        drawn = "\n".join(draw.text for draw in combination(seed))
        raise AssertionError(f"MEMOP_FAULT_SEED={seed}:\n{drawn}\n{error}") from error

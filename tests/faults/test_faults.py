"""Whatever happens between memop and the API server, a CR comes to what it comes to undisturbed, and memop rests.

The rows are in table.py and cluster_table.py. They run at once, in namespaces, proxies and processes of their own.
"""

import re
from collections.abc import Iterator

import pytest

from tests.faults.cluster_table import CLUSTER_TABLE
from tests.faults.harness import Outcome, Pool, Scenario, run, stage
from tests.faults.table import TABLE, Row

pytestmark = pytest.mark.timeout(600)  # the first test waits for more than its own row
ALL = [*CLUSTER_TABLE, *TABLE]
ROWS = {row.name: row for row in ALL}


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, crds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool[Row, None]]:
    """All rows that were selected, under way."""
    selected = [row for row in ALL if any(item.name.endswith(f"[{row.name}]") for item in request.session.items)]
    directory = tmp_path_factory.mktemp("faults")

    def undisturbed(scenario: Scenario) -> Outcome:
        with stage(directory / scenario.name.replace(" ", "-")) as here:
            return run(scenario, here)

    def play(row: Row) -> None:
        row.play(directory / re.sub(r"\W+", "-", row.name), references.result(row.scenario))

    with Pool(undisturbed, list({row.scenario for row in selected})) as references, Pool(play, selected) as pool:
        yield pool


def test_the_table_names_each_row_once() -> None:
    assert len(ROWS) == len(ALL)


@pytest.mark.parametrize("name", ROWS)
def test_a_fault_changes_nothing_in_the_end(played: Pool[Row, None], name: str) -> None:
    played.result(ROWS[name])

"""No right of memop's is spare: without any one of them a promise is broken. And in a namespace Roles alone suffice.

memop acts as its ServiceAccount, with the rights of memop.rights less one: see rights_table.py for what each is for,
rights_stage.py and rights_home.py for how that is seen.
"""

import re
from collections.abc import Iterator

import pytest

from memop import rights
from tests.faults.harness import Pool
from tests.faults.rights_home import LACKING, WHOLE, observe, promise
from tests.faults.rights_stage import Played, play
from tests.faults.rights_table import FURTHER, PROMISES, each

pytestmark = pytest.mark.timeout(600)  # the first test waits for all
SERVED = {str(right): right for right in each(rights.served())}


HOMES = WHOLE | LACKING
AT_ONCE = 5  # memops at home


@pytest.fixture(scope="module")
def selected(request: pytest.FixtureRequest) -> set[str]:
    """The parameters of the tests that are to run."""
    parameters = (item.name.partition("[")[2].removesuffix("]") for item in request.session.items)
    return set(parameters)


@pytest.fixture(scope="module")
def played(crds: None, selected: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """What the CRs came to."""
    lacking = [right for name, right in SERVED.items() if name in selected]
    with play(tmp_path_factory.mktemp("rights"), lacking) as played:
        print()  # noqa: T201 - quoted in release notes
        for verdict in played.verdicts.values():
            print(verdict)  # noqa: T201 - as above
        yield played


@pytest.fixture(scope="module")
def homes(
    crds: None, selected: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool[str, dict[str, str]]]:
    """What is not kept at home, under way for every case."""
    directory = tmp_path_factory.mktemp("homes")

    def job(name: str) -> dict[str, str]:
        return observe(directory / re.sub(r"\W+", "-", name), HOMES[name])

    with Pool(job, [name for name in HOMES if name in selected], concurrent=AT_ONCE) as pool:
        yield pool


def test_in_one_namespace_roles_alone_keep_every_promise(played: Played) -> None:
    """And nothing is asked for that they do not grant."""
    broken = [promise.words for promise in (*PROMISES.values(), *FURTHER) if not promise.holds(played.whole)]
    assert not broken, broken
    refused = re.findall(r'rest_client_requests_total\{code="403".*', played.metrics)
    assert not refused, refused
    assert 'rest_client_requests_total{code="200"' in played.metrics


@pytest.mark.parametrize("right", SERVED)
def test_without_any_one_right_in_its_namespace_a_promise_is_broken(played: Played, right: str) -> None:
    verdict = played.verdicts[SERVED[right]]
    assert verdict.kept_with, f"not even with all rights: {verdict.promise.words}"
    assert not verdict.kept_without, f"a spare right: without it, still: {verdict.promise.words}"


@pytest.mark.parametrize("name", WHOLE)
def test_with_all_rights_memop_leads_is_trusted_and_is_scraped(homes: Pool[str, dict[str, str]], name: str) -> None:
    assert not homes.result(name)


@pytest.mark.parametrize("name", LACKING)
def test_without_any_one_right_at_home_a_promise_is_broken(homes: Pool[str, dict[str, str]], name: str) -> None:
    right = LACKING[name].lacks
    assert right is not None
    broken, words = homes.result(name), promise(right).words
    assert broken.get(words), f"a spare right: without it, still: {words}"
    print(f"\n{name:62} not so: {words:40} {broken[words][:110]}")  # noqa: T201 - quoted in release notes

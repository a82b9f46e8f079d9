from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataplane.programs import Programs, Running


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs.unpack(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def running(programs: Programs, tmp_path: Path) -> Iterator[Running]:
    with Running(programs, tmp_path) as running:
        yield running

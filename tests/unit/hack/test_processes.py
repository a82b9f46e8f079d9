"""Ending exactly what was started."""

import dataclasses
import os
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.processes import ProcessTable, end, family, parse_stat, wait_for


@pytest.fixture
def table(tmp_path: Path) -> ProcessTable:
    return ProcessTable(tmp_path / "pids", tmp_path / "logs")


def test_a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    line = "42 (a (b) c) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1"

    stat = parse_stat(line)

    assert (stat.pid, stat.state, stat.parent, stat.started) == (42, "S", 7, 987654)


def test_a_recycled_pid_is_neither_alive_nor_killed(table: ProcessTable) -> None:
    process = table.start("sleeper", ["sleep", "60"])
    try:
        earlier = dataclasses.replace(process, started=process.started - 1)

        assert not earlier.alive()
        end([earlier])
        assert process.alive()
    finally:
        end([process])
    assert not process.alive()


def test_what_was_started_is_found_again_by_a_later_run(table: ProcessTable) -> None:
    first = table.start("first", ["sleep", "60"])
    second = table.start("second", ["sleep", "60"])
    try:
        again = ProcessTable(table.pids, table.logs)

        assert {process.name for process in again.all()} == {"first", "second"}
        assert again.find("second") == second
        assert again.find("third") is None
    finally:
        end([first, second])


def test_output_goes_to_the_log_of_that_name(table: ProcessTable) -> None:
    process = table.start("talker", ["sh", "-c", "echo hello $0", "there"], environment={"X": "1"})
    wait_for(lambda: not process.alive(), seconds=5, failure=lambda: ClusterError("still there"))

    assert process.log.read_text() == "hello there\n"


def test_waiting_ends_when_the_condition_cannot_come_true_any_more() -> None:
    with pytest.raises(ClusterError, match="gone"):
        wait_for(lambda: False, seconds=3600, failure=lambda: ClusterError("gone"), still_possible=lambda: False)


def test_a_process_counts_as_its_own_family() -> None:
    assert {os.getpid(), os.getppid()} <= family(os.getpid())


def test_a_failure_shows_the_end_of_the_log_and_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))

    text = ClusterError("etcd has ended", log=log, hint="look").render()

    assert "| line 99" in text
    assert "| line 10\n" not in text
    assert str(log) in text

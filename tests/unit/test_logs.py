"""What a log line looks like, and what never stands in one."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from memop import logs
from memop.refs import Key


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for name in logs._QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def _lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_logger_message_and_context(out: io.StringIO) -> None:
    logs.configure("info", "json", out)
    log = structlog.stdlib.get_logger("memop.controller")
    with structlog.contextvars.bound_contextvars(namespace="ns", name="cache", reconcile_id=7):
        log.info("reconciled", key=Key("ns", "cache"), odd={1: object}, seconds=0.5)
    log.debug("not this")
    (line,) = _lines(out)
    assert list(line)[:4] == ["ts", "level", "logger", "msg"]
    assert line.pop("ts").endswith("Z")
    assert line.pop("odd") == {"1": "<class 'object'>"}
    assert line == {
        "level": "info",
        "logger": "memop.controller",
        "msg": "reconciled",
        "namespace": "ns",
        "name": "cache",
        "reconcile_id": 7,
        "key": ["ns", "cache"],
        "seconds": 0.5,
    }


def test_an_exception_is_an_error_with_its_traceback(out: io.StringIO) -> None:
    logs.configure("info", "json", out)
    log = structlog.stdlib.get_logger("memop")
    try:
        {"here": 1}["gone"]
    except KeyError as error:
        log.exception("failed")
        log.error("failed", exc_info=error, error="mine")  # noqa: TRY400 - the other way to say it
    first, second = _lines(out)
    assert first["error"] == "KeyError: 'gone'"
    assert second["error"] == "mine"
    for line in (first, second):
        assert line["level"] == "error"
        assert "test_logs.py" in line["traceback"]
        assert "exc_info" not in line


def test_the_standard_librarys_loggers_come_out_the_same_way(out: io.StringIO) -> None:
    logs.configure("info", "json", out)
    logging.getLogger("aiohttp.server").error("Error handling %s", "request", exc_info=ValueError("x"))
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("broken").warning("%d", "no number")
    first, second = _lines(out)
    assert (first["logger"], first["level"], first["msg"]) == ("aiohttp.server", "error", "Error handling request")
    assert first["error"] == "ValueError: x"
    assert "no number" in second["msg"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_concealed(out: io.StringIO, form: str) -> None:
    logs.configure("debug", form, out)
    log = structlog.stdlib.get_logger("memop")
    log.info("token", token="s3cret-value", headers="Authorization: Bearer eyJhbGciOi.s3cret-value")  # noqa: S106
    log.info("a Bearer eyJhbGciOi.s3cret-value came", tokens=3)
    assert "s3cret-value" not in out.getvalue()
    assert out.getvalue().count("[concealed]") == 3


def test_a_terminal_gets_readable_lines(out: io.StringIO) -> None:
    logs.configure("info", "console", out)
    log = structlog.stdlib.get_logger("memop.leader")
    log.info("leading", lease="ns/x")
    try:
        {"here": 1}["gone"]
    except KeyError:
        log.exception("failed")
    assert "leading" in out.getvalue()
    assert "lease=ns/x" in out.getvalue()
    assert "KeyError: 'gone'" in out.getvalue()


def test_what_cannot_be_rendered_or_written_stops_nobody(out: io.StringIO) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logs.configure("info", "json", out)
    structlog.get_logger("memop").info("odd", lone="\ud800", hostile=Hostile())
    assert _lines(out)[0]["lone"] == "'\\ud800'"
    out.close()
    structlog.get_logger("memop").info("nobody reads")
    assert sys.exc_info() == (None, None, None)

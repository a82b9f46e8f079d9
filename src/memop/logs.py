"""Logging, set up once: one JSON object a line for clusters, colours for a terminal; both on standard error.

Names as controller-runtime's zap gives them where they exist: ts, level, logger, msg, error. The standard library's
loggers (aiohttp, asyncio) come out the same way. Bind what a task is about with `structlog.contextvars`.
"""

import logging
import re
import sys
import threading
import traceback
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_KEYS = frozenset({"authorization", "token", "password", "key_pem", "client_secret", "private_key"})
_SECRET_TEXT = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*")
_QUIET = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING}


def configure(level: str, format: Literal["json", "console"] | str, stream: TextIO | None = None) -> None:  # noqa: A002, PYI051
    """Set up structlog and the standard library's logging; `level` is debug, info, warning or error."""
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    if format == "json":
        rendering: list[Processor] = [_format_error, _conceal, _render]
    else:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            event_key="msg",
            timestamp_key="ts",
            exception_formatter=structlog.dev.plain_traceback,
        )
        rendering = [structlog.processors.EventRenamer("msg"), _conceal, console]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Factory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Bridge()], level=threshold, force=True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, threshold))


class _Writer:
    """Where lines go; structlog calls it by the level's name."""

    def __init__(self, name: str, stream: TextIO, lock: threading.Lock) -> None:
        self.name = name
        self._stream = stream
        self._lock = lock

    def msg(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: no reason to stop working
                return

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _Factory:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, *names: Any) -> _Writer:
        return _Writer(str(names[0]) if names else "memop", self._stream, self._lock)


class _Bridge(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = f"{record.msg} {record.args}"
        structlog.get_logger(record.name).log(record.levelno, message, exc_info=record.exc_info)


def _format_error(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`exc_info` becomes `error`, where there is none yet, and `traceback`."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if error is not None:
        event.setdefault("error", f"{type(error).__name__}: {error}")
        event["traceback"] = "".join(traceback.format_exception(error))
    return event


def _conceal(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The last gate: what looks like a credential does not leave the process."""
    for name, value in event.items():
        if name in _SECRET_KEYS and value:
            event[name] = "[concealed]"
        elif isinstance(value, str) and _SECRET_TEXT.search(value):
            event[name] = _SECRET_TEXT.sub("[concealed]", value)
    return event


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    head = {"ts": event.pop("ts", ""), "level": event.pop("level", "")}
    head |= {"logger": event.pop("logger", ""), "msg": event.pop("event", "")}
    line = head | dict(event)
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except Exception:  # noqa: BLE001 - whatever str() of a foreign object does: a log line never stops its writer
        return msgspec.json.encode({name: ascii(value) for name, value in line.items()}).decode()

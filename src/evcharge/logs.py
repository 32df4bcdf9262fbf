"""Logs: for people on a terminal or in a console, for machines one JSON object a line."""

import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TextIO, cast
from uuid import UUID

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from evcharge.console.events import EventLog
from evcharge.protocol.plain_text import one_line, printable
from evcharge.running import let_go

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINES = ("exception", "traceback")
"""Fields that have more than one."""


def make_log(program: str, level: str, events: EventLog | None = None) -> FilteringBoundLogger:
    """A log on stderr: for people on a terminal, else one JSON object a line.

    With `events`, those of a console that fills the screen, people read it there; so it goes to stderr
    only if that is no terminal.
    """
    for_people = sys.stderr.isatty()
    as_json: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(default=str),
    ]
    as_text: list[Processor] = [
        structlog.processors.format_exc_info,
        _plainly,
        structlog.processors.TimeStamper(fmt="iso", utc=False),
        # Not in colours with all local variables, of which some may be secrets.
        structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    render = as_text if for_people else as_json
    if events is not None:
        telling: list[Processor] = [structlog.processors.format_exc_info, _telling(events.tell)]
        render = [*telling, _drop] if for_people else [*telling, *as_json]
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(cast(TextIO, _Stderr())),
        processors=[structlog.processors.add_log_level, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LOG_LEVELS[level]),
    ).bind(program=program)
    return log


class _Stderr:
    """As it is now: a screen takes it away. That nobody reads a log any more is no reason to fail."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            let_go(self._stream)

    def flush(self) -> None:
        """Done with each line."""


def _plainly(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {name: printable(value) if name in LINES else plain(value) for name, value in event.items()}


def plain(value: Any) -> Any:
    """`CHARGING`, not `<Status.CHARGING: 'CHARGING'>`; of text, what does nothing to a terminal."""
    match value:
        case Enum():
            return str(value.value)
        case UUID() | Decimal() | PurePath():
            return str(value)
        case datetime():
            return value.isoformat(timespec="seconds")
        case str():
            return one_line(value)
        case list() | tuple() | set() | frozenset():
            return ", ".join(str(plain(item)) for item in value)
    return value


def _telling(tell: Callable[[str], None]) -> Processor:
    def told(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        tell(line_of(event))
        return event

    return told


def line_of(event: EventDict) -> str:
    """`warning waiting_for_peer  peer=Central cause='connection refused'`; then a traceback, if there is one."""
    aside = ("event", "level", "program", "exception")
    fields = " ".join(f"{name}={_quoted(plain(value))}" for name, value in event.items() if name not in aside)
    level = f"{event['level']} " if event["level"] in ("warning", "error", "critical") else ""
    exception = f"\n{event['exception']}" if "exception" in event else ""
    return f"{level}{event['event']}  {fields}".rstrip() + exception


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def _drop(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    raise structlog.DropEvent

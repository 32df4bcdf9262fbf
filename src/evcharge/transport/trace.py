"""`--trace FILE`: each message that crosses a wire, one JSON line, with direction, peer or topic, and time."""

import errno
import os
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from evcharge.errors import EnvironmentFault
from evcharge.private_files import private
from evcharge.protocol.plain_text import printable_json
from evcharge.throttle import Throttle

SECRET = re.compile("key|passw|pwd|secret|token|authorization|bearer|credential|cookie", re.IGNORECASE)
"""What a field is called, or a line of HTTP begins with, that has a secret in it."""
SECRET_IN_TEXT = re.compile(rf'bearer\s|"[^"]*({SECRET.pattern})[^"]*"\s*:', re.IGNORECASE)
"""In a text that is a value itself: more than the mere word."""
ESCAPE = "\\u"
HIDDEN = "***"


class Trace:
    """Appends to one file; may be called from any thread. On a full disk it leaves lines out, and says so."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        try:
            self._file = open(path, "ab", buffering=0, opener=private)  # noqa: SIM115  # until the program ends
        except OSError as problem:
            raise EnvironmentFault(f"the trace {path} cannot be written: {problem.strerror}") from None
        self._log = log
        self._throttle = Throttle()
        self._cut_off = False
        self._lock = threading.Lock()

    def frame(self, direction: str, peer: str, data: bytes) -> None:
        self._write({"at": datetime.now(UTC), "direction": direction, "peer": peer, "message": _shown(data)})

    def record(self, direction: str, topic: str, key: str | None, data: bytes) -> None:
        self._write(
            {
                "at": datetime.now(UTC),
                "direction": direction,
                "topic": topic,
                "key": key,
                "message": _shown(data),
            }
        )

    def _write(self, line: dict[str, object]) -> None:
        text = printable_json(msgspec.json.encode(line)).encode() + b"\n"
        with self._lock:
            try:
                self._append(text)
            except OSError as problem:
                before = self._throttle.admit(problem.errno, time.monotonic())
                if before is not None:
                    self._log.error("trace_unwritable", cause=problem.strerror, silenced_before=before)

    def _append(self, text: bytes) -> None:
        text = b"\n" + text if self._cut_off else text
        written = self._file.write(text)
        self._cut_off = written < len(text)
        if self._cut_off:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _shown(data: bytes) -> object:
    """The message as an object, its secrets masked; as text when it is no JSON."""
    try:
        return _masked(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = data.decode(errors="backslashreplace")
        if SECRET.search(text) or ESCAPE in text:  # which may spell a letter of such a name
            return f"({len(data)} bytes that are no message and may hold a key)"
        return text


def _masked(value: object) -> object:
    match value:
        case dict():
            return {name: _hidden(of) if SECRET.search(name) else _masked(of) for name, of in value.items()}
        case list():
            return [_masked(item) for item in value]
        case str() if SECRET_IN_TEXT.search(value):
            return HIDDEN
    return value


def _hidden(value: object) -> object:
    return HIDDEN if value not in (None, "") else value

"""`--trace FILE`: each message that crosses a wire, one JSON line, with direction, peer or topic, and time."""

import errno
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from evcharge.errors import EnvironmentFault
from evcharge.protocol.plain_text import printable_json
from evcharge.throttle import Throttle

SECRET_FIELDS = ("key",)


class Trace:
    """Appends to one file; may be called from any thread. On a full disk it leaves lines out, and says so."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        try:
            self._file = path.open("ab", buffering=0)
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
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if any(f'"{name}"'.encode() in data for name in SECRET_FIELDS):
            return f"({len(data)} bytes that are no JSON and may hold a key)"
        return data.decode(errors="backslashreplace")
    if isinstance(message, dict):
        for name in SECRET_FIELDS:
            if message.get(name):
                message[name] = "***"
    return message

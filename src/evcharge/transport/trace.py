"""`--trace FILE`: each message that crosses a wire, one JSON line, with direction, peer or topic, and time."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from evcharge.errors import EnvironmentFault
from evcharge.protocol.plain_text import printable_json

SECRET_FIELDS = ("key",)


class Trace:
    """Appends to one file; may be called from any thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as problem:
            raise EnvironmentFault(f"the trace {path} cannot be written: {problem.strerror}") from None
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
        with self._lock:
            self._file.write(printable_json(msgspec.json.encode(line)).encode() + b"\n")


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

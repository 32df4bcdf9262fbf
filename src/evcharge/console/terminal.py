"""The terminal as Textual drives it, but for one thing: slow, stopped or gone, it never holds the program up."""

import os
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

MOST_WAITING = 1_000_000
PATIENCE_S = 1.0


class Terminal(LinuxDriver):
    """Writes to stdout, as a log on stderr may go elsewhere."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._writer: _Writer | None = None

    def start_application_mode(self) -> None:
        self._writer = _Writer(sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        if self._writer is not None:
            self._writer.write(data)

    def close(self) -> None:
        super().close()
        if self._writer is not None:
            self._writer.close()

    def run_input_thread(self) -> None:
        # The terminal is gone; whoever draws next sees it, too.
        with suppress(OSError):
            super().run_input_thread()

    def caught_up(self) -> bool:
        """Whether, after some of it had to be left out, all can be written anew."""
        return self._writer is not None and self._writer.caught_up()


class _Writer:
    """A thread that writes. What would wait too long is left out."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # Each is written by one thread alone.
        self._queued = 0
        self._written = 0
        self._torn = False
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        data = text.encode(errors="replace")
        if self._queued - self._written > MOST_WAITING:
            self._torn = True
            return
        self._queued += len(data)
        self._queue.put(data)

    def caught_up(self) -> bool:
        if self._torn and self._queued == self._written:
            self._torn = False
            return True
        return False

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        gone = False
        while (data := self._queue.get()) is not None:
            rest = memoryview(data)
            while rest and not gone:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except OSError:
                    gone = True
            self._written += len(data)

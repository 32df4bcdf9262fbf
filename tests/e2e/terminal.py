"""A program in a terminal of its own: what it draws, what is typed, and the terminal that it leaves behind."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import Any

from harness import EVCHARGE, eventually

SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
SCREEN = "\x1b[?1049h"
NO_SCREEN = "\x1b[?1049l"
CURSOR = "\x1b[?25h"
END = "\x1b_end\x1b\\"
"""What no program writes, nor any terminal shows."""
FOREIGN = ("EVCHARGE_", "COLUMNS", "LINES")
"""What whoever runs the tests has set for programs of his own, and for a terminal of another size."""


def _as_a_shell_does() -> None:
    """Give it the terminal; and let it hear of its end, even if whoever runs the tests has no terminal to lose."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """A pseudo-terminal; the program leads its session, as a shell's foreground job does."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        stderr: Path | None = None,
        term: str = "xterm-256color",
        size: tuple[int, int] = (80, 24),
        env: dict[str, str] | None = None,
    ):
        self._terminal, self._program = pty.openpty()
        self.resize(*size, tell=False)
        self._before = termios.tcgetattr(self._program)
        log = stderr.open("w") if stderr is not None else None
        self.process = subprocess.Popen(
            [*EVCHARGE, *arguments],
            stdin=self._program,
            stdout=self._program,
            stderr=log if log is not None else self._program,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
            | {"TERM": term}
            | (env or {}),
            start_new_session=True,
            preexec_fn=_as_a_shell_does,
        )
        if log is not None:
            log.close()
        self._said = b""
        self._wake, self._let_go = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while self._wake not in select.select([self._terminal, self._wake], [], [])[0]:
                self._said += os.read(self._terminal, 65536)
        except OSError:
            pass  # all that had the terminal open have ended

    @property
    def raw(self) -> str:
        return self._said.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was ever written, without colours and positions."""
        return SEQUENCE.sub("", self.raw)

    def saw(self, text: str) -> None:
        eventually(lambda: text in self.text, f"the terminal shows {text!r}; it showed:\n{self.text[-5000:]}")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def resize(self, width: int, height: int, tell: bool = True) -> None:
        fcntl.ioctl(self._program, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def hang(self) -> None:
        """Nothing of what is written is read any more."""
        os.write(self._let_go, b"!")
        self._reader.join()

    def close(self) -> None:
        """The window is closed: the kernel hangs up."""
        self.hang()
        os.close(self._program)
        os.close(self._terminal)

    def ended(self) -> None:
        """All that the program has written has been read; to be called once, after its end."""
        os.write(self._program, END.encode())
        eventually(lambda: END in self.raw, "the terminal has been read to its end")
        self._said = self._said.replace(END.encode(), b"")

    def wait(self) -> int:
        code = self.process.wait(30)
        eventually(lambda: self.is_restored, "the terminal is as it was")
        return code

    @property
    def is_restored(self) -> bool:
        """Whether it echoes and reads lines as before, and the screen has been left."""
        left = self.raw.count(SCREEN) == self.raw.count(NO_SCREEN) and self.raw.rfind(CURSOR) >= 0
        return left and self.settings == self._before

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._program)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

"""The command line that the consoles share: one command a line, one answer each, from a terminal or a pipe."""

import asyncio
import difflib
import os
import shlex
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from evcharge.errors import EvchargeError, UsageError

READ_BYTES = 65536
MAX_KWH = 1000


@dataclass(frozen=True, slots=True)
class Command:
    """`usage` names the arguments; `run` takes them and returns what to answer."""

    usage: str
    help: str
    run: Callable[[list[str]], Awaitable[str]]


class Shell:
    """Reads commands from stdin and answers on stdout. A wrong one gets a sentence, and the next its turn."""

    def __init__(self, commands: dict[str, Command], prompt: str = "") -> None:
        self._commands = commands
        self._prompt = prompt if sys.stdin is not None and sys.stdin.isatty() else ""
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def run(self) -> None:
        """Until stdin ends, or `quit`."""
        threading.Thread(target=self._read, args=(asyncio.get_running_loop(),), daemon=True).start()
        while True:
            self._show_prompt()
            line = await self._lines.get()
            if line is None or line.strip() in ("quit", "exit"):
                return
            answer = await self.answer(line)
            if answer:
                print(answer, flush=True)  # noqa: T201  # results go to stdout

    async def answer(self, line: str) -> str:
        try:
            words = shlex.split(line, comments=True)
            if not words:
                return ""
            if words[0] == "help":
                return self._help()
            return await self._command(words[0]).run(words[1:])
        except ValueError as problem:
            return f"error: {problem}"
        except EvchargeError as problem:
            return f"error: {problem}"

    def _command(self, name: str) -> Command:
        if name in self._commands:
            return self._commands[name]
        near = difflib.get_close_matches(name, self._commands, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "'help' lists the commands"
        raise UsageError(f"there is no command {name!a}; {hint}")

    def _help(self) -> str:
        rows = [(f"{name} {command.usage}".strip(), command.help) for name, command in self._commands.items()]
        rows += [("help", "this list"), ("quit", "leave")]
        width = max(len(left) for left, _ in rows)
        return "\n".join(f"{left:<{width}}  {right}" for left, right in rows)

    def _show_prompt(self) -> None:
        if self._prompt:
            print(self._prompt, end="", flush=True)  # noqa: T201

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not through sys.stdin: a thread that waits in it would keep the interpreter from ending.
        rest = b""
        try:
            # Without a stdin its number may be another file's by now.
            while sys.stdin is not None and (data := os.read(0, READ_BYTES)):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._lines.put_nowait, line.decode(errors="replace"))
            if rest:
                loop.call_soon_threadsafe(self._lines.put_nowait, rest.decode(errors="replace"))
            loop.call_soon_threadsafe(self._lines.put_nowait, None)
        except (OSError, RuntimeError):
            return  # no stdin, or the program has ended


def energy_wh_of(text: str) -> int:
    """An energy that a person typed in kWh, in Wh."""
    return round(number(text, "the energy in kWh", 0.001, MAX_KWH) * 1000)


def number(text: str, what: str, least: float, most: float) -> float:
    """A number that a person typed; raises `UsageError` with the range."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UsageError(f"{what} must be a number from {least:g} to {most:g}, not {text!a}")
    return value

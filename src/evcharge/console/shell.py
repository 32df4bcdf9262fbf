"""What one can say to a console: commands, the answer to each, completion, and help. Nothing of terminals."""

import difflib
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from evcharge.errors import EvchargeError, UsageError
from evcharge.protocol.notation import is_plain

MAX_KWH = 1000
MAX_DIGITS = 18
QUIT = ("quit", "exit")


class ShownOnce(str):
    """An answer with a secret in it: a console that keeps what it has shown soon keeps `kept` in its place."""

    kept: str

    def __new__(cls, text: str, kept: str) -> "ShownOnce":
        answer = super().__new__(cls, text)
        answer.kept = kept
        return answer


@dataclass(frozen=True, slots=True)
class Command:
    """`usage` names the arguments; `run` takes them and returns what to answer.

    `completes` has, for each argument in turn, a function that lists what it may be.
    """

    usage: str
    help: str
    run: Callable[[list[str]], Awaitable[str]]
    completes: tuple[Callable[[], Iterable[str]], ...] = ()


class Commands:
    """All that one can say to one console. `help` is among them; `quit` is for whoever shows the console to do."""

    def __init__(self, commands: Mapping[str, Command], quit_help: str) -> None:
        self._commands = dict(commands)
        self._commands["help"] = Command(
            "[COMMAND]", "this list, or one line of it", self._help, (lambda: self._commands,)
        )
        self._commands["quit"] = Command("", quit_help, _nothing)

    async def answer(self, line: str) -> str:
        """The answer, or what is wrong as `error: ...`. Nothing that is typed raises."""
        try:
            return await self.run(line)
        except EvchargeError as problem:
            return f"error: {problem}"
        except Exception as bug:  # noqa: BLE001  # a bug in one command must not end a program that charges
            return f"error: this command has a bug, {type(bug).__name__}: {bug}"

    async def run(self, line: str) -> str:
        """The answer; raises an `EvchargeError` that says why there is none."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as problem:
            raise UsageError(f"{problem}".lower()) from None
        if not words:
            return ""
        return await self._command(words[0]).run(words[1:])

    def complete(self, line: str) -> list[str]:
        """Whole lines that `line` may become."""
        start = len(line) - len(line.split(" ")[-1])
        before, word = line[:start], line[start:]
        return [
            before + found
            for found in self._candidates(before.split())
            if found.startswith(word) and found != word
        ]

    def _candidates(self, words: list[str]) -> list[str]:
        if not words:
            return list(self._commands)
        command = self._commands.get(words[0])
        if command is None or len(words) > len(command.completes):
            return []
        return list(command.completes[len(words) - 1]())

    def _command(self, name: str) -> Command:
        if name in self._commands:
            return self._commands[name]
        near = difflib.get_close_matches(name, self._commands, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "'help' lists the commands"
        raise UsageError(f"there is no command {name!a}; {hint}")

    async def _help(self, words: list[str]) -> str:
        if len(words) > 1:
            raise UsageError("say: help [COMMAND]")
        shown = {name: self._command(name) for name in words} or self._commands
        rows = [(f"{name} {command.usage}".strip(), command.help) for name, command in shown.items()]
        width = max(len(left) for left, _ in rows)
        return "\n".join(f"{left:<{width}}  {right}" for left, right in rows)


async def _nothing(words: list[str]) -> str:
    return ""


def is_quit(line: str) -> bool:
    return line.strip() in QUIT


def energy_wh_of(text: str) -> int:
    """An energy that a person typed in kWh, in Wh."""
    return round(number(text, "the energy in kWh", 0.001, MAX_KWH) * 1000)


def number(text: str, what: str, least: float, most: float) -> float:
    """A number that a person typed; raises `UsageError` with the range."""
    value = float(text) if is_plain(text) else float("nan")
    if not least <= value <= most:
        raise UsageError(f"{what} must be a number from {least:g} to {most:g}, not {text!a}")
    return value


def whole_number(text: str, what: str, least: int, most: int) -> int:
    """The same without a fraction."""
    plausible = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not plausible or not least <= int(text) <= most:
        raise UsageError(f"{what} must be a whole number from {least} to {most}, not {text!a}")
    return int(text)


def no_more(words: list[str], command: str) -> None:
    """Raises `UsageError` if there are arguments to a command that takes none."""
    if words:
        raise UsageError(f"{command} takes nothing more, not {' '.join(words)!a}")

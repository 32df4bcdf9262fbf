"""The line at the bottom of a screen: history, completion, and what was said."""

import os
from collections.abc import Callable

from textual.events import Key, Paste
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from evcharge.console.shell import Commands

HISTORY = 200


class Said(Message):
    """A line that was typed."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line


class CommandLine(Input):
    """Up and down: what was typed before. Tab: what it may become."""

    def __init__(self, commands: Commands, show_choices: Callable[[list[str]], None]) -> None:
        super().__init__(suggester=_Suggester(commands), select_on_focus=False)
        self.cursor_blink = False
        self._commands = commands
        self._show_choices = show_choices
        self._history: list[str] = []
        self._at = 0
        self._draft = ""
        self._keys = {
            "enter": self._say,
            "ctrl+j": self._say,  # return, as it was typed before the screen was up
            "tab": self._complete,
            "up": self._earlier,
            "down": self._later,
            "escape": self._clear,
        }

    async def _on_key(self, event: Key) -> None:
        # Here and not by bindings: those would come after what was typed next.
        act = self._keys.get(event.key)
        if act is None:
            await super()._on_key(event)
        else:
            event.stop()
            event.prevent_default()
            act()

    def _on_paste(self, event: Paste) -> None:
        """Each whole line is said."""
        event.stop()
        event.prevent_default()
        *lines, rest = event.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            self.insert_text_at_cursor(line)
            self._say()
        self.insert_text_at_cursor(rest)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show_choices([])

    def _say(self) -> None:
        line = self.value.strip()
        if line and self._history[-1:] != [line]:
            self._history = [*self._history, line][-HISTORY:]
        self._clear()
        if line:
            self.post_message(Said(line))

    def _earlier(self) -> None:
        if self._at == len(self._history):
            self._draft = self.value
        if self._at > 0:
            self._at -= 1
            self._set(self._history[self._at])

    def _later(self) -> None:
        if self._at < len(self._history):
            self._at += 1
            self._set(self._history[self._at] if self._at < len(self._history) else self._draft)

    def _clear(self) -> None:
        self._at = len(self._history)
        self._set("")

    def _complete(self) -> None:
        lines = self._commands.complete(self.value)
        if not lines:
            if self.value and not self.value.endswith(" ") and self._commands.complete(self.value + " "):
                self._set(self.value + " ")
            return
        common = os.path.commonprefix(lines)  # noqa: RUF071
        more = " " if len(lines) == 1 and self._commands.complete(common + " ") else ""
        with self.prevent(Input.Changed):
            self._set(common + more)
        self._show_choices([line.split(" ")[-1] for line in lines] if len(lines) > 1 else [])

    def _set(self, line: str) -> None:
        self.value = line
        self.cursor_position = len(line)


class _Suggester(Suggester):
    """The first thing that the line may become, as a shadow behind the cursor."""

    def __init__(self, commands: Commands) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._commands = commands

    async def get_suggestion(self, value: str) -> str | None:
        return next(iter(self._commands.complete(value)), None)

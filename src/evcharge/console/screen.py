"""A console that fills the screen: panels above, what happened below them, a command line at the bottom."""

import asyncio
import io
import select
import signal
from collections.abc import Iterator
from typing import ClassVar

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Print, Resize
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from evcharge.console.command_line import CommandLine, Said
from evcharge.console.events import Event
from evcharge.console.front import Front, say
from evcharge.console.shell import ShownOnce, is_quit
from evcharge.console.terminal import Terminal
from evcharge.errors import EvchargeError
from evcharge.protocol.plain_text import one_line

REDRAW_S = 0.25
SECRET_SHOWN_S = 60.0
"""Long enough to copy it."""
SMALL_HEIGHT = 14
SMALL_WIDTH = 50
MOST_EVENT_LINES = 8
HINT_BACK = "PgUp PgDn   what happens now is shown again at the end"
HINT = "Tab completes   ↑↓ history   PgUp PgDn events   help   quit"

# What Rich draws, without markup: a peer's words are words.
_console = Console(
    file=io.StringIO(), force_terminal=True, color_system="truecolor", markup=False, emoji=False, highlight=False
)


async def show(front: Front, stop: asyncio.Event) -> bool:
    """Fill the screen until `stop`, `quit` (true) or the terminal is gone; then the terminal is as it was."""
    screen = ConsoleScreen(front)
    showing = asyncio.ensure_future(screen.run_async(mouse=False))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({showing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not showing.done():
            screen.exit(False)
            await asyncio.wait({showing})
        # Textual's handlers would bring the screen back.
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        front.events.listen(say)  # what still happens is told where the screen was
    quitted = showing.result() is True
    if screen.return_code:
        raise EvchargeError("the console has failed, as told above")
    return quitted


class ConsoleScreen(App[bool]):
    """Textual's application around a `Front`."""

    CSS = """
    * { scrollbar-size: 0 0; }
    #title { height: 1; text-style: bold reverse; padding: 0 1; }
    Drawn { height: 0; }
    #events { height: 1fr; }
    #line { height: 1; }
    #prompt { width: auto; text-style: bold; }
    #hint { height: 1; text-style: dim; }
    CommandLine, CommandLine:focus { border: none; padding: 0; height: 1; width: 1fr; background: ansi_default; }
    .small #title, .small #hint { display: none; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", priority=True),
        Binding("ctrl+d", "end_of_input", priority=True),
        Binding("ctrl+q", "nothing", priority=True),
        Binding("ctrl+z", "suspend_process", priority=True),
        Binding("pageup", "older", priority=True),
        Binding("pagedown", "newer", priority=True),
    ]

    def __init__(self, front: Front) -> None:
        super().__init__(driver_class=Terminal)
        self._front = front
        self._answering: set[asyncio.Task[None]] = set()
        self._panels = Drawn(id="panels")
        self._events = Drawn(id="events")
        self._hint = Static(id="hint")
        self._told_before = 0
        self._looking_back: LookingBack | None = None
        self._secrets: dict[int, str] = {}
        """What to show in the place of an event that a secret is in."""

    def compose(self) -> ComposeResult:
        yield Static(Text(self._front.title), id="title")
        yield self._panels
        yield self._events
        with Horizontal(id="line"):
            yield Static(Text(self._front.prompt), id="prompt")
            yield CommandLine(self._front.commands, self._show_choices)
        yield self._hint

    def on_mount(self) -> None:
        # Textual makes tasks eager where Python can; the program was not written for that.
        asyncio.get_running_loop().set_task_factory(None)
        self.theme = "ansi-dark"
        self._show_choices([])
        self.begin_capture_print(self)
        self.query_one(CommandLine).focus()
        self._told_before = self._front.events.told
        self.app_resume_signal.subscribe(self, lambda app: self._draw_anew())
        self.set_interval(REDRAW_S, self.redraw)

    def on_resize(self, event: Resize) -> None:
        self.screen.set_class(event.size.height < SMALL_HEIGHT, "small")
        self.call_after_refresh(self.redraw)

    def on_print(self, event: Print) -> None:
        """What the program prints while the screen is up."""
        self._front.events.tell(event.text)

    def redraw(self) -> None:
        if isinstance(self._driver, Terminal):
            if _hung_up():
                self.exit(False)
                return
            if self._driver.caught_up():
                self._draw_anew()
        width, height = self.size
        small = height < SMALL_HEIGHT
        room = height - (1 if small else 3)
        most = room - max(1, min(MOST_EVENT_LINES, room // 4))
        if width > 0 and most > 0:
            self._panels.draw(self._panel_lines(width, most), most)
            self._panels.styles.height = self._panels.drawn_height
        if width > 0 and self._events.size.height > 0:
            self._events.draw(self._event_lines(width, self._events.size.height), self._events.size.height)

    def _draw_anew(self) -> None:
        """Each cell, as what is on the terminal is not known."""
        self.refresh(layout=True)

    def _panel_lines(self, width: int, height: int) -> list[list[Segment]]:
        try:
            drawn = self._front.panels(width, height)
            return _console.render_lines(drawn, _console.options.update(width=width, height=None))
        except Exception as bug:  # noqa: BLE001  # a bug in a picture must not end a program that charges
            return [[Segment(f"this cannot be drawn, {type(bug).__name__}: {bug}", Style(color="red"))]]

    # What happened

    def _event_lines(self, width: int, height: int) -> list[list[Segment]]:
        if self._looking_back is not None:
            return self._looking_back.lines(width, height)
        lines, shown = _last_lines(self._front.events.last(), width, height)
        told = self._front.events.told
        missed = told - self._told_before - shown
        self._told_before = told
        if missed > 0 and len(lines) == height:
            lines[0] = [Segment(f"… {missed} more", Style(dim=True))]
        return lines

    def action_older(self) -> None:
        if self._looking_back is None:
            self._looking_back = LookingBack(self._front.events.last())
        self._looking_back.turn(self._events.size.height - 1)
        self._show_choices([])
        self.redraw()

    def action_newer(self) -> None:
        if self._looking_back is not None:
            self._looking_back.turn(1 - self._events.size.height)
            if self._looking_back.at_end:
                self._look_ahead()
        self.redraw()

    def _look_ahead(self) -> None:
        self._looking_back = None
        self._told_before = self._front.events.told
        self._show_choices([])

    # What is typed

    def on_said(self, said: Said) -> None:
        if is_quit(said.line):
            self.exit(True)
            return
        self._hide_secrets()
        self._look_ahead()
        self._front.events.tell(f"> {said.line}")
        task = asyncio.get_running_loop().create_task(self._answer(said.line))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, line: str) -> None:
        answer = await self._front.commands.answer(line)
        number = self._front.events.add(answer)
        if isinstance(answer, ShownOnce):
            self._secrets[number] = answer.kept
            self.set_timer(SECRET_SHOWN_S, self._hide_secrets)
        self.redraw()

    def _hide_secrets(self) -> None:
        """Of those that have been on the screen for a while, or are followed by another command."""
        if not self._secrets:
            return
        for number, kept in self._secrets.items():
            self._front.events.retell(number, kept)
        self._secrets.clear()
        self._look_ahead()
        self.redraw()

    def on_unmount(self) -> None:
        for task in self._answering:
            task.cancel()

    def _show_choices(self, words: list[str]) -> None:
        hint = HINT if self._looking_back is None else HINT_BACK
        text = one_line("   ".join(words)) if words else hint
        self._hint.update(Text(text, overflow="ellipsis", no_wrap=True))

    def action_interrupt(self) -> None:
        # As the terminal itself would have done, had it not been told to pass each key on.
        signal.raise_signal(signal.SIGINT)

    def action_end_of_input(self) -> None:
        if self._front.ends_with_stdin and not self.query_one(CommandLine).value:
            self.exit(True)

    def action_nothing(self) -> None:
        """For keys that mean something to Textual, and nothing here."""


class Drawn(Widget, can_focus=False):
    """Lines that were drawn elsewhere; the screen is only written to when they change."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[list[Segment]] = []
        self.drawn_height = 0

    def draw(self, lines: list[list[Segment]], most: int) -> None:
        lines = [[_harmless(segment) for segment in line] for line in lines[:most]]
        if lines != self._lines:
            self._lines = lines
            self.drawn_height = len(lines)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        line = self._lines[y] if y < len(self._lines) else []
        return Strip(line).adjust_cell_length(self.size.width, Style.null())


class LookingBack:
    """The events up to a moment, to be read page by page while others happen."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._below = 0
        self._width = 0
        self._lines: list[list[Segment]] = []

    def turn(self, lines: int) -> None:
        self._below = max(0, self._below + lines)

    @property
    def at_end(self) -> bool:
        return self._below == 0

    def lines(self, width: int, height: int) -> list[list[Segment]]:
        if width != self._width:
            self._width = width
            self._lines = [line for event in self._events for line in _lines_of(event, width)]
        self._below = min(self._below, max(0, len(self._lines) - height))
        end = len(self._lines) - self._below
        return self._lines[max(0, end - height) : end]


def _last_lines(events: list[Event], width: int, height: int) -> tuple[list[list[Segment]], int]:
    """As many of the last lines as fit, and of how many events: the cost does not grow with what happened."""
    lines: list[list[Segment]] = []
    shown = 0
    for event in reversed(events):
        if len(lines) >= height:
            break
        lines = [*_lines_of(event, width), *lines]
        shown += 1
    return lines[-height:], shown


def _lines_of(event: Event, width: int) -> list[list[Segment]]:
    time = f"{event.at.astimezone():%H:%M:%S}  " if width >= SMALL_WIDTH else ""
    room = max(1, width - len(time))
    margin = time
    lines = []
    for line in _wrapped(event.text, room):
        lines.append([Segment(margin, Style(dim=True)), Segment(line, _style_of(event.text))])
        margin = " " * len(time)
    return lines


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in text.split("\n"):
        for piece in Text(line).wrap(_console, width) or [Text()]:
            yield piece.plain.rstrip()


def _style_of(text: str) -> Style:
    if text.startswith("> "):
        return Style(bold=True)
    if text.startswith("error"):
        return Style(color="red")
    return Style(color="yellow") if text.startswith("warning") else Style()


def _harmless(segment: Segment) -> Segment:
    # With a style, even if it is none: Textual's filters (NO_COLOR) need one.
    return Segment(one_line(segment.text), segment.style or Style.null())


def _hung_up() -> bool:
    poll = select.poll()
    poll.register(0, 0)
    return any(happened & select.POLLHUP for _, happened in poll.poll(0))

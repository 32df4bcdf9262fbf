"""A console in the three ways in which it can be met: full screen, a prompt, or plain lines through pipes.

Full screen (`screen.py`) where people sit at a terminal that can do it; on one that cannot, a prompt; without a
terminal, the same commands come on stdin, one a line, and the answers go to stdout.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from evcharge.console.events import EventLog
from evcharge.console.shell import Commands, is_quit
from evcharge.console.stdin import lines_of_stdin
from evcharge.protocol.plain_text import printable
from evcharge.running import let_go

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Front:
    """A console: what it shows and what one can say to it.

    `panels` gets the size in cells that it may fill and says what to draw there; it is called at most four times a
    second, in the event loop's thread, and only while somebody looks. A server goes on when its stdin ends; what
    is there for its user alone `ends_with_stdin`, and tells its events, too, where there is no screen.
    """

    title: str
    commands: Commands
    panels: "Callable[[int, int], RenderableType]"
    events: EventLog
    ends_with_stdin: bool = False
    prompt: str = "> "


def is_full_screen(headless: bool = False) -> bool:
    """Whether a console that starts here and now fills the screen."""
    capable = os.environ.get("TERM", "") not in ("", "dumb")
    return (
        not headless and capable and _is_terminal(sys.stdin) and _is_terminal(sys.stdout) and not _in_background()
    )


async def run_front(front: Front, stop: asyncio.Event) -> None:
    """Serve the console until `stop`, `quit`, or the end of stdin. `quit` sets `stop` for a server."""
    if is_full_screen():
        # Here, as it takes longer to load than a driver's command to run.
        from evcharge.console.screen import show

        ended = await show(front, stop)
    else:
        ended = await _in_lines(front, stop)
    if ended and not front.ends_with_stdin:
        stop.set()


async def attended(work: Awaitable[T], front: Front | None, stop: asyncio.Event) -> T:
    """What `work` returns or raises, with its console beside it, which has left the screen by then."""
    return await beside(work, run_front(front, stop) if front is not None else None)


async def beside(work: Awaitable[T], shown: Awaitable[None] | None) -> T:
    """The same for a console that does more than to show a front."""
    if shown is None:
        return await work
    console = asyncio.ensure_future(shown)
    console.add_done_callback(_tell_if_failed)
    try:
        result = await work
    finally:
        console.cancel()
        await asyncio.wait({console})
    if not console.cancelled():
        console.result()
    return result


def _tell_if_failed(console: "asyncio.Future[None]") -> None:
    """At once: the work goes on, and nobody should wait for a console that is no more."""
    problem = None if console.cancelled() else console.exception()
    if problem is not None:
        say(f"the console has failed, all else goes on: {problem!r}")


async def _in_lines(front: Front, stop: asyncio.Event) -> bool:
    if _is_terminal(sys.stdin) and _in_background():
        return False  # to read the terminal would stop us
    prompt = front.prompt if _is_terminal(sys.stdin) else ""
    lines = lines_of_stdin()
    coming: asyncio.Future[str | None] | None = None
    stopped = asyncio.ensure_future(stop.wait())
    if front.ends_with_stdin:
        front.events.listen(say)
    try:
        while True:
            if prompt:
                print(prompt, end="", flush=True)  # noqa: T201
            coming = asyncio.ensure_future(lines.get())
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return False
            line = coming.result()
            if line is None:
                return False
            if is_quit(line):
                return True
            answer = await front.commands.answer(line)
            if answer:
                say(answer)
    finally:
        stopped.cancel()
        if coming is not None:
            coming.cancel()


def say(text: str) -> None:
    """Tell a person who has no screen; results go to stdout."""
    try:
        print(printable(text), flush=True)  # noqa: T201
    except OSError:
        let_go(sys.stdout)


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and isatty()


def _in_background() -> bool:
    """Whether the shell that started us has kept the terminal (`&`), so that we may not touch it."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False

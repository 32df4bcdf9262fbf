"""Screens as plain text, compared with what they were; `UPDATE_SNAPSHOTS=1` takes what they are now."""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from textual.pilot import Pilot

from evcharge.console.command_line import CommandLine
from evcharge.console.front import Front
from evcharge.console.screen import ConsoleScreen

SIZES = ((80, 24), (120, 40))

Play = Callable[[ConsoleScreen, "Pilot[bool]"], Awaitable[None]]


def text_of(screen: ConsoleScreen) -> str:
    strips = screen.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def played(front: Front, size: tuple[int, int], play: Play) -> str:
    """What a screen of this size shows after `play`, which types."""

    async def run() -> str:
        screen = ConsoleScreen(front)
        async with screen.run_test(size=size) as pilot:
            await play(screen, pilot)
            await settled(screen, pilot)
            return text_of(screen)

    return asyncio.run(run())


def shown(front: Front, size: tuple[int, int], *lines: str) -> str:
    """What it shows after these lines were typed, one after the other."""

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for line in lines:
            await typed(pilot, line)
            await pilot.press("enter")
            await settled(screen, pilot)

    return played(front, size, play)


async def typed(pilot: Pilot[bool], text: str) -> None:
    """In one go: to press each key takes a while."""
    pilot.app.query_one(CommandLine).insert_text_at_cursor(text)
    await pilot.pause()


async def settled(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
    """All that was typed has been answered and drawn."""
    await pilot.pause()
    screen.redraw()
    await pilot.pause()


def compare(path: Path, text: str) -> None:
    """With the snapshot of that name, as plain text in the file."""
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    before = path.read_text("utf-8") if path.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(before.splitlines(), text.splitlines(), "before", "now", lineterm="")
    )
    assert before == text, f"{path.name} looks otherwise (UPDATE_SNAPSHOTS=1 takes it as it is now):\n{difference}"


@contextmanager
def utc() -> Iterator[None]:
    """Local time is UTC, wherever the test runs."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()

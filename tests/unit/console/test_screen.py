"""The console that fills the screen: what is typed, what is shown, in any size."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from snapshots import Play, played, settled, shown, text_of, typed, utc
from textual.events import Key, Paste
from textual.pilot import Pilot

from evcharge.console.command_line import CommandLine
from evcharge.console.events import EventLog
from evcharge.console.front import Front
from evcharge.console.screen import HINT, ConsoleScreen, Drawn
from evcharge.console.shell import Command, Commands, ShownOnce

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SIZE = (80, 24)


@pytest.fixture(autouse=True)
def _utc() -> object:
    with utc():
        yield


async def echo(words: list[str]) -> str:
    return repr(words)


async def broken(words: list[str]) -> str:
    raise KeyError("x")


COMMANDS = {
    "charge": Command("CP_ID [KWH]", "ask for a charge", echo, (lambda: ["CP001", "CP002", "STATION:1"],)),
    "chat": Command("", "talk", echo),
    "broken": Command("", "show a bug", broken),
}


def a_panel(width: int, height: int) -> RenderableType:
    return Text("a panel")


def front(
    panels: Callable[[int, int], RenderableType] = a_panel,
    ends_with_stdin: bool = False,
    prompt: str = "> ",
    commands: Mapping[str, Command] = COMMANDS,
) -> Front:
    return Front(
        "a test", Commands(commands, "leave"), panels, EventLog(now=lambda: NOON), ends_with_stdin, prompt
    )


def line_of(screen: ConsoleScreen) -> str:
    return screen.query_one(CommandLine).value


def hint_of(screen: ConsoleScreen) -> str:
    return text_of(screen).splitlines()[-1].strip()


# What is shown


def test_panels_events_and_command_line() -> None:
    lines = shown(front(prompt="ana> "), SIZE).splitlines()
    assert len(lines) == 24
    assert lines[0].strip() == "a test"
    assert lines[1] == "a panel"
    assert lines[-2:] == ["ana>", HINT]


def test_an_answer_is_among_the_events() -> None:
    lines = shown(front(), SIZE, "charge CP001", "chrage", "broken").splitlines()
    assert lines[2:8] == [
        "12:00:00  > charge CP001",
        "12:00:00  ['CP001']",
        "12:00:00  > chrage",
        "12:00:00  error: there is no command 'chrage'; did you mean 'charge'?",
        "12:00:00  > broken",
        "12:00:00  error: this command has a bug, KeyError: 'x'",
    ]


def test_an_answer_of_several_lines_and_a_long_one_are_shown_whole() -> None:
    tested = front()
    tested.events.tell("first\nsecond")
    tested.events.tell("word " * 30)
    lines = shown(tested, SIZE).splitlines()
    assert lines[2:6] == [
        "12:00:00  first",
        "          second",
        "12:00:00  " + "word " * 13 + "word",
        "          " + "word " * 13 + "word",
    ]


async def said(screen: ConsoleScreen, pilot: Pilot[bool], line: str) -> None:
    await typed(pilot, line)
    await pilot.press("enter")
    await settled(screen, pilot)


async def add_key(words: list[str]) -> str:
    return ShownOnce("the key: s3cret", "the key: (it was shown)")


def test_a_secret_is_on_the_screen_until_the_next_command_and_then_nowhere() -> None:
    tested = front(commands={"add": Command("", "add a key", add_key), **COMMANDS})
    seen: list[str] = []

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await said(screen, pilot, "add")
        seen.append(text_of(screen))
        await pilot.press("pageup")
        await said(screen, pilot, "charge CP001")
        await pilot.press("pageup")
        seen.append(text_of(screen))

    played(tested, SIZE, play)
    assert "the key: s3cret" in seen[0]
    assert "s3cret" not in seen[1]
    assert "the key: (it was shown)" in seen[1]
    assert "s3cret" not in str(tested.events.last())


def test_a_secret_does_not_stay_on_a_screen_that_nobody_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evcharge.console.screen.SECRET_SHOWN_S", 0.01)
    tested = front(commands={"add": Command("", "add a key", add_key)})

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await said(screen, pilot, "add")
        async with asyncio.timeout(10):
            while "s3cret" in text_of(screen):
                await pilot.pause(0.01)

    assert "the key: (it was shown)" in played(tested, SIZE, play)


def test_what_the_program_prints_is_an_event() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        print("central listens on port 5000")  # noqa: T201

    assert "12:00:00  central listens on port 5000\n" in played(front(), SIZE, play)


@pytest.mark.parametrize("size", [SIZE, (120, 40), (40, 10), (20, 5), (10, 3), (5, 2), (1, 1)])
def test_it_is_drawn_in_any_size(size: tuple[int, int]) -> None:
    tested = front(lambda width, height: Text("\n".join(["x" * 200] * 100)))
    for number in range(20):
        tested.events.tell(f"event {number}")
    lines = shown(tested, size, "chat").splitlines()
    assert len(lines) == size[1]
    assert all(len(line) <= size[0] for line in lines)
    if size >= (40, 10):
        assert any("['" in line or "[]" in line for line in lines), "there is always room for the answer"


def test_panels_leave_room_for_events_and_are_told_how_much_they_have() -> None:
    sizes = []

    def panels(width: int, height: int) -> RenderableType:
        sizes.append((width, height))
        return Text("\n".join("panel" for _ in range(100)))

    lines = shown(front(panels), SIZE).splitlines()
    assert sizes[-1] == (80, 16)
    assert lines.count("panel") == 16


def test_another_size_is_another_picture() -> None:
    sizes = []

    def panels(width: int, height: int) -> RenderableType:
        sizes.append((width, height))
        return Text("a panel")

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for size in ((120, 40), (40, 10), (3, 1), (80, 24)):
            await pilot.resize_terminal(*size)
            await settled(screen, pilot)
        assert line_of(screen) == ""

    after = played(front(panels), SIZE, play)
    assert after == shown(front(), SIZE)
    assert {(120, 29), (40, 7), (80, 16)} <= set(sizes)


def test_a_picture_is_only_drawn_again_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str | None] = []
    refresh = Drawn.refresh

    def noted(widget: Drawn, *arguments: Any, **settings: Any) -> Drawn:
        drawn.append(widget.id)
        return refresh(widget, *arguments, **settings)

    monkeypatch.setattr(Drawn, "refresh", noted)

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await settled(screen, pilot)
        drawn.clear()
        screen.redraw()
        assert drawn == []
        tested.events.tell("news")
        screen.redraw()
        assert drawn == ["events"]

    tested = front()
    played(tested, SIZE, play)


def test_without_colours_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(front(lambda width, height: Text("red", "red")), SIZE, "chat").splitlines()
    assert (plain[1], plain[3]) == ("red", "12:00:00  []")


def test_a_panel_with_a_bug_says_so_and_the_console_goes_on() -> None:
    def panels(width: int, height: int) -> RenderableType:
        raise KeyError("x")

    lines = shown(front(panels), SIZE, "chat").splitlines()
    assert lines[1] == "this cannot be drawn, KeyError: 'x'"
    assert lines[3] == "12:00:00  []"


def test_words_of_peers_are_neither_markup_nor_commands_to_the_terminal() -> None:
    def panels(width: int, height: int) -> RenderableType:
        table = Table.grid()
        table.add_row("[red]a[/] :warning:", Text("\x1b[31mb\x07"))
        return table

    tested = front(panels)
    tested.events.tell("[bold]c[/]\x1b[2J")
    text = shown(tested, SIZE)
    assert "[red]a[/] :warning:" in text
    assert "\\x1b[31mb" in text
    assert "[bold]c[/]\\x1b[2J" in text
    assert "\x1b" not in text.replace("\n", "")


# Floods


def test_a_flood_of_events_costs_no_more_than_what_fits() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for number in range(100_000):
            tested.events.tell(f"event {number}")
        lines = ["".join(segment.text for segment in line) for line in screen._event_lines(80, 5)]
        assert lines == ["… 99995 more", *(f"12:00:00  event {number}" for number in range(99_996, 100_000))]

    tested = front()
    played(tested, SIZE, play)


def test_older_events_are_read_page_by_page_while_others_happen() -> None:
    tested = front()
    for number in range(50):
        tested.events.tell(f"event {number}")

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await settled(screen, pilot)
        assert "event 49" in text_of(screen)
        await pilot.press("pageup")
        tested.events.tell("news")
        await settled(screen, pilot)
        page = text_of(screen)
        assert ("event 30" in page, "event 31" in page, "news" in page) == (True, False, False)
        assert "at the end" in hint_of(screen)
        await pilot.press("pageup", "pageup", "pageup")
        await settled(screen, pilot)
        assert "event 0\n" in text_of(screen)
        await pilot.press("pagedown", "pagedown")
        await settled(screen, pilot)
        assert "news" in text_of(screen)
        assert hint_of(screen) == HINT
        await pilot.press("pageup")
        await typed(pilot, "chat")
        await pilot.press("enter")

    assert "12:00:00  []\n" in played(tested, SIZE, play)


# What is typed


def test_up_and_down_bring_back_what_was_typed() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for line in ("chat 1", "chat 2", "chat 2", "chat 3"):
            await typed(pilot, line)
            await pilot.press("enter")
        await typed(pilot, "draft")
        seen = []
        for key in ("up", "up", "up", "up", "down", "down", "down", "down"):
            await pilot.press(key)
            seen.append(line_of(screen))
        assert seen == ["chat 3", "chat 2", "chat 1", "chat 1", "chat 2", "chat 3", "draft", "draft"]
        await pilot.press("escape")
        assert line_of(screen) == ""

    played(front(), SIZE, play)


@pytest.mark.parametrize(
    ("line", "becomes", "choices"),
    [
        ("b", "broken", ""),
        ("cha", "cha", "charge   chat"),
        ("char", "charge ", ""),
        ("charge", "charge ", ""),
        ("charge ", "charge ", "CP001   CP002   STATION:1"),
        ("charge C", "charge CP00", "CP001   CP002"),
        ("charge S", "charge STATION:1", ""),
        ("xyz", "xyz", ""),
        ("chat x ", "chat x ", ""),
    ],
)
def test_tab_completes(line: str, becomes: str, choices: str) -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await typed(pilot, line)
        await pilot.press("tab")
        await settled(screen, pilot)
        assert line_of(screen) == becomes
        assert hint_of(screen) == (choices or HINT)
        assert screen.focused is screen.query_one(CommandLine)

    played(front(), SIZE, play)


def test_the_first_completion_is_a_shadow_that_the_right_arrow_takes() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await typed(pilot, "charge C")
        await settled(screen, pilot)
        assert text_of(screen).splitlines()[-2] == "> charge CP001"
        assert line_of(screen) == "charge C"
        await pilot.press("right")
        assert line_of(screen) == "charge CP001"

    played(front(), SIZE, play)


def test_lines_that_are_pasted_are_all_answered() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await typed(pilot, "chat ")
        screen.post_message(Paste("1\r\nchat 2\nchat 3\rcha"))
        await settled(screen, pilot)
        assert line_of(screen) == "cha"

    lines = played(front(), SIZE, play).splitlines()
    assert [line[10:] for line in lines if "['" in line] == ["['1']", "['2']", "['3']"]


def test_keys_take_effect_in_their_order_however_fast_they_come() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for key in [*"char", "tab", *"CP001", "enter", *"chat", "enter", "up", "up", "enter"]:
            character = key if len(key) == 1 else None
            screen.post_message(Key(key, character))
        await settled(screen, pilot)

    lines = played(front(), SIZE, play).splitlines()
    said = [line[12:] for line in lines if line[10:12] == "> "]
    assert said == ["charge CP001", "chat", "charge CP001"]


def test_while_one_command_waits_another_is_answered() -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def wait(words: list[str]) -> str:
            return await answer

        screen._front.commands._commands["wait"] = Command("", "wait", wait)
        for line in ("wait", "chat"):
            await typed(pilot, line)
            await pilot.press("enter")
        await settled(screen, pilot)
        assert "12:00:00  []" in text_of(screen)
        answer.set_result("it came")
        await settled(screen, pilot)
        assert "12:00:00  it came" in text_of(screen)

    played(front(), SIZE, play)


# To leave


def result_after(play: Play, ends_with_stdin: bool = False) -> tuple[bool, bool | None]:
    """Whether the screen has ended by itself, and with what."""

    async def run() -> tuple[bool, bool | None]:
        screen = ConsoleScreen(front(ends_with_stdin=ends_with_stdin))
        async with screen.run_test(size=SIZE) as pilot:
            await play(screen, pilot)
            await pilot.pause()
            ended = screen._exit
        return ended, screen.return_value

    return asyncio.run(run())


@pytest.mark.parametrize("line", ["quit", "exit"])
def test_quit_leaves(line: str) -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await pilot.press(*line, "enter")

    assert result_after(play) == (True, True)


@pytest.mark.parametrize(
    ("ends_with_stdin", "line", "leaves"), [(True, "", True), (True, "chat", False), (False, "", False)]
)
def test_ctrl_d_leaves_a_console_that_is_there_for_its_user(
    ends_with_stdin: bool, line: str, leaves: bool
) -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await typed(pilot, line)
        await pilot.press("ctrl+d")

    assert result_after(play, ends_with_stdin)[0] == leaves


def test_ctrl_c_is_the_signal_that_it_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)

    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await pilot.press("ctrl+c")

    assert result_after(play) == (False, None)
    assert raised == [signal.SIGINT]


@pytest.mark.parametrize(
    "key", ["ctrl+q", "ctrl+p", "ctrl+backslash", "f1", "shift+tab", "enter", "down", "pagedown"]
)
def test_no_other_key_leaves_or_takes_the_line_away(key: str) -> None:
    async def play(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        await pilot.press(key)
        await typed(pilot, "chat")
        await pilot.press("enter")
        await settled(screen, pilot)
        assert "12:00:00  []" in text_of(screen)

    assert result_after(play) == (False, None)

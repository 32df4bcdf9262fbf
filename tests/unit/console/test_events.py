"""The event log: bounded, printable, told from any thread, and a stream that a log can be written to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.console.events import EventLog
from evcharge.protocol.plain_text import printable

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_events_are_kept_in_order_with_number_and_time() -> None:
    events = EventLog(now=lambda: NOON)
    events.tell("one")
    events.tell("two")
    assert events.last() == [(1, NOON, "one"), (2, NOON, "two")]
    assert events.told == 2


def test_only_the_last_are_kept_and_all_are_counted() -> None:
    events = EventLog(now=lambda: NOON, kept=3)
    for number in range(10):
        events.tell(str(number))
    assert [event.text for event in events.last()] == ["7", "8", "9"]
    assert events.told == 10


def test_nothing_was_told_at_first() -> None:
    assert (EventLog().last(), EventLog().told) == ([], 0)


@pytest.mark.parametrize("text", ["", "\n", "\n\n"])
def test_nothing_is_no_event(text: str) -> None:
    events = EventLog()
    events.tell(text)
    assert events.told == 0


def test_a_log_can_be_written_to_it() -> None:
    events = EventLog()
    print("an entry", file=events)
    events.flush()
    assert [event.text for event in events.last()] == ["an entry"]


def test_events_come_from_many_threads() -> None:
    events = EventLog(kept=10_000)

    def tell() -> None:
        for number in range(1000):
            events.tell(str(number))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.number for event in events.last()] == list(range(1, 4001))


def test_a_listener_hears_what_is_told_from_then_on() -> None:
    events, heard = EventLog(), list[str]()
    events.tell("before")
    events.listen(heard.append)
    events.tell("one\x07")
    events.listen(None)
    events.tell("after")
    assert heard == ["one\\x07"]


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain é 電", "plain é 電"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\nb"),
        ("a\tb", "a b"),
        ("a\rb\x9b0m", "a\\rb\\x9b0m"),
        ("\udcff", "\\udcff"),
        ("[red]not markup[/]", "[red]not markup[/]"),
    ],
)
def test_no_text_does_anything_to_a_terminal(text: str, harmless: str) -> None:
    assert printable(text) == harmless


@given(st.text())
def test_whatever_is_told_is_printable_lines(text: str) -> None:
    assert all(line.isprintable() for line in printable(text).split("\n"))

"""Logs: JSON for machines, readable lines for people, on stderr or among a console's events."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from evcharge.console.events import EventLog
from evcharge.domain.status import Status
from evcharge.logs import line_of, make_log, plain

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def texts(events: EventLog) -> list[str]:
    return [event.text for event in events.last()]


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_a_machine_gets_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = make_log("central", "info")
    log.info("state", now=Status.CHARGING, session_id=SESSION)
    log.debug("unseen")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "program": "central",
        "event": "state",
        "level": "info",
        "now": "CHARGING",
        "session_id": str(SESSION),
    }


def test_a_person_gets_plain_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    make_log("central", "info").info("state", now=Status.CHARGING, session_id=SESSION)
    said = capsys.readouterr().err
    assert "now=CHARGING" in said
    assert f"session_id={SESSION}" in said
    assert "<Status" not in said


def test_on_a_screen_the_log_is_among_the_events(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    events = EventLog()
    log = make_log("central", "info", events)
    log.info("state", now=Status.CHARGING, session_id=SESSION)
    log.warning("waiting_for_peer", peer="Central", cause="connection refused")
    assert texts(events) == [
        f"state  now=CHARGING session_id={SESSION}",
        "warning waiting_for_peer  peer=Central cause='connection refused'",
    ]
    assert capsys.readouterr().err == ""


def test_a_log_that_goes_to_a_file_goes_there_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    events = EventLog()
    make_log("central", "info", events).info("state", now=Status.CHARGING)
    assert texts(events) == ["state  now=CHARGING"]
    assert json.loads(capsys.readouterr().err)["now"] == "CHARGING"


def test_the_stream_is_the_one_that_was_there_at_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen replaces `sys.stderr` while it is up."""
    log = make_log("central", "info")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None)
        log.info("state")
    assert json.loads(capsys.readouterr().err)["event"] == "state"


def test_a_traceback_is_among_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    events = EventLog()
    log = make_log("central", "info", events)
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("bug")
    (text,) = texts(events)
    assert text.startswith("error bug\nTraceback ")
    assert text.endswith("KeyError: 'x'")


class Closed:
    """A terminal that is gone."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")

    def fileno(self) -> int:
        raise OSError(9, "Bad file descriptor")


def test_a_log_that_nobody_reads_any_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Closed())
    make_log("central", "info").info("state")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Status.CHARGING, "CHARGING"),
        (SESSION, str(SESSION)),
        (Decimal("0.30"), "0.30"),
        (NOON, "2026-03-02T12:00:00+00:00"),
        (Path("a/b"), "a/b"),
        ([Status.ACTIVE, SESSION], f"ACTIVE, {SESSION}"),
        ("text", "text"),
        (5, 5),
        (None, None),
    ],
)
def test_values_are_shown_as_people_write_them(value: Any, text: Any) -> None:
    assert plain(value) == text


def test_what_has_spaces_or_nothing_in_it_is_quoted() -> None:
    assert line_of({"event": "x", "level": "info", "a": "", "b": "c d", "e": 1}) == "x  a='' b='c d' e=1"

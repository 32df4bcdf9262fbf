"""By no way does a stranger's text reach a terminal or a log as more than text, on the line where it belongs."""

import asyncio
import io
import json
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from evcharge import registry_commands
from evcharge.central.console import AdminCLI
from evcharge.central.panels import NetworkView
from evcharge.central.panels import draw as draw_network
from evcharge.console.events import EventLog
from evcharge.console.front import say
from evcharge.console.screen import Drawn, _lines_of
from evcharge.console.shell import Commands
from evcharge.console.tables import table
from evcharge.demo import View
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Decisions
from evcharge.domain.status import Status
from evcharge.driver import answers
from evcharge.errors import UnknownChargePoint
from evcharge.logs import make_log
from evcharge.protocol.messages import CpInfo
from evcharge.protocol.operators import ChargePointNow, Totals
from evcharge.replay.plan import plan_of
from evcharge.replay.report import Tally, announcement, report, text_of
from evcharge.replay.rows import Row, Sessions, Skipped
from evcharge.storage.store import Store
from evcharge.transport.trace import Trace

HOSTILE = (
    "\x1b]0;yours\x07\x1b[2J\x9b31m\r\b\x7f\u202eevil\u2066\u200b\u200f\ufeff\u2028\u2029\U000e0041"
    "[bold]b[/bold][link=x]l[/link]:smiley:\nINFO all is well"
)
WIDE = 2000
WORDS = ("[bold]b[/bold]", "[link=x]l[/link]", ":smiley:")
CP = CpInfo(
    cp_id="CP001",
    location=HOSTILE,
    status=Status.ACTIVE,
    available=True,
    price_per_kwh=Decimal("0.30"),
    currency="EUR",
    max_power_w=22000,
)
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SHOWN = ChargePointNow(
    cp_id="CP001",
    location=HOSTILE,
    status=Status.FAULTY,
    connected=True,
    available=False,
    out_of_service=False,
    price_per_kwh=Decimal("0.30"),
    currency="EUR",
    price_by_operator=False,
    max_power_w=22000,
    faults=["tampered"],
    last_heard_at=None,
    session=None,
)


class Elsewhere:
    """A desk whose Central says what it likes."""

    async def charge_point(self, cp_id: str) -> ChargePointNow:
        return SHOWN

    async def totals(self) -> Totals:
        return Totals(
            as_of=NOW,
            charge_points=1,
            by_status={},
            out_of_service=0,
            open_sessions=0,
            power_w=0,
            today=[],
            zone=HOSTILE,
        )


def driver_list(folder: Path) -> None:
    registry_commands.say(answers.charge_points_of([CP], answers._framed))


def driver_console(folder: Path) -> None:
    registry_commands.say(answers.charge_points_of([CP], table))


def driver_json(folder: Path) -> None:
    registry_commands.say(answers.as_json([CP]))


def refusal(folder: Path) -> None:
    registry_commands.say(answers.explained(UnknownChargePoint(HOSTILE.replace("\n", ""))), err=True)


def log_for_people(folder: Path) -> None:
    log = make_log("central", "info")
    log.warning("bad_message", reason=HOSTILE, peers=[HOSTILE], cause=ValueError(HOSTILE), fields={"a": HOSTILE})


def event_log(folder: Path) -> None:
    events = EventLog()
    make_log("central", "info", events).warning("bad_message", reason=HOSTILE, short=HOSTILE.replace(" ", ""))
    for event in events.last():
        for line in _lines_of(event, WIDE):
            sys.stdout.write("".join(segment.text for segment in line) + "\n")


def panels(folder: Path) -> None:
    console = Console(file=io.StringIO(), width=WIDE, markup=False, emoji=False, highlight=False)
    cp = msgspec.structs.replace(SHOWN, location=SHOWN.location.replace("\n", ""))
    view = NetworkView(now=NOW, charge_points=[cp], problem=HOSTILE.replace("\n", ""))
    drawn = Drawn("panels")
    drawn.draw(console.render_lines(draw_network(view, WIDE, 20)), 20)
    for line in drawn._lines:
        sys.stdout.write("".join(segment.text for segment in line) + "\n")


def admin_command(folder: Path) -> None:
    desk: Any = Elsewhere()
    console = AdminCLI(desk, EventLog(), title="", quit_help="")
    registry_commands.say(asyncio.run(console.commands.run("show CP001")))


def echoed_command(folder: Path) -> None:
    say(asyncio.run(Commands({}, "").answer(f"help {shlex.quote(HOSTILE)}")))


def cp_list(folder: Path) -> None:
    path = stored(folder)
    registry_commands.cp_list(path, False)


def cp_list_json(folder: Path) -> None:
    registry_commands.cp_list(stored(folder), True)


def stored(folder: Path) -> Path:
    path = folder / "evcharge.db"
    store = Store(path)
    store.commit(Decisions(charge_points={"CP001": ChargePoint("CP001", location=HOSTILE)}), NOW)
    store.close()
    return path


def demo(folder: Path) -> None:
    view = View("localhost:9092")
    view.on_event = registry_commands.say
    view.tell(HOSTILE)


def replay(folder: Path) -> None:
    tally = Tally()
    tally.failures["S-1"] = HOSTILE
    row = Row(2, "S-1", "CP001", "ana", NOW, 3600, 7400)
    sessions, plan = Sessions([row], [Skipped(3, HOSTILE)], None), plan_of([row], 1.0)
    registry_commands.say(announcement(folder / "sessions.csv", sessions, plan, 1.0))
    registry_commands.say(text_of(report(sessions, plan, tally, 1.0)))


def trace(folder: Path) -> None:
    path = folder / "trace"
    written = Trace(path, make_log("driver", "error"))
    written.frame("in", "192.0.2.1:1", json.dumps({"location": HOSTILE}, ensure_ascii=False).encode())
    written.frame("in", "192.0.2.1:1", HOSTILE.encode() + b"\xff\x9b")
    sys.stdout.write(path.read_text())


WAYS: list[Callable[[Path], None]] = [
    *(driver_list, driver_console, driver_json, refusal, log_for_people, event_log, panels),
    *(admin_command, echoed_command, cp_list, cp_list_json, demo, replay, trace),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_strangers_text_is_text(
    way: Callable[[Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(answers, "PIPE_WIDTH", WIDE)
    way(tmp_path)
    said = "".join(capsys.readouterr())
    unprintable = {character for character in said if not character.isprintable()} - {"\n"}
    assert not unprintable
    assert not [line for line in said.splitlines() if line.startswith("INFO")]
    for words in WORDS:
        assert words in said


def test_an_exception_is_told_without_the_values_that_the_program_held(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    key = "".join(["sec", "ret"])
    try:
        raise ValueError(f"\x1b[2J{len(key)}")
    except ValueError:
        make_log("central", "info").exception("bug")
    said = capsys.readouterr().err
    assert "ValueError: \\x1b[2J6" in said
    assert "Traceback" in said
    assert key not in said

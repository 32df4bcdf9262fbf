"""What a driver can ask for, once, as text for people or as JSON for scripts."""

import asyncio
import io
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from evcharge.console.shell import energy_wh_of
from evcharge.domain.session import SessionStatus
from evcharge.driver.service import Driver
from evcharge.errors import EvchargeError, NoOpenSession, UsageError, WireError
from evcharge.protocol.messages import (
    ChargeCompletionResponse,
    ChargingStatusUpdate,
    CpInfo,
    PastSession,
    is_id,
)
from evcharge.protocol.plain_text import one_line, printable_json
from evcharge.text_files import lines_of

HISTORY = 20
STOP_PATIENCE_S = 6.0
"""A little more than Central's own, after which it says that the charge point has not answered."""
PIPE_WIDTH = 120

Draw = Callable[[Sequence[str], Iterable[Sequence[object]], str], str]
"""Makes a text of a head, rows, and what to say if there are none."""


Wishes = list[tuple[str, int | None]]
"""Where to charge, and how many Wh; None: until the battery is full."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has to say: `text` to people, `data` to scripts; `ok` decides the exit code."""

    text: str
    data: Any
    ok: bool = True


async def list_charge_points(driver: Driver, everything: bool = False) -> Outcome:
    found = await driver.charge_points(everything)
    return Outcome(charge_points_of(found, _framed), found)


async def status(driver: Driver) -> Outcome:
    try:
        running = await driver.status()
    except NoOpenSession as none:
        return Outcome(str(none), None)
    return Outcome(progress(running), running)


async def stop(driver: Driver) -> Outcome:
    answer = await driver.stop()
    return Outcome(answer.reason or f"stopping at {answer.cp_id}", answer)


async def stop_and_see(driver: Driver, patience_s: float = STOP_PATIENCE_S) -> Outcome:
    """Stop, and wait for what the charge point makes of it; not ok if it does not stop."""
    answer = await driver.stop()
    stopping = Outcome(answer.reason or f"stopping at {answer.cp_id}", answer)
    if answer.reason is not None:
        return stopping
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            async for message in driver.follow(answer.session_id):
                if isinstance(message, ChargeCompletionResponse):
                    return Outcome(f"{stopping.text}\n{receipt(message)}", answer)
                if message.notice is not None:
                    return Outcome(message.notice, message, ok=False)
    return stopping


async def history(driver: Driver, limit: int = HISTORY) -> Outcome:
    sessions = await driver.history(limit)
    return Outcome(history_of(sessions, _framed), sessions)


async def charge(
    driver: Driver,
    cp_id: str,
    energy_wh: int | None,
    wait: bool,
    show: Callable[[str], None],
) -> Outcome:
    """Ask for a charge; with `wait`, follow it to its receipt and `show` how it goes."""
    answer = await driver.charge(cp_id, energy_wh)
    assert answer.session_id is not None
    accepted = f"accepted: {cp_id} for {answer.price_per_kwh} {answer.currency}/kWh, session {answer.session_id}"
    if not wait:
        return Outcome(accepted, answer)
    show(accepted)
    async for message in driver.follow(answer.session_id):
        if isinstance(message, ChargeCompletionResponse):
            return Outcome(receipt(message), message, ok=message.status is SessionStatus.COMPLETED)
        show(progress(message))
    raise AssertionError("a charge is followed to its receipt")


async def charge_all(
    driver: Driver, wishes: Iterable[tuple[str, int | None]], show: Callable[[str], None]
) -> Outcome:
    """One charge after the other; a refused one does not keep the next from its turn."""
    texts: list[str] = []
    data: list[Any] = []
    ok = True
    for cp_id, energy_wh in wishes:
        try:
            outcome = await charge(driver, cp_id, energy_wh, True, show)
        except WireError as refused:
            outcome = Outcome(
                f"{cp_id}: refused: {refused} ({refused.code})",
                {"cp_id": cp_id, "code": refused.code, "reason": str(refused)},
                ok=False,
            )
        show(outcome.text)
        texts.append(outcome.text)
        data.append(outcome.data)
        ok = ok and outcome.ok
    return Outcome(f"{len(data)} charges, {'all completed' if ok else 'not all completed'}", data, ok)


def read_wishes(path: Path) -> Wishes:
    """The charges that a file asks for: a line each, `CP_ID [KWH]`; `#` begins a comment."""
    wishes: Wishes = []
    for number, line in enumerate(lines_of(path, "the charges"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2 or not is_id(words[0]):
            raise UsageError(f"{path}, line {number}: expected 'CP_ID [KWH]', not {line.strip()!a}")
        try:
            wishes.append((words[0], energy_wh_of(words[1]) if len(words) == 2 else None))
        except UsageError as problem:
            raise UsageError(f"{path}, line {number}: {problem}") from None
    if not wishes:
        raise UsageError(f"{path} names no charge point")
    return wishes


def as_json(data: Any) -> str:
    return printable_json(msgspec.json.encode(data))


# Texts


def progress(update: ChargingStatusUpdate) -> str:
    soc = f", battery {update.soc_percent:.0f} %" if update.soc_percent is not None else ""
    target = f" of {update.target_energy_wh / 1000:.3f}" if update.target_energy_wh is not None else ""
    notice = f"; {update.notice}" if update.notice is not None else ""
    return (
        f"{update.cp_id}: {update.status}, {update.energy_wh / 1000:.3f}{target} kWh"
        f" at {update.power_w / 1000:.1f} kW{soc}, {update.cost} {update.currency}{notice}"
    )


def receipt(message: ChargeCompletionResponse) -> str:
    corrected = f" (corrected, revision {message.revision})" if message.revision > 1 else ""
    return (
        f"{message.cp_id}: {message.status} ({message.end_reason}), {message.energy_wh / 1000:.3f} kWh"
        f" x {message.price_per_kwh} = {message.cost} {message.currency}{corrected}"
    )


def charge_points_of(found: list[CpInfo], draw: Draw) -> str:
    rows = [
        (
            cp.cp_id,
            cp.location,
            cp.status.value,
            "yes" if cp.available else "no",
            f"{cp.price_per_kwh} {cp.currency}",
            f"{cp.max_power_w / 1000:g} kW",
        )
        for cp in found
    ]
    head = ("charge point", "location", "state", "free", "price/kWh", "up to")
    return draw(head, rows, "no charge point is free now")


def history_of(sessions: list[PastSession], draw: Draw) -> str:
    rows = [
        (
            past.ended_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            past.cp_id,
            past.status.value,
            past.end_reason.value,
            f"{past.energy_wh / 1000:.3f}",
            f"{past.cost} {past.currency}",
        )
        for past in sessions
    ]
    return draw(("ended", "charge point", "status", "reason", "kWh", "cost"), rows, "no charge yet")


def _framed(head: Sequence[str], rows: Iterable[Sequence[object]], none: str) -> str:
    table = Table(*head)
    for row in rows:
        table.add_row(*(one_line(str(cell)) for cell in row))
    if not table.row_count:
        return none
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    # Without colours: a text is made harmless where it is said, and so would they be.
    console = Console(
        file=io.StringIO(), width=width, color_system=None, markup=False, emoji=False, highlight=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def explained(error: EvchargeError) -> str:
    """An error as a line for a person; a refusal with its code."""
    return f"refused: {error} ({error.code})" if isinstance(error, WireError) else f"error: {error}"

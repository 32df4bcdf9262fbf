"""DriverCLI: what a driver can ask for, as text for people or as JSON for scripts."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from evcharge.console.shell import Command, Shell, energy_wh_of
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has to say: `text` to people, `data` to scripts; `ok` decides the exit code."""

    text: str
    data: Any
    ok: bool = True


async def list_charge_points(driver: Driver, everything: bool = False) -> Outcome:
    found = await driver.charge_points(everything)
    return Outcome(_charge_point_table(found), found)


async def status(driver: Driver) -> Outcome:
    try:
        running = await driver.status()
    except NoOpenSession as none:
        return Outcome(str(none), None)
    return Outcome(progress(running), running)


async def stop(driver: Driver) -> Outcome:
    answer = await driver.stop()
    return Outcome(answer.reason or f"stopping at {answer.cp_id}", answer)


async def history(driver: Driver, limit: int = 20) -> Outcome:
    sessions = await driver.history(limit)
    return Outcome(_history_table(sessions), sessions)


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


def read_wishes(path: Path) -> list[tuple[str, int | None]]:
    """The charges that a file asks for: a line each, `CP_ID [KWH]`; `#` begins a comment."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} cannot be read: {problem}") from None
    wishes: list[tuple[str, int | None]] = []
    for number, line in enumerate(lines, 1):
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
    return msgspec.json.encode(data).decode()


async def prompt(driver: Driver) -> None:
    """The same commands, one a line, until stdin ends; what happens to the charge is told as it happens."""
    following: set[asyncio.Task[None]] = set()

    def say(text: str) -> None:
        print(text, flush=True)  # noqa: T201  # results go to stdout

    async def follow(session_id: Any) -> None:
        async for message in driver.follow(session_id):
            if isinstance(message, ChargeCompletionResponse):
                say(receipt(message))

    def follow_in_background(session_id: Any) -> None:
        for task in following:
            task.cancel()
        following.clear()
        following.add(asyncio.create_task(follow(session_id)))

    def simple(run: Callable[[Driver], Awaitable[Outcome]]) -> Callable[[list[str]], Awaitable[str]]:
        async def command(words: list[str]) -> str:
            return (await run(driver)).text

        return command

    async def charge_here(words: list[str]) -> str:
        if len(words) not in (1, 2) or not is_id(words[0]):
            raise UsageError("say: charge CP_ID [KWH]")
        energy_wh = energy_wh_of(words[1]) if len(words) == 2 else None
        outcome = await charge(driver, words[0], energy_wh, False, say)
        follow_in_background(outcome.data.session_id)
        return outcome.text

    shell = Shell(
        {
            "list": Command("", "charge points where a charge can start now", simple(list_charge_points)),
            "charge": Command("CP_ID [KWH]", "ask for a charge", charge_here),
            "status": Command("", "how my charge stands", simple(status)),
            "stop": Command("", "stop my charge", simple(stop)),
            "history": Command("", "my last charges", simple(history)),
        },
        prompt=f"{driver.driver_id}> ",
    )
    try:
        running = await driver.status()
    except NoOpenSession:
        pass
    else:
        say(f"still charging: {progress(running)}")
        follow_in_background(running.session_id)
    try:
        await shell.run()
    finally:
        for task in following:
            task.cancel()


# Texts


def progress(update: ChargingStatusUpdate) -> str:
    soc = f", battery {update.soc_percent:.0f} %" if update.soc_percent is not None else ""
    target = f" of {update.target_energy_wh / 1000:.3f}" if update.target_energy_wh is not None else ""
    return (
        f"{update.cp_id}: {update.status}, {update.energy_wh / 1000:.3f}{target} kWh"
        f" at {update.power_w / 1000:.1f} kW{soc}, {update.cost} {update.currency}"
    )


def receipt(message: ChargeCompletionResponse) -> str:
    corrected = f" (corrected, revision {message.revision})" if message.revision > 1 else ""
    return (
        f"{message.cp_id}: {message.status} ({message.end_reason}), {message.energy_wh / 1000:.3f} kWh"
        f" x {message.price_per_kwh} = {message.cost} {message.currency}{corrected}"
    )


def _charge_point_table(charge_points: list[CpInfo]) -> str:
    if not charge_points:
        return "no charge point is free now"
    table = Table("charge point", "location", "state", "free", "price/kWh", "up to")
    for cp in charge_points:
        table.add_row(
            cp.cp_id,
            cp.location,
            cp.status,
            "yes" if cp.available else "no",
            f"{cp.price_per_kwh} {cp.currency}",
            f"{cp.max_power_w / 1000:g} kW",
        )
    return _drawn(table)


def _history_table(sessions: list[PastSession]) -> str:
    if not sessions:
        return "no charge yet"
    table = Table("ended", "charge point", "status", "reason", "kWh", "cost")
    for past in sessions:
        table.add_row(
            past.ended_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            past.cp_id,
            past.status,
            past.end_reason,
            f"{past.energy_wh / 1000:.3f}",
            f"{past.cost} {past.currency}",
        )
    return _drawn(table)


def _drawn(table: Table) -> str:
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def explained(error: EvchargeError) -> str:
    """An error as a line for a person; a refusal with its code."""
    return f"refused: {error} ({error.code})" if isinstance(error, WireError) else f"error: {error}"

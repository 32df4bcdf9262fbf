"""How many whole sessions a core of Central takes: from the driver's request to the receipt that it reads."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from harness import World, eventually

from crowds import crowd_of
from drivers import Books, Drivers, cost_of
from figures import Figure, Part, at_least, require
from ground import Ground, start_central
from measuring import processor_s
from prepared import cp_ids

READINGS = 2
"""Of each session, beside the completion."""
DEADLINE_S = 30.0
GOAL_OF_BARE_PROCESS = 0.6


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float
    processor_s: float
    answers: dict[str, float]
    """What the drivers are told in a session, by type."""


@contextmanager
def bare_process(world: World, updates: int) -> Iterator[tuple[int, int]]:
    """Its process id, and its port."""
    port_file = world.folder / "bare.port"
    script = Path(__file__).with_name("bare_sessions.py")
    arguments = [world.kafka, str(world.folder / "evcharge.db"), str(port_file), str(updates)]
    process = subprocess.Popen([sys.executable, script, *arguments])
    try:
        eventually(port_file.exists, "the bare process listens", DEADLINE_S)
        yield process.pid, int(port_file.read_text())
    finally:
        process.kill()
        process.wait()


@contextmanager
def central(world: World) -> Iterator[tuple[int, int]]:
    """The same of Central."""
    program = start_central(world)
    try:
        yield program.process.pid, program.port
    finally:
        world.stop()


def run(world: World, pid: int, port: int, pairs: int, sessions: int) -> Run:
    """Have so many drivers and charge points go through so many sessions, after one each to warm up."""
    with crowd_of(pairs, port, world.kafka, readings_at_once=READINGS) as crowd:
        crowd.until_registered()
        drivers = Drivers(world.kafka, {f"D-{cp_id}": cp_id for cp_id in cp_ids(pairs)})
        drivers.charge(pairs)
        used_s = processor_s(pid)
        seconds = drivers.charge(sessions)
        used_s = processor_s(pid) - used_s
        charged = pairs + sessions
        report = crowd.until(lambda report: report.receipts == charged, "charge points have receipts", DEADLINE_S)
        drivers.close()
    require(report.completions == charged, f"{report.completions} charges, not {charged}")
    require(not report.errors and not report.undelivered, f"charge points were refused: {report}")
    check_database(world, drivers.books)
    answers = {name: count / charged for name, count in drivers.books.answers.items()}
    return Run(seconds, used_s, answers)


def check_database(world: World, books: Books) -> None:
    """It has each session, completed, with the energy and the cost that its driver was billed."""
    rows = world.rows("SELECT energy_wh, cost, price_per_kwh, status FROM sessions")
    require(len(rows) == books.sessions, f"{len(rows)} sessions are in the database, not {books.sessions}")
    require(all(row["status"] == "completed" for row in rows), "not all sessions are completed")
    require(all(Decimal(row["cost"]) == cost_of(row["energy_wh"]) for row in rows), "a cost is not price x energy")
    found = sum(row["energy_wh"] for row in rows), sum((Decimal(row["cost"]) for row in rows), Decimal(0))
    require(found == (books.energy_wh, books.cost), f"the database has {found}, the receipts {books}")


def measure(ground: Ground) -> Part:
    pairs, sessions = (500, 2_000) if ground.quick else (1_000, 20_000)
    world = ground.network("sessions")
    with central(world) as (pid, port):
        ours = run(world, pid, port, pairs, sessions)
    updates = round(ours.answers["charging_status_update"])
    world = ground.network("bare-sessions")
    with bare_process(world, updates) as (pid, port):
        bare = run(world, pid, port, pairs, sessions)
    of_core, bare_of_core = sessions / ours.processor_s, sessions / bare.processor_s
    return Part(
        "sessions",
        "Throughput of whole sessions",
        "a bare process that serves the same drivers and charge points: it takes the same records and frames,"
        " decodes them with msgspec, answers with as many, and writes the same rows, without any decision",
        [
            Figure(
                "sessions a second of one core",
                "1/s",
                of_core,
                bare_of_core,
                [
                    at_least(
                        GOAL_OF_BARE_PROCESS * bare_of_core,
                        of_core,
                        f"at least {GOAL_OF_BARE_PROCESS} of the bare process",
                    )
                ],
            ),
            Figure("sessions a second by the clock", "1/s", sessions / ours.seconds, sessions / bare.seconds),
        ],
        [
            "each driver got exactly one receipt for each request, of exactly the energy that it asked for",
            "the database has as many sessions, all completed; the energy is exact, the cost is price x energy",
            "each charge point got a receipt for each completion; nothing was refused",
        ],
        [
            f"{sessions:,} sessions, {pairs} at a time, of {READINGS} readings and a completion each, both over"
            f" the link and by Kafka; the drivers of Central were told {_told(ours)}, those of the bare process"
            f" {_told(bare)} a session",
            f"Central used {ours.processor_s / ours.seconds:.0%} of a processor, the bare process"
            f" {bare.processor_s / bare.seconds:.0%}; drivers, charge points and broker share the machine",
        ],
    )


def _told(of: Run) -> str:
    return ", ".join(f"{count:.1f} {name}" for name, count in sorted(of.answers.items()))

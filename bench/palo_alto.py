"""Real sessions of a real city, replayed through the real programs as fast as they go, and checked to the Wh."""

import asyncio
import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from harness import EVCHARGE, World

from evcharge.driver.service import Driver, DriverLink
from evcharge.logs import make_log
from evcharge.transport.kafka_settings import KafkaAccess
from figures import Figure, Part, require
from ground import Ground, start_central
from measuring import percentile, processor_s

FILE = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "palo-alto-sessions.csv"
SOURCE = "open data of the City of Palo Alto, Electric Vehicle Charging Station Usage; columns: docs/operations.md"
ROWS_QUICK = 300
SPEED = 5_000_000
"""Twenty months in ten seconds: what remains is what the programs need."""
TRIPS_A_SESSION = 2
"""Of a driver through Kafka, whatever is between: from the request to its answer, and to the receipt."""
PRICE = Decimal("0.23")  # what a replay charges for a kWh
TIMEOUT_S = 60.0
LIMIT_S = 600.0

Charge = tuple[str, str, int, Decimal]
"""Charge point, driver, Wh, and what it costs."""


def charges_of(path: Path, limit: int | None) -> list[Charge]:
    """What the file says, read without the help of what is measured."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[:limit]
    charges = []
    for row in rows:
        wh = int((Decimal(row["energy_kwh"]) * 1000).to_integral_value())
        cost = (wh * PRICE / 1000).quantize(Decimal("0.01"), ROUND_HALF_UP)
        charges.append((row["charge_point_id"], row["driver_id"], wh, cost))
    return charges


def check_database(world: World, charges: list[Charge]) -> None:
    """Each charge of the file is billed once, and nothing else is."""
    rows = world.rows("SELECT cp_id, driver_id, energy_wh, cost, status FROM sessions")
    unfinished = sum(row["status"] != "completed" for row in rows)
    require(unfinished == 0, f"{unfinished} sessions are not completed")
    billed = Counter((row["cp_id"], row["driver_id"], row["energy_wh"], Decimal(row["cost"])) for row in rows)
    missing, more = Counter(charges) - billed, billed - Counter(charges)
    require(not missing, f"{missing.total()} charges of the file are not billed: {list(missing)[:3]}")
    require(not more, f"{more.total()} bills are of no charge in the file: {list(more)[:3]}")


def replay(world: World, central_port: int, path: Path, limit: int | None) -> dict[str, Any]:
    """The summary that it prints."""
    done = subprocess.run(
        [
            *(*EVCHARGE, "replay", str(path), "--speed", str(SPEED), "--json"),
            *("--kafka", world.kafka, "--central", f"127.0.0.1:{central_port}"),
            *(("--limit", str(limit)) if limit is not None else ()),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=world.folder,
    )
    require(done.returncode == 0, f"the replay says that it is not exact: {(done.stdout + done.stderr)[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def bare_trips(kafka: str, charges: list[Charge]) -> tuple[float, list[float]]:
    """The same charges, each as bare round trips: seconds for all, and ms of each trip."""
    at: dict[str, list[Charge]] = {}
    for charge in charges:
        at.setdefault(charge[0], []).append(charge)
    trips_ms: list[float] = []
    link = DriverLink(
        KafkaAccess(kafka), "bench-drivers", timeout_s=TIMEOUT_S, log=make_log("bench", "error"), trace=None
    )

    async def one_after_another(those: list[Charge]) -> None:
        for cp_id, driver_id, wh, _ in those:
            for _ in range(TRIPS_A_SESSION):
                begun_s = time.perf_counter()
                await drivers[driver_id].charge(cp_id, wh)
                trips_ms.append((time.perf_counter() - begun_s) * 1000)

    async with link.opened(None):
        drivers = {driver_id: Driver(driver_id, link) for _, driver_id, _, _ in charges}
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for those in at.values():
                tasks.create_task(one_after_another(those))
        return time.monotonic() - begun_s, trips_ms


def measure_bare(ground: Ground, world: World, charges: list[Charge]) -> tuple[float, list[float]]:
    script = Path(__file__).with_name("bare_answers.py")
    process = subprocess.Popen(
        [sys.executable, script, ground.kafka], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        require(process.stdout.readline() == "ready\n", "the process that answers has not started")
        return asyncio.run(bare_trips(ground.kafka, charges))
    finally:
        process.kill()
        process.wait()


def measure(ground: Ground) -> Part:
    title = "Real sessions: Palo Alto"
    path = Path(os.environ.get("PALO_ALTO", FILE)).resolve()
    if not path.exists():
        remark = f"left out, as there is no file {path.name}: set PALO_ALTO to where it is ({SOURCE})"
        return Part("palo-alto", title, "none", [], [], [remark])
    limit = ROWS_QUICK if ground.quick else None
    charges = charges_of(path, limit)
    world = ground.network("palo-alto")
    central = start_central(world, "--time-scale", str(SPEED))
    try:
        used_s = processor_s(central.process.pid)
        found = replay(world, central.port, path, limit)
        used_s = processor_s(central.process.pid) - used_s
    finally:
        world.stop()
    require(found["done"] == len(charges), f"{found['done']} sessions are done, not {len(charges)}")
    require(found["billed_wh"] == sum(wh for _, _, wh, _ in charges), "the energy billed is not that of the file")
    check_database(world, charges)
    bare_s, trips_ms = measure_bare(ground, ground.network("palo-alto-bare"), charges)
    count, points = len(charges), len({cp_id for cp_id, *_ in charges})
    most = max(Counter(cp_id for cp_id, *_ in charges).values())
    return Part(
        "palo-alto",
        title,
        f"the same charges by the same client, as {TRIPS_A_SESSION} bare round trips through Kafka each, to a"
        " process that answers at once; one after another at each charge point, all charge points at a time",
        [
            Figure("sessions a second", "1/s", count / found["wall_s"], count / bare_s),
            Figure(
                "a session at the busiest charge point", "ms", found["wall_s"] * 1000 / most, bare_s * 1000 / most
            ),
            Figure("request until its answer, p50", "ms", found["request_p50_ms"], percentile(trips_ms, 0.5)),
            Figure("request until its answer, p99", "ms", found["request_p99_ms"], percentile(trips_ms, 0.99)),
            Figure("processor time of Central for a session", "ms", used_s * 1000 / count),
        ],
        [
            f"the replay's own comparison: {count:,} of {count:,} bills are the file's, to the Wh",
            "the database against the file, read anew: each charge once, by its driver at its charge point, with"
            " its energy and its cost, and no other",
        ],
        [
            f"{count:,} sessions with {found['billed_wh']:,} Wh at {points} charge points, {most:,} of them at the"
            f" busiest, for which all wait; {SPEED:,} times as fast as they were",
            "all charge points, with their journals on disk, and all drivers are in one process",
        ],
    )

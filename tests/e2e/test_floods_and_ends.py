"""One driver who asks without end, and Central's end: both have a bound."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
from confluent_kafka import Producer
from harness import Program, World, eventually

from evcharge.protocol.topics import Topic

FLOOD = 60_000
END_WITHIN_S = 5.0
ANSWER_WITHIN_S = 15.0


def flood(kafka: str, kind: str, **fields: object) -> None:
    producer = Producer({"bootstrap.servers": kafka, "queue.buffering.max.messages": 2 * FLOOD})
    now = datetime.now(UTC).isoformat()
    for _ in range(FLOOD):
        asked = {"type": kind, "message_id": str(uuid4()), "timestamp": now, "driver_id": "greedy"} | fields
        producer.produce(Topic.CPS_REQUESTS, msgspec.json.encode(asked), "greedy")
    assert producer.flush(60) == 0


def end_s(central: Program) -> float:
    """How long it takes to end in order."""
    begun_s = time.monotonic()
    central.process.terminate()
    central.wait(60)
    return time.monotonic() - begun_s


def test_a_flood_of_one_drivers_requests_keeps_no_other_from_an_answer_nor_central_from_its_end(
    world: World,
) -> None:
    central = world.central()
    world.ask("bo", "history")
    flood(world.kafka, "charging_history_request", limit=200)
    begun_s = time.monotonic()
    world.ask("bo", "history")
    took_s = time.monotonic() - begun_s
    assert took_s < ANSWER_WITHIN_S
    flood(world.kafka, "available_cps_request", limit=200, all=True)
    begun_s = time.monotonic()
    world.ask("bo", "list")
    assert time.monotonic() - begun_s < ANSWER_WITHIN_S
    flood(world.kafka, "charging_history_request", limit=200)
    assert end_s(central) < END_WITHIN_S
    assert central.process.returncode == 143, central.log
    assert "Traceback" not in central.log


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The database locked, as by somebody who has left a transaction open."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


def test_a_locked_database_does_not_delay_the_end(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central)
    operator = world.operator(central)
    with held(world.folder / "evcharge.db"):
        driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--timeout", "20")
        eventually(lambda: operator.get("/healthz").status_code == 503, "the worker waits for the lock")
        took_s = end_s(central)
    assert took_s < END_WITHIN_S
    assert central.process.returncode in (3, 143)
    assert "Traceback" not in central.log
    world.central(name="central-again")
    driver.wait()
    assert "no answer" not in driver.log, "what was asked meanwhile is answered by the next Central"

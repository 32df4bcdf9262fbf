"""How many readings (`charging_data`) a core of Central takes: from Kafka through decide, commit and publish."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from confluent_kafka import Producer
from harness import World, eventually

from bare_loop import ANSWERS
from evcharge.domain.session import Session
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargingData
from evcharge.protocol.topics import Topic
from figures import Figure, Part, at_least, require
from ground import Ground, start_central
from measuring import processor_s
from prepared import with_sessions

POWER_W = 11_000
WH_A_READING = 3
DEADLINE_S = 300.0
GOAL_A_SECOND = 50_000
GOAL_OF_BARE_LOOP = 0.6


def readings_of(sessions: Iterable[Session], seqs: range, since: datetime) -> Iterator[ChargingData]:
    """One a second of each session, second by second, as they come from a network."""
    for seq in seqs:
        at = since + timedelta(seconds=seq)
        for session in sessions:
            yield ChargingData(
                message_id=messages.new_id(),
                timestamp=at,
                cp_id=session.cp_id,
                session_id=session.session_id,
                driver_id=session.driver_id,
                seq=seq,
                energy_wh=(seq + 1) * WH_A_READING,
                power_w=POWER_W,
                soc_percent=50.0,
            )


def publish(kafka: str, readings: Iterable[ChargingData]) -> int:
    """Have Kafka have them all; their number."""
    return publish_encoded(kafka, ((reading.cp_id, messages.encode(reading)) for reading in readings))


def publish_encoded(kafka: str, records: Iterable[tuple[str, bytes]]) -> int:
    """The same, of keys and values."""
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,  # Else a retry, as of a topic just made, could change the order.
            "acks": "all",
            "linger.ms": 20,
            "queue.buffering.max.messages": 200_000,
        }
    )
    count = 0
    for key, value in records:
        while True:
            try:
                producer.produce(Topic.SESSION_DATA, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        count += 1
    producer.flush()
    return count


def metric(operator: httpx.Client, name: str) -> float:
    """One line of Central's metrics; 0 if it is not there yet."""
    answer = operator.get("/metrics").raise_for_status()
    found = re.search(rf"^{re.escape(name)} (\S+)$", answer.text, re.M)
    return float(found[1]) if found else 0.0


def until_metered(world: World, last_seq: int) -> None:
    """Wait until the last reading of each open session is in the database."""
    behind = "SELECT count(*) AS n FROM sessions WHERE ended_at IS NULL AND last_seq < ?"
    eventually(lambda: world.rows(behind, last_seq)[0]["n"] == 0, "all readings are in the database", DEADLINE_S)


def check_books(world: World, sessions: int, readings_each: int) -> None:
    """Each open session has the energy of its last reading; its stored readings are 15 s apart, and right."""
    rows = world.rows(
        "SELECT count(*) AS n, sum(energy_wh = ? AND last_seq = ? AND status = 'charging') AS good"
        " FROM sessions WHERE ended_at IS NULL",
        readings_each * WH_A_READING,
        readings_each - 1,
    )
    require(rows[0]["n"] == sessions, f"{rows[0]['n']} sessions are open, not {sessions}")
    require(rows[0]["good"] == sessions, f"only {rows[0]['good']} sessions have the energy of their last reading")
    rows = world.rows(
        "SELECT count(*) AS n, sum(energy_wh != (seq + 1) * ?) AS wrong FROM meter_values"
        " WHERE session_number IN (SELECT number FROM sessions WHERE ended_at IS NULL)",
        WH_A_READING,
    )
    kept = len(range(0, readings_each, 15))
    require(rows[0]["n"] == sessions * kept, f"{rows[0]['n']} readings are stored, not {sessions * kept}")
    require(not rows[0]["wrong"], f"{rows[0]['wrong']} stored readings are wrong")


def measure_central(ground: Ground, count: int, each: int) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and records a batch."""
    world = ground.network(f"readings-{count}")
    since = datetime.now(UTC)
    sessions = with_sessions(world.folder / "evcharge.db", count, since)
    total = publish(ground.kafka, readings_of(sessions, range(each), since))
    token = world.token("bench")
    central = start_central(world)
    begun_s, used_s = time.monotonic(), processor_s(central.process.pid)
    try:
        until_metered(world, each - 1)
        seconds = time.monotonic() - begun_s
        used_s = processor_s(central.process.pid) - used_s
        batches = metric(world.http(central, token), "evcharge_commit_seconds_count")
    finally:
        world.stop()
    check_books(world, count, each)
    return seconds, used_s, total / batches


def measure_bare_loop(ground: Ground, count: int, each: int, records_a_batch: float) -> tuple[float, float]:
    """The same, of the same records, by the bare loop: seconds, and seconds of the processor."""
    folder = ground.folder / f"bare-{count}"
    folder.mkdir()
    database = folder / "evcharge.db"
    with_sessions(database, count, datetime.now(UTC))
    ground.empty([ANSWERS])
    script = Path(__file__).with_name("bare_loop.py")
    arguments = [ground.kafka, str(database), str(max(1, round(records_a_batch))), str(count * each)]
    done = subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    check_books(World(folder, ground.kafka), count, each)
    return found["seconds"], found["processor_s"]


def measure(ground: Ground) -> Part:
    figures = []
    remarks = []
    for count, each in ((10_000, 10),) if ground.quick else ((10_000, 100), (1_000, 1000)):
        total = count * each
        seconds, used_s, records_a_batch = measure_central(ground, count, each)
        bare_seconds, bare_used_s = measure_bare_loop(ground, count, each, records_a_batch)
        ours, bare = total / used_s, total / bare_used_s
        figures.append(
            Figure(
                f"readings a second of one core, {count:,} sessions",
                "1/s",
                ours,
                bare,
                [
                    at_least(GOAL_A_SECOND, ours, f"at least {GOAL_A_SECOND:,}"),
                    at_least(GOAL_OF_BARE_LOOP, ours / bare, f"at least {GOAL_OF_BARE_LOOP} of the bare loop"),
                ],
            )
        )
        figures.append(
            Figure(
                f"readings a second by the clock, {count:,} sessions", "1/s", total / seconds, total / bare_seconds
            )
        )
        remarks.append(f"{count:,} sessions: {total:,} readings, {records_a_batch:,.0f} of them a transaction")
    return Part(
        "readings",
        "Throughput of readings",
        "a bare loop that consumes the same records, decodes them with msgspec, produces one record for each, and"
        " writes the same rows in batches of the same size",
        figures,
        [
            "each session has the energy and the number of its last reading",
            "each 15th reading is stored, and right",
        ],
        remarks,
    )

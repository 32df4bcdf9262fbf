"""The limit of what a Central in Python could do: the same input and output, and no thought in between.

    python bench/bare_loop.py KAFKA DATABASE RECORDS_A_BATCH READINGS

Consumes READINGS charging data, decodes them with msgspec, encodes and produces one record for each, and writes
the rows that Central would: in batches of RECORDS_A_BATCH (or fewer, when no more have come) the last state of
each session, and each 15th reading. Prints the seconds of work and of the processor, as JSON.
"""

import json
import sqlite3
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from evcharge.protocol.topics import Topic

STORED_EVERY = 15
ANSWERS = "bench_answers"
IDLE_S = 30.0
UPDATE = "UPDATE sessions SET energy_wh = ?, power_w = ?, soc_percent = ?, last_seq = ?, cost = ? WHERE number = ?"
INSERT = "INSERT INTO meter_values VALUES (?, ?, ?, ?, ?, ?)"


class Reading(msgspec.Struct, frozen=True):
    message_id: UUID
    timestamp: datetime
    cp_id: str
    session_id: UUID
    driver_id: str
    seq: int
    energy_wh: int
    power_w: int
    soc_percent: float | None = None


class Update(msgspec.Struct, frozen=True, tag="charging_status_update"):
    message_id: UUID
    timestamp: datetime
    driver_id: str
    cp_id: str
    session_id: UUID
    status: str
    energy_wh: int
    power_w: int
    cost: str
    currency: str
    soc_percent: float | None = None


@dataclass
class BareLoop:
    consumer: Consumer
    producer: Producer
    database: sqlite3.Connection
    numbers: dict[UUID, int]
    """Of the sessions, by their ids."""
    records_a_batch: int

    def run(self, readings: int) -> None:
        decode = msgspec.json.Decoder(Reading).decode
        encode = msgspec.json.Encoder().encode
        begun_s = time.monotonic()
        while readings > 0:
            records = self.consumer.consume(self.records_a_batch, 0.1)
            if not records and time.monotonic() - begun_s > IDLE_S:
                raise SystemExit(f"{readings} readings have not come")
            batch = [decode(record.value() or b"") for record in records]
            self._write(batch)
            for reading in batch:
                update = encode(update_after(reading))
                self.producer.produce(ANSWERS, update, reading.driver_id, on_delivery=delivered)
            self.producer.poll(0)
            readings -= len(batch)
        self.producer.flush()

    def _write(self, batch: list[Reading]) -> None:
        last, numbers = {reading.session_id: reading for reading in batch}, self.numbers
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany(
            UPDATE,
            [(r.energy_wh, r.power_w, r.soc_percent, r.seq, "0.00", numbers[r.session_id]) for r in last.values()],
        )
        self.database.executemany(
            INSERT,
            [
                (numbers[r.session_id], r.seq, r.energy_wh, r.power_w, r.soc_percent, str(r.timestamp))
                for r in batch
                if r.seq % STORED_EVERY == 0
            ],
        )
        self.database.execute("COMMIT")


def update_after(reading: Reading) -> Update:
    return Update(
        reading.message_id,
        reading.timestamp,
        reading.driver_id,
        reading.cp_id,
        reading.session_id,
        "charging",
        reading.energy_wh,
        reading.power_w,
        "0.00",
        "EUR",
        reading.soc_percent,
    )


def delivered(error: object, _: object) -> None:
    if error is not None:
        raise SystemExit(f"a record was not delivered: {error}")


def open_loop(kafka: str, database: str, records_a_batch: int) -> BareLoop:
    """With the settings that Central has."""
    common = {"bootstrap.servers": kafka}
    consumer = Consumer(common | {"group.id": "bare-loop", "enable.auto.commit": False, "fetch.wait.max.ms": 500})
    topic = Topic.SESSION_DATA.value
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    producer = Producer(
        common
        | {"enable.idempotence": True, "acks": "all", "linger.ms": 1, "queue.buffering.max.messages": 1_000_000}
    )
    rows = sqlite3.connect(database, isolation_level=None)
    rows.execute("PRAGMA journal_mode = WAL")
    rows.execute("PRAGMA synchronous = FULL")
    numbers = {UUID(hex=one): number for one, number in rows.execute("SELECT session_id, number FROM sessions")}
    return BareLoop(consumer, producer, rows, numbers, records_a_batch)


if __name__ == "__main__":
    loop = open_loop(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    begun_s, used_s = time.monotonic(), time.process_time()
    loop.run(int(sys.argv[4]))
    print(json.dumps({"seconds": time.monotonic() - begun_s, "processor_s": time.process_time() - used_s}))

"""The limit of what a Central in Python could do of whole sessions: the same input and output, and no thought.

    python bench/bare_sessions.py KAFKA DATABASE PORT_FILE UPDATES

Serves the same drivers and charge points as Central would: takes the same records and frames, decodes them with
msgspec, answers with the same ones, `UPDATES` status updates a session, and writes the same rows. All that has
come in one turn of the event loop (uvloop) is written in one transaction before anything of it is answered.
"""

import asyncio
import sqlite3
import sys
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition

from bare_loop import delivered
from evcharge.open_files import allow_open_files
from evcharge.protocol.topics import TO_CENTRAL, Topic
from evcharge.storage.store import Store

PRICE = "0.30"
CENTS_A_KWH = 30
MAX_BATCH = 5_000
INSERT = (
    "INSERT INTO sessions (number, session_id, request_id, cp_id, driver_id, status, target_energy_wh,"
    " price_per_kwh, currency, energy_wh, cost, power_w, last_seq, requested_at, stop_requested, revision,"
    " receipt_sent)"
    " VALUES (?, ?, ?, ?, ?, 'authorised', ?, '0.30', 'EUR', 0, '0.00', 0, -1, ?, 0, 0, 0)"
)
INSERT_ANSWER = "INSERT INTO answers (request_id, answer, answered_at) VALUES (?, ?, ?)"
INSERT_VALUE = "INSERT OR IGNORE INTO meter_values VALUES (?, ?, ?, ?, ?, ?)"
UPDATE = (
    "UPDATE sessions SET status = 'completed', end_reason = 'target_reached', energy_wh = ?, cost = ?,"
    " last_seq = ?, started_at = ?, ended_at = ?, revision = 1, receipt_sent = 1 WHERE number = ?"
)


class Said(msgspec.Struct, frozen=True):
    """What drivers and charge points say."""

    type: str
    message_id: UUID
    timestamp: datetime
    cp_id: str
    driver_id: str | None = None
    session_id: UUID | None = None
    seq: int = 0
    energy_wh: int | None = None
    power_w: int = 0
    soc_percent: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass
class Session:
    number: int
    driver_id: str
    requested_at: datetime
    receipt: dict[str, Any] | None = None


@dataclass
class Turn:
    """What one turn of the loop has to write and to send."""

    inserted: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    values: list[tuple[Any, ...]] = field(default_factory=list)
    updated: list[tuple[Any, ...]] = field(default_factory=list)
    records: list[tuple[str, bytes]] = field(default_factory=list)
    frames: list[tuple["Point", bytes]] = field(default_factory=list)


_decode = msgspec.json.Decoder(Said).decode
_encode = msgspec.json.Encoder().encode


class Bare:
    def __init__(self, producer: Producer, database: sqlite3.Connection, updates: int) -> None:
        self._producer = producer
        self._database = database
        self._updates = updates
        self._sessions: dict[UUID, Session] = {}
        self.points: dict[str, Point] = {}
        self._turn: Turn | None = None

    def take(self, said: Said, point: "Point | None") -> None:
        if self._turn is None:
            self._turn = Turn()
            asyncio.get_running_loop().call_soon(self._end_turn)
        turn = self._turn
        head = {"message_id": said.message_id, "timestamp": said.timestamp, "in_reply_to": said.message_id}
        match said.type:
            case "auth_request" if point is not None:
                turn.frames.append((point, _encode({"type": "auth_response", **head, "accepted": True})))
            case "register_request" if point is not None:
                self.points[said.cp_id] = point
                answer = {"type": "register_response", **head, "accepted": True, "status": "ACTIVE"}
                turn.frames.append((point, _encode(answer)))
            case "heartbeat_request" if point is not None:
                turn.frames.append((point, _encode({"type": "heartbeat_response", **head})))
            case "charge_request":
                self._authorise(turn, said, head)
            case "command_response" if said.session_id is not None:
                session = self._sessions[said.session_id]
                update = {
                    "type": "charging_status_update",
                    **head,
                    "driver_id": session.driver_id,
                    "cp_id": said.cp_id,
                    "session_id": said.session_id,
                    "status": "charging",
                    "energy_wh": 0,
                    "power_w": 0,
                    "cost": "0.00",
                    "currency": "EUR",
                    "target_energy_wh": None,
                    "soc_percent": None,
                    "started_at": said.timestamp,
                }
                turn.records += [(session.driver_id, _encode(update)) for _ in range(self._updates)]
            case "charging_data" if said.session_id is not None and said.seq == 0:
                turn.values.append(_value(said, self._sessions[said.session_id], said.timestamp))
            case "charge_completion" if said.session_id is not None:
                self._bill(turn, said, said.session_id, head)

    def _authorise(self, turn: Turn, request: Said, head: dict[str, Any]) -> None:
        assert request.driver_id is not None
        session_id = request.message_id
        session = Session(len(self._sessions) + 1, request.driver_id, request.timestamp)
        self._sessions[session_id] = session
        common = head | {"driver_id": request.driver_id, "cp_id": request.cp_id, "session_id": session_id}
        answer = _encode(
            common
            | {"type": "charge_request_response", "accepted": True, "price_per_kwh": PRICE, "currency": "EUR"}
        )
        at = str(request.timestamp)
        turn.inserted.append(
            (
                session.number,
                session_id.hex,
                session_id.hex,
                request.cp_id,
                request.driver_id,
                request.energy_wh,
                at,
            )
        )
        turn.answers.append((session_id.hex, answer.decode(), at))
        turn.records.append((request.driver_id, answer))
        command = common | {"type": "start_charging_command", "energy_wh": request.energy_wh}
        turn.frames.append((self.points[request.cp_id], _encode(command)))

    def _bill(self, turn: Turn, completion: Said, session_id: UUID, head: dict[str, Any]) -> None:
        session = self._sessions[session_id]
        energy_wh = completion.energy_wh or 0
        if session.receipt is None:
            cents = (energy_wh * CENTS_A_KWH + 500) // 1000
            session.receipt = head | {
                "type": "charge_completion_response",
                "cp_id": completion.cp_id,
                "session_id": session_id,
                "driver_id": session.driver_id,
                "status": "completed",
                "end_reason": "target_reached",
                "energy_wh": energy_wh,
                "price_per_kwh": PRICE,
                "cost": f"{cents // 100}.{cents % 100:02}",
                "currency": "EUR",
                "requested_at": session.requested_at,
                "ended_at": completion.ended_at,
                "revision": 1,
                "started_at": completion.started_at,
            }
            turn.values.append(_value(completion, session, completion.ended_at))
            turn.updated.append(
                (
                    energy_wh,
                    session.receipt["cost"],
                    completion.seq,
                    str(completion.started_at),
                    str(completion.ended_at),
                    session.number,
                )
            )
            turn.records.append((session.driver_id, _encode(session.receipt)))
        # To the charge point for either of its completions, as Central does.
        turn.frames.append((self.points[completion.cp_id], _encode(session.receipt)))

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        if turn.inserted or turn.values or turn.updated:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(INSERT, turn.inserted)
            self._database.executemany(INSERT_ANSWER, turn.answers)
            self._database.executemany(INSERT_VALUE, turn.values)
            self._database.executemany(UPDATE, turn.updated)
            self._database.execute("COMMIT")
        for point, frame in turn.frames:
            point.send(frame + b"\n")
        for driver_id, value in turn.records:
            self._producer.produce(Topic.RESPONSES, value, driver_id, on_delivery=delivered)
        self._producer.poll(0)


def _value(said: Said, session: Session, at: datetime | None) -> tuple[Any, ...]:
    return session.number, said.seq, said.energy_wh, said.power_w, said.soc_percent, str(at)


class Point(asyncio.Protocol):
    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._bare.take(_decode(line), self)

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def consume(kafka: str, bare: Bare, loop: asyncio.AbstractEventLoop) -> None:
    """With the settings that Central has."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "bare-sessions",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 500,
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, partition, 0)
            for topic in TO_CENTRAL
            for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
    )

    def take(batch: list[Said]) -> None:
        for said in batch:
            bare.take(said, None)

    while True:
        first = consumer.poll(0.1)
        if first is not None:
            records = [first, *consumer.consume(MAX_BATCH - 1, 0)]
            loop.call_soon_threadsafe(take, [_decode(record.value() or b"") for record in records])


async def run(kafka: str, database: Path, port_file: Path, updates: int) -> None:
    """Until it is killed."""
    Store(database).close()  # It makes the tables.
    rows = sqlite3.connect(database, isolation_level=None)
    rows.execute("PRAGMA journal_mode = WAL")
    rows.execute("PRAGMA synchronous = FULL")
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    bare = Bare(producer, rows, updates)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Point(bare), "127.0.0.1", 0, backlog=4096)
    threading.Thread(target=consume, args=(kafka, bare, loop), daemon=True).start()
    port_file.with_suffix(".part").write_text(str(server.sockets[0].getsockname()[1]))
    port_file.with_suffix(".part").rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    allow_open_files(20_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))

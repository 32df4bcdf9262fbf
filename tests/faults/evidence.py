"""Gathers what the books say: from traces, journals, the database, Kafka, HTTP and the programs themselves."""

import json
import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from books import Evidence, Metered, PowerCut, Receipt, State, Told
from confluent_kafka import Consumer, TopicPartition
from harness import Program, eventually
from network import Network

PAGE = 200


def gather(network: Network, begun: dict[tuple[str, int], int]) -> Evidence:
    """Everything; `begun` is where the topic of the receipts ended when the run began."""
    evidence = Evidence(unkept=network.unkept)
    evidence.power_cuts = [PowerCut(cp_id, at) for cp_id, at in network.power_cuts]
    _read_database(network.database, evidence)
    for cp in network.charge_points:
        _read_meter(network.folder / f"{cp.engine}.trace", evidence)
    evidence.journals = sorted(
        path.name for path in network.journals.rglob("*") if path.suffix in (".jsonl", ".refused", ".unreadable")
    )
    own = [message for message in heard(network.kafka.broker.bootstrap, begun) if _is_of(network, message)]
    _read_answers("Kafka", own, evidence)
    for path in sorted(network.folder.glob("*.trace")):
        received = [line["message"] for line in _lines(path)]
        _read_answers(path.name, received, evidence)
    evidence.logs = {path.name: path.read_text() for path in sorted(network.folder.glob("*.log"))}
    http = network.world.http(network.running["central"], network.token)
    shown = http.get("/v1/charge-points", params={"limit": PAGE}).raise_for_status().json()["charge_points"]
    status_over_http = {cp["cp_id"]: cp["status"] for cp in shown}
    page = http.get("/v1/sessions", params={"limit": PAGE}).raise_for_status().json()
    evidence.over_http = page["sessions"]
    for cp in network.charge_points:
        evidence.states.append(
            State(
                cp.cp_id,
                str(network.world.status(cp.cp_id)),
                status_over_http.get(cp.cp_id, "unknown"),
                _monitor_state(network.running[cp.monitor], cp.cp_id),
                _engine_state(network.running[cp.engine]),
            )
        )
    return evidence


def ends(bootstrap: str) -> dict[tuple[str, int], int]:
    """Where `driver_responses` ends now, by partition."""
    with _reader(bootstrap) as consumer:
        topic = "driver_responses"
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        if metadata.error is not None:
            return {}
        return {
            (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in metadata.partitions
        }


def heard(bootstrap: str, begun: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    """What stands in these partitions, from there to their ends."""
    until = ends(bootstrap)
    found = []
    with _reader(bootstrap) as consumer:
        missing = sum(end - begun.get(at, 0) for at, end in until.items())
        consumer.assign([TopicPartition(*at, begun.get(at, 0)) for at in until])
        while missing > 0:
            record = consumer.poll(10)
            assert record is not None, f"Kafka did not give {missing} records that it has"
            missing -= 1
            found.append(json.loads(record.value() or b"null"))
    return found


class _reader(closing[Consumer]):  # noqa: N801  # used as a function
    def __init__(self, bootstrap: str) -> None:
        super().__init__(
            Consumer({"bootstrap.servers": bootstrap, "group.id": "checker", "enable.auto.commit": False})
        )


def _is_of(network: Network, message: object) -> bool:
    return isinstance(message, dict) and str(message.get("driver_id", "")).startswith(f"{network.name}-")


def _read_answers(where: str, messages: Iterable[dict[str, Any]], evidence: Evidence) -> None:
    for message in messages:
        match message:
            case {"type": "charge_completion_response"}:
                evidence.receipts.append(Receipt(where, message))
            case {"type": "charge_request_response", "accepted": True}:
                evidence.told.append(Told(message["session_id"], message["driver_id"]))


def _read_meter(trace: Path, evidence: Evidence) -> None:
    for line in _lines(trace):
        message = line["message"]
        if line["direction"] == "out" and message["type"] in ("charging_data", "charge_completion"):
            evidence.metered.append(
                Metered(
                    message["session_id"],
                    message["cp_id"],
                    message["driver_id"],
                    message["energy_wh"],
                    datetime.fromisoformat(message["timestamp"]),
                    message.get("end_reason"),
                )
            )


def _lines(trace: Path) -> list[dict[str, Any]]:
    if not trace.exists():
        return []
    whole = [line for line in trace.read_bytes().split(b"\n") if line.endswith(b"}")]
    return [line for line in map(json.loads, whole) if isinstance(line["message"], dict)]


def _read_database(path: Path, evidence: Evidence) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        evidence.pragmas = [
            str(tuple(row))
            for pragma in ("integrity_check", "foreign_key_check")
            for row in connection.execute(f"PRAGMA {pragma}")
            if tuple(row) != ("ok",)
        ]
        evidence.sessions = _rows(connection, "SELECT * FROM sessions")
        evidence.meter_values = _rows(connection, "SELECT * FROM meter_values")
        evidence.open_faults = _rows(connection, "SELECT * FROM faults WHERE cleared_at IS NULL")


def _rows(connection: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    rows = [dict(row) for row in connection.execute(query)]
    for row in rows:
        for name in ("session_id", "request_id"):
            if name in row:
                row[name] = str(uuid.UUID(row[name]))
    return rows


def _monitor_state(monitor: Program, cp_id: str) -> str:
    words = _status_line(monitor, f"charge point {cp_id} is ")
    return words.partition(" is ")[2].split(";")[0].strip()


def _engine_state(engine: Program) -> str:
    """In the words of a charge point's state."""
    words = _status_line(engine, "charge point ")
    return "CHARGING" if "; charging" in words else "ACTIVE" if "; healthy" in words else "FAULTY"


def _status_line(program: Program, beginning: str) -> str:
    """What it says of itself when it is asked."""
    before = len(program.output)
    program.say("status")

    def look() -> str | None:
        lines = program.output[before:].splitlines(keepends=True)
        return next((line for line in lines if beginning in line and line.endswith("\n")), None)

    return eventually(look, f"{program.name} answers to `status`: {program.output[before:]}", 5)

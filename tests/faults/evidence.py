"""Gathers what the books say: from traces, journals, the database, Kafka, HTTP and the programs themselves."""

import json
import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from books import Evidence, Metered, PowerCut, Receipt, State, Told
from harness import Program, eventually
from network import Network
from records import RESPONSES, since

PAGE = 200


def gather(network: Network) -> Evidence:
    evidence = Evidence(unkept=network.unkept)
    evidence.power_cuts = [PowerCut(cp_id, at) for cp_id, at in network.power_cuts]
    _read_database(network.database, evidence)
    for meter in network.meters:
        _read_meter(network.folder / meter, evidence)
    evidence.journals = sorted(
        path.name for path in network.journals.rglob("*") if path.suffix in (".jsonl", ".refused", ".unreadable")
    )
    answers = since(network.kafka.broker.bootstrap, network.begun, RESPONSES)
    own = [message for _, message in answers if _is_of(network, message)]
    _read_answers("Kafka", own, evidence)
    for path in sorted(network.folder.glob("*.trace")):
        received = [line["message"] for line in _lines(path)]
        _read_answers(path.name, received, evidence)
    evidence.logs = {path.name: path.read_text() for path in sorted(network.folder.glob("*.log"))}
    http = network.world.http(network.running["central"], network.token)
    evidence.over_http = _pages(http, "/v1/sessions", "sessions", "before")
    status_over_http = {
        cp["cp_id"]: cp["status"] for cp in _pages(http, "/v1/charge-points", "charge_points", "after")
    }
    by_cp = {cp.cp_id: cp for cp in network.charge_points}
    for cp_id, status in _statuses(network.database).items():
        shown = {"in the database": status, "over HTTP": status_over_http.get(cp_id, "unknown")}
        if cp_id in by_cp:
            shown["at its Monitor"] = _monitor_state(network.running[by_cp[cp_id].monitor], cp_id)
            shown["at its Engine"] = _engine_state(network.running[by_cp[cp_id].engine])
        evidence.states.append(State(cp_id, shown))
    return evidence


def _pages(http: httpx.Client, path: str, name: str, mark: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at: str | None = None
    while True:
        page = http.get(path, params={"limit": PAGE} | ({mark: at} if at else {})).raise_for_status().json()
        found += page[name]
        at = page[f"next_{mark}"]
        if at is None:
            return found


def _statuses(database: Path) -> dict[str, str]:
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        return dict(connection.execute("SELECT cp_id, status FROM charge_points"))


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
        evidence.meter_values = _rows(
            connection, "SELECT session_id, v.* FROM meter_values v JOIN sessions ON number = session_number"
        )
        evidence.to_settle = _rows(connection, "SELECT * FROM to_settle WHERE settled_at IS NULL")
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

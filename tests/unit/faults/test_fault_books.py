"""The checker of the fault suite finds each kind of wrong, and nothing in books that agree."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from books import Evidence, Metered, PowerCut, Receipt, State, Told, money, wrongs

SESSION, REQUEST = "5d0f6a0e-3c0f-5a51-9d1c-0b6f4f6f7a10", "a0000001-7c1e-4f0a-9b7d-2f6d1c0a9e55"
NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def receipt(where: str = "Kafka", **fields: Any) -> Receipt:
    bill = {
        "session_id": SESSION,
        "cp_id": "CP1",
        "driver_id": "ana",
        "status": "completed",
        "end_reason": "stopped",
        "energy_wh": 1500,
        "price_per_kwh": "0.30",
        "cost": "0.45",
        "currency": "EUR",
        "revision": 1,
    }
    return Receipt(where, bill | fields)


def state(**otherwise: str) -> State:
    return State(
        "CP1", {"database": "ACTIVE", "http": "ACTIVE", "monitor": "ACTIVE", "engine": "ACTIVE"} | otherwise
    )


def sound() -> Evidence:
    """One charge of 1.5 kWh, and all agree on it."""
    row = receipt().fields | {"request_id": REQUEST, "ended_at": "2026-03-02 12:00:02"}
    return Evidence(
        metered=[
            Metered(SESSION, "CP1", "ana", 0, after(0)),
            Metered(SESSION, "CP1", "ana", 1400, after(1)),
            Metered(SESSION, "CP1", "ana", 1500, after(2), "stopped"),
        ],
        sessions=[row],
        meter_values=[
            {"session_id": SESSION, "seq": 0, "energy_wh": 0},
            {"session_id": SESSION, "seq": 2, "energy_wh": 1500},
        ],
        told=[Told(SESSION, "ana")],
        receipts=[receipt(), receipt("driver-ana.trace")],
        over_http=[dict(row)],
        states=[state()],
        logs={"central.log": '{"event": "session_ended"}\n'},
    )


def test_books_that_agree_are_right() -> None:
    assert wrongs(sound()) == []


def bill(evidence: Evidence, **fields: Any) -> None:
    """All but the Engine agree on another bill."""
    for row in (*evidence.sessions, *evidence.over_http, *(each.fields for each in evidence.receipts)):
        row.update(fields)
    evidence.meter_values[-1]["energy_wh"] = evidence.sessions[0]["energy_wh"]


def duplicate(evidence: Evidence, **fields: Any) -> None:
    """A second row of the same charge."""
    evidence.sessions.append(evidence.sessions[0] | fields)


def on_kafka(evidence: Evidence, **fields: Any) -> None:
    evidence.receipts.append(receipt(**fields))


def replace_meter(evidence: Evidence, *entries: Metered) -> None:
    evidence.metered = list(entries)


Spoil = Callable[[Evidence], object]

SPOILT: list[tuple[str, Spoil]] = [
    ("which the database does not have", lambda e: e.told.append(Told("other", "ana"))),
    ("is still charging", lambda e: e.sessions[0].update(ended_at=None, status="charging")),
    ("was never told of it", lambda e: e.told.clear()),
    ("2 sessions have the session_id", duplicate),
    ("2 sessions have the request_id", lambda e: duplicate(e, session_id="other")),
    ("has ended without a receipt on Kafka", lambda e: e.receipts.pop(0)),
    ("which the database does not have", lambda e: on_kafka(e, session_id="other")),
    ("energy_wh is 1500 on Kafka and 1501", lambda e: e.receipts[1].fields.update(energy_wh=1501)),
    (
        "ended_at is 1 on Kafka and 2",
        lambda e: [each.fields.update(ended_at=n) for n, each in enumerate(e.receipts, 1)],
    ),
    ("has revision 1, the database 2", lambda e: e.sessions[0].update(revision=2)),
    ("has revision 2, the database 1", lambda e: on_kafka(e, revision=2, energy_wh=1600, cost="0.48")),
    ("do not rise: [1500, 1500] Wh", lambda e: on_kafka(e, revision=2)),
    ("has status completed, the database failed", lambda e: e.sessions[0].update(status="failed")),
    ("has end_reason stopped, the database fault", lambda e: e.sessions[0].update(end_reason="fault")),
    ("has price_per_kwh 0.30, the database 0.31", lambda e: e.sessions[0].update(price_per_kwh="0.31")),
    ("costs 0.46, but 1500 Wh at 0.30 are 0.45", lambda e: bill(e, cost="0.46")),
    ("metered 1500 Wh, billed 1499 Wh", lambda e: bill(e, energy_wh=1499)),
    ("metered 1500 Wh, billed 1501 Wh", lambda e: bill(e, energy_wh=1501)),
    ("that no Engine has metered", lambda e: e.metered.clear()),
    (
        "CP1 delivered 70 Wh for session other",
        lambda e: e.metered.append(Metered("other", "CP1", "ana", 70, NOON, "stopped")),
    ),
    ("for ana, and billed at CP1 to bo", lambda e: bill(e, driver_id="bo")),
    (
        "has completed session 5d0f6a0e-3c0f-5a51-9d1c-0b6f4f6f7a10 over [1500, 1501] Wh",
        lambda e: e.metered.append(Metered(SESSION, "CP1", "ana", 1501, after(2), "stopped")),
    ),
    ("and never completed it", lambda e: replace_meter(e, *e.metered[:-1])),
    (
        "metered 1600 Wh for",
        lambda e: e.metered.insert(0, Metered(SESSION, "CP1", "ana", 1600, after(1.5))),
    ),
    ("fall: [1600, 1500] Wh", lambda e: e.meter_values[0].update(energy_wh=1600)),
    ("the last reading kept of session", lambda e: e.meter_values.pop()),
    ("CP1 is CHARGING database", lambda e: e.states.append(state(database="CHARGING"))),
    ("FAULTY http", lambda e: e.states.append(state(http="FAULTY"))),
    (
        "DISCONNECTED monitor",
        lambda e: e.states.append(state(monitor="DISCONNECTED")),
    ),
    ("CHARGING engine", lambda e: e.states.append(state(engine="CHARGING"))),
    (
        "the fault engine_lost of CP1 was never cleared",
        lambda e: e.open_faults.append({"cp_id": "CP1", "code": "engine_lost", "description": "gone"}),
    ),
    (
        "two different receipts share the message_id 7",
        lambda e: e.receipts.extend([receipt(message_id="7"), receipt("x.trace", message_id="7", revision=2)]),
    ),
    (
        f"orphan of session {SESSION} waits for a person: nobody knows it",
        lambda e: e.to_settle.append({"kind": "orphan", "session_id": SESSION, "reason": "nobody knows it"}),
    ),
    ("is not shown over HTTP", lambda e: e.over_http.clear()),
    ("status is charging over HTTP", lambda e: e.over_http[0].update(status="charging")),
    ("the journal x.jsonl was left", lambda e: e.journals.append("x.jsonl")),
    ("the database is damaged", lambda e: e.pragmas.append("row 1 missing from index")),
    ("central.log says", lambda e: e.logs.update({"central.log": '{"event": "bug"}'})),
    ("monitor.log says", lambda e: e.logs.update({"monitor.log": "Traceback (most recent call last):"})),
]


@pytest.mark.parametrize(("sentence", "spoil"), SPOILT, ids=[sentence for sentence, _ in SPOILT])
def test_each_kind_of_wrong_is_found(sentence: str, spoil: Spoil) -> None:
    evidence = deepcopy(sound())
    spoil(evidence)
    assert any(sentence in wrong for wrong in wrongs(evidence)), wrongs(evidence)


def cut_off(kept_until_s: float) -> Evidence:
    """The power went at second 5, in mid-charge; the journal has readings until `kept_until_s`."""
    evidence = sound()
    bill(evidence, energy_wh=1400, cost="0.42", status="interrupted", end_reason="engine_restarted")
    replace_meter(
        evidence,
        Metered(SESSION, "CP1", "ana", 0, after(0)),
        Metered(SESSION, "CP1", "ana", 1400, after(kept_until_s)),
        Metered(SESSION, "CP1", "ana", 1400, after(kept_until_s), "engine_restarted"),
    )
    evidence.power_cuts = [PowerCut("CP2", after(9)), PowerCut("CP1", after(5)), PowerCut("CP1", after(99))]
    return evidence


def test_a_power_cut_may_cost_the_last_second_and_no_more() -> None:
    assert wrongs(cut_off(4.1)) == []
    assert wrongs(cut_off(3.9)) == [f"the power cut at CP1 cost session {SESSION} its last 1.1 s"]


def test_without_a_journal_what_central_has_heard_stands() -> None:
    """The Engine's disk was full, then its power went: it remembers less than it has told Central."""
    evidence = sound()
    replace_meter(
        evidence,
        Metered(SESSION, "CP1", "ana", 1500, after(1)),
        Metered(SESSION, "CP1", "ana", 1200, after(0), "engine_restarted"),
    )
    evidence.unkept = {"CP1"}
    assert wrongs(evidence) == []
    bill(evidence, energy_wh=1501)
    assert f"session {SESSION} at CP1: metered 1200 Wh, billed 1501 Wh" in wrongs(evidence)
    bill(evidence, energy_wh=1199)
    assert f"session {SESSION} at CP1: metered 1200 Wh, billed 1199 Wh" in wrongs(evidence)


def test_a_start_that_never_was_needs_a_receipt_over_nothing() -> None:
    evidence = sound()
    bill(evidence, energy_wh=0, cost="0.00", status="failed", end_reason="start_timeout")
    evidence.metered.clear()
    evidence.meter_values.clear()
    assert wrongs(evidence) == []


def test_a_corrected_bill_is_the_last_one() -> None:
    evidence = sound()
    earlier: dict[str, Any] = {
        "energy_wh": 1400,
        "cost": "0.42",
        "status": "interrupted",
        "end_reason": "engine_lost",
    }
    evidence.receipts = [receipt(**earlier), receipt(revision=2)]
    evidence.sessions[0]["revision"] = evidence.over_http[0]["revision"] = 2
    assert wrongs(evidence) == []


@pytest.mark.parametrize(
    ("energy_wh", "price", "cost"),
    [
        (1500, "0.30", "0.45"),
        (50, "0.30", "0.02"),
        (49, "0.30", "0.01"),
        (0, "0.30", "0.00"),
        (10, "0.499999", "0.00"),
    ],
)
def test_money_rounds_half_a_cent_up(energy_wh: int, price: str, cost: str) -> None:
    assert money(energy_wh, price) == cost

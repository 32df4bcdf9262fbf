"""Whatever a charge point or a driver may say, up to the limits of the messages' types, is decided and stored."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData

from evcharge.domain.decisions import FromKafka, FromMonitor, Input, MonitorCame
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network, Policy
from evcharge.domain.session import EndReason
from evcharge.domain.status import Status
from evcharge.protocol import messages
from evcharge.protocol.messages import Undecodable, derived_id
from evcharge.protocol.records import Received
from evcharge.protocol.topics import TO_CENTRAL, Topic
from evcharge.storage import schema
from evcharge.storage.store import Store

Json = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CP, DRIVER = "CP1", "x" * 64
REQUESTS = [UUID(int=number) for number in range(3)]
SESSIONS = [derived_id(request, "session") for request in REQUESTS]
FILLED = {"charge_points", "sessions", "meter_values", "faults", "answers"}
"""The tables that messages alone can fill."""

ids = st.sampled_from([CP, CP, CP, "a:b", "9" * 64])
drivers = st.sampled_from([DRIVER, DRIVER, "D-1"])
requests = st.sampled_from(REQUESTS).map(str)
sessions = st.sampled_from(SESSIONS).map(str)
LATEST = "9998-12-31T23:59:59.999999Z"
times = st.sampled_from(
    [
        "0002-01-01T00:00:00Z",
        LATEST,
        "9998-12-31T23:59:59-23:59",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.1+05:30",
    ]
)
texts = st.sampled_from(
    [
        "",
        "bay 1",
        "\U0001f50c" * 500,
        "\U0010ffff",
        "\ufffe" * 500,
        "\u202e\u2028%_'\";",
        "\ud83d",
        "\x00",
        "x" * 501,
    ]
)
energies = st.sampled_from([0, 1, 1000, 10**9])
powers = st.sampled_from([0, 11_000, 10**8])
numbers = st.sampled_from([0, 1, 2, 2**53])
charges = st.sampled_from([None, 0, 5e-324, 55.5, 100])
prices = st.sampled_from(["0", "1000", "0.000001", "1e3", "999.999999"])
said: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "auth_request": {"cp_id": ids, "key": texts},
    "register_request": {
        "cp_id": ids,
        "location": texts,
        "price_per_kwh": prices,
        "currency": st.just("EUR"),
        "max_power_w": powers,
    },
    "heartbeat_request": {"cp_id": ids},
    "status_update": {
        "cp_id": ids,
        "status": st.sampled_from(Status),
        "engine_connected": st.booleans(),
        "session_id": st.none() | sessions,
        "unsettled_session_ids": st.lists(sessions, max_size=3),
        "reason": texts,
    },
    "fault_notification": {"cp_id": ids, "fault_code": ids, "description": texts},
    "recovery_notification": {"cp_id": ids, "fault_code": ids, "description": texts},
    "command_response": {
        "cp_id": ids,
        "session_id": sessions,
        "in_reply_to": st.sampled_from(SESSIONS).map(lambda session_id: str(derived_id(session_id, "start"))),
        "accepted": st.booleans(),
        "code": ids,
        "reason": texts,
    },
    "charging_data": {
        "cp_id": ids,
        "session_id": sessions,
        "driver_id": drivers,
        "seq": numbers,
        "energy_wh": energies,
        "power_w": powers,
        "soc_percent": charges,
    },
    "charge_completion": {
        "cp_id": ids,
        "session_id": sessions,
        "driver_id": drivers,
        "seq": numbers,
        "energy_wh": energies,
        "end_reason": st.sampled_from(EndReason),
        "started_at": times,
        "ended_at": times,
        "soc_percent": charges,
    },
    "charge_request": {"cp_id": ids, "driver_id": drivers, "energy_wh": st.sampled_from([None, 1, 10**9])},
    "stop_charging_request": {"cp_id": ids, "driver_id": drivers, "session_id": sessions},
    "available_cps_request": {
        "driver_id": drivers,
        "all": st.booleans(),
        "after": texts,
        "limit": st.sampled_from([1, 200]),
    },
    "charging_status_request": {"driver_id": drivers},
    "charging_history_request": {
        "driver_id": drivers,
        "before": st.sampled_from([None, 1, 2**53, 2**63 - 1, 2**63, 10**30]),
        "limit": st.sampled_from([1, 200]),
    },
    "error_response": {"code": ids, "reason": texts},
}


def saying(kind: str) -> st.SearchStrategy[Json]:
    fields = {"type": st.just(kind), "message_id": requests, "timestamp": times, **said[kind]}
    return st.fixed_dictionaries(fields)


PLACES: dict[str, list[str | None]] = {
    "charge_request": [None, Topic.CHARGE_REQUESTS],
    "stop_charging_request": [Topic.STOP_REQUESTS],
    "available_cps_request": [Topic.CPS_REQUESTS],
    "charging_status_request": [Topic.CPS_REQUESTS],
    "charging_history_request": [Topic.CPS_REQUESTS],
    "charging_data": [None, Topic.SESSION_DATA],
    "charge_completion": [None, Topic.SESSION_COMPLETE],
}
"""Where a message belongs, if not with the Monitor (None) alone."""


def sent(kind: str) -> st.SearchStrategy[tuple[Json, str | None]]:
    """As a rule where it belongs."""
    right = st.sampled_from(PLACES.get(kind, [None]))
    return st.tuples(saying(kind), right | right | right | st.sampled_from(TO_CENTRAL))


anything = st.sampled_from(sorted(said)).flatmap(sent)


def of_a_charge(kind: str, **changes: Any) -> st.SearchStrategy[Json]:
    """What belongs to a charge that really runs."""
    mine = {
        "cp_id": CP,
        "driver_id": DRIVER,
        "session_id": str(SESSIONS[0]),
        "message_id": str(REQUESTS[0]),
        "timestamp": LATEST,
    }
    return saying(kind).map(lambda message: message | {k: v for k, v in mine.items() if k in message} | changes)


beginning = st.tuples(
    of_a_charge("auth_request", key=""),
    of_a_charge("register_request", location="\U0010ffff" * 500, price_per_kwh="999.999999", max_power_w=10**8),
    of_a_charge("charge_request", timestamp="2026-01-01T00:00:00Z"),
    of_a_charge("command_response", accepted=True, in_reply_to=str(derived_id(SESSIONS[0], "start")), reason=""),
    of_a_charge("charging_data", seq=0, energy_wh=1),
    of_a_charge("charging_data", seq=2**53),
    of_a_charge("fault_notification", description="\U0001f50c" * 500),
)


def read(message: Json, way: str | None) -> Input | None:
    """As it comes on a wire, escapes and all; None if it is no message."""
    line = json.dumps(message).encode()
    try:
        decoded = messages.decode(line)
    except Undecodable:
        return None
    return FromMonitor(1, decoded) if way is None else FromKafka(Received(way, 0, 0, None, line), decoded)


def rows(store: Store) -> dict[str, int]:
    tables: MetaData = schema.sessions.metadata
    with store.engine.connect() as connection:
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in tables.tables
        }


def empty(store: Store) -> None:
    with store.engine.begin() as connection:
        for table in reversed(schema.sessions.metadata.sorted_tables):
            connection.execute(table.delete())


def test_the_extremes_of_all_messages_are_decided_and_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "evcharge.db")
    filled = dict.fromkeys(FILLED, 0)
    begun = metered = examples = 0

    @settings(max_examples=120, deadline=None, database=None)
    @given(beginning, st.lists(anything, max_size=30))
    def tell(charge: tuple[Json, ...], more: list[tuple[Json, str | None]]) -> None:
        nonlocal begun, metered, examples
        empty(store)
        policy = Policy(
            open_registration=True,
            request_max_age_s=1e12,
            time_scale=1e4,
            start_timeout_s=1e6,
            max_price_per_kwh=Decimal(1000),
            max_power_w=10**8,
        )
        network = Network(policy, [], [], Instant(NOW, 1000.0))
        heard = [read(message, None) for message in charge]
        assert None not in heard
        heard += [read(message, way) for message, way in more]
        inputs: list[Input] = [MonitorCame(1), *(item for item in heard if item is not None)]
        for number in range(0, len(inputs), 4):
            now = Instant(NOW + timedelta(seconds=number), 1000.0 + number)
            batch = inputs[number : number + 4]
            decisions = network.decide(batch, store.known(network.wanted(batch)), now)
            assert [note.fields for note in decisions.notes if note.event == "bug"] == []
            store.commit(decisions, now.utc)
            for request in decisions.histories:
                store.history(request)
            for message in [record.message for record in decisions.records] + [
                frame.message for frame in decisions.frames
            ]:
                assert messages.decode(messages.encode(message)) == message
        for read_back in (store.charge_points, store.open_sessions, store.receipts_waiting):
            read_back()
        found = rows(store)
        for name in FILLED:
            filled[name] += found[name]
        examples += 1
        begun += found["sessions"] > 0
        metered += found["meter_values"] > 0

    try:
        tell()
    finally:
        store.close()
    assert all(filled.values()), filled
    assert begun == examples
    assert metered > examples / 2

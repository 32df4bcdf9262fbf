"""The database, in real SQLite files: what is committed is there, what is asked is found by an index, and each
problem with the file is one clear sentence."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Engine, bindparam, create_engine, event, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import Pool

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import Actor
from evcharge.domain.decisions import (
    Answer,
    Decisions,
    FaultCleared,
    FaultOpened,
    MeterValue,
    Wanted,
)
from evcharge.domain.driver import KnownDriver
from evcharge.domain.faults import CONNECTION_LOST
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.domain.status import Status
from evcharge.errors import DatabaseUnusable, UsageError
from evcharge.protocol.messages import ChargeRequestResponse, ChargingHistoryRequest
from evcharge.storage import schema
from evcharge.storage.database import MIGRATIONS, REVISIONS, open_database
from evcharge.storage.lock import locked
from evcharge.storage.prepared import ManyRows
from evcharge.storage.registry import Driver, Registry
from evcharge.storage.store import Store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACTOR = Actor("maria", "command line")
MORE_THAN_ONE_TAKES = 33_000  # SQLite takes 32,766 values in one statement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evcharge.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


def registry(store: Store) -> Registry:
    return Registry(store.engine)


def a_charge_point(cp_id: str = "CP001", **changes: Any) -> ChargePoint:
    return replace(
        ChargePoint(
            cp_id,
            location="Main Street 1",
            price_per_kwh=Decimal("0.30"),
            currency="CHF",
            max_power_w=22_000,
            status=Status.ACTIVE,
        ),
        **changes,
    )


def a_session(number: int = 1, **changes: Any) -> Session:
    session = Session(
        number=number,
        session_id=UUID(int=number),
        request_id=UUID(int=number + 10**6),
        cp_id="CP001",
        driver_id="D1",
        target_energy_wh=5000,
        price_per_kwh=Decimal("0.123456"),
        currency="CHF",
        requested_at=NOW,
    )
    return replace(session, **changes)


def an_ended_session(number: int = 1, **changes: Any) -> Session:
    session = a_session(number, **changes)
    session.start(NOW + timedelta(seconds=1), NOW + timedelta(seconds=1))
    session.meter(7, 4321, 11_000, 55.5)
    session.end(EndReason.STOPPED, NOW + timedelta(seconds=2), NOW + timedelta(seconds=2))
    return session


def decisions(*sessions: Session, **changes: Any) -> Decisions:
    return Decisions(
        **{
            "charge_points": {"CP001": a_charge_point()},
            "drivers": {"D1"},
            "sessions": {session.session_id: session for session in sessions},
        }
        | changes
    )


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# The file


def test_a_new_database_is_empty(store: Store) -> None:
    assert store.charge_points() == []
    assert registry(store).drivers() == []
    assert store.open_sessions() == []
    assert store.receipts_waiting() == []


def test_a_database_can_be_opened_again_and_again(path: Path) -> None:
    for number in range(3):
        store = Store(path)
        registry(store).add_driver(f"D{number}", "key", ACTOR, NOW)
        store.close()
    store = Store(path)
    assert [row.driver_id for row in registry(store).drivers()] == ["D0", "D1", "D2"]
    store.close()


def test_every_connection_writes_ahead_and_to_the_disk(path: Path) -> None:
    engine = open_database(path)
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
            assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    engine.dispose()


def test_the_migrations_make_exactly_the_schema(path: Path) -> None:
    engine = open_database(path)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_the_migrations_make_the_partial_indexes_of_the_schema_too(tmp_path: Path) -> None:
    """Which `compare_metadata` does not look at in SQLite."""
    migrated, made = tmp_path / "migrated.db", tmp_path / "made.db"
    open_database(migrated).dispose()
    engine = create_engine(f"sqlite:///{made}")
    schema.metadata.create_all(engine)
    engine.dispose()
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"

    def conditions(path: Path) -> dict[str, str]:
        return {name: re.sub(r"\b\w+\.", "", sql.partition(" WHERE ")[2]) for name, sql in rows(path, query)}

    assert conditions(migrated) == conditions(made)
    assert len([condition for condition in conditions(made).values() if condition]) == 9


def test_the_files_of_the_migrations_are_named_by_their_revisions() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert [script.revision for script in reversed(list(scripts))] == REVISIONS


def test_a_start_on_a_database_that_is_up_to_date_needs_no_migrations(path: Path) -> None:
    Store(path).close()
    code = (
        "import sys; from pathlib import Path; from evcharge.storage.store import Store;"
        " Store(Path(sys.argv[1])).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnusable, match=r"was written by a newer evcharge \(schema 9999\); upgrade"):
        Store(path)
    assert rows(path, "SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.mark.parametrize("content", [b"not a database at all, " * 100, b"\x00" * 5000, b"short"])
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match="is not an SQLite database; choose another with --db"):
        Store(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(DatabaseUnusable, match="is an SQLite database of something else; choose another"):
        Store(path)
    assert rows(path, "SELECT name FROM sqlite_master") == [("songs",)]
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize("table", ["answers", "sessions", "meter_values"])
def test_a_database_whose_making_was_cut_off_is_made_after_all(path: Path, table: str) -> None:
    """A kill, or a power cut, in the very first start must not need a person to delete the file."""

    def cut_off(*arguments: Any) -> None:
        if arguments[2].lstrip().startswith(f"CREATE TABLE {table} "):
            raise KeyboardInterrupt

    with listening("before_cursor_execute", cut_off), pytest.raises(KeyboardInterrupt):
        Store(path)
    store = Store(path)
    registry(store).add_driver("D1", "key", ACTOR, NOW)
    store.close()


@contextmanager
def listening(name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(Engine, name, listener)
    try:
        yield
    finally:
        event.remove(Engine, name, listener)


@contextmanager
def asked_of_stores() -> Iterator[list[str]]:
    """Each statement, with its values, that is run on a connection that is opened meanwhile."""
    asked: list[str] = []

    def listen(connection: sqlite3.Connection, _: object) -> None:
        connection.set_trace_callback(asked.append)

    event.listen(Pool, "connect", listen)
    try:
        yield asked
    finally:
        event.remove(Pool, "connect", listen)


def test_a_folder_that_is_missing_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "no" / "evcharge.db"
    with pytest.raises(DatabaseUnusable, match=r"the folder .*no for the database does not exist; make it first"):
        Store(path)
    with pytest.raises(DatabaseUnusable, match="make it first"), locked(path):
        pass


def test_a_path_below_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnusable, match="does not exist; make it first"):
        Store(tmp_path / "file" / "evcharge.db")


def test_a_folder_as_the_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="is a folder; --db takes the name of a file"):
        Store(tmp_path)


def unwritable(tmp_path: Path) -> Path:
    """A folder that takes no new file from us."""
    if os.geteuid() == 0:
        return Path("/proc")  # nobody can write there, not even root
    tmp_path.chmod(0o555)
    return tmp_path


def test_a_folder_that_is_not_writable_is_one_clear_sentence(tmp_path: Path) -> None:
    folder = unwritable(tmp_path)
    with pytest.raises(
        DatabaseUnusable, match=rf"unable to open.*may this user write to .* and to the folder {folder}"
    ):
        Store(folder / "evcharge.db")
    with pytest.raises(DatabaseUnusable, match=r"the lock .* cannot be written"), locked(folder / "evcharge.db"):
        pass


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a?mode=memory&b.db", "a#b.db", "a%41.db", "ä.db", "a'b.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / name)
    registry(store).add_driver("D1", "key", ACTOR, NOW)
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == [name]


# The lock


def test_a_second_central_is_refused(path: Path) -> None:
    with locked(path):
        with (
            pytest.raises(DatabaseUnusable, match=r"another Central runs on .*evcharge\.db; stop it first"),
            locked(path),
        ):
            pass
        with locked(path.with_name("other.db")):
            pass
    with locked(path):
        pass


def test_the_lock_ends_with_its_process(path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from evcharge.storage.lock import locked\n"
        f"with locked(pathlib.Path({str(path)!r})):\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(DatabaseUnusable, match="another Central"), locked(path):
            pass
        other.kill()
        other.wait()
    with locked(path):
        pass


def test_the_operators_commands_need_no_lock(path: Path, store: Store) -> None:
    with locked(path):
        other = Store(path)
        registry(other).add_driver("D1", "key", ACTOR, NOW)
        other.close()
    assert [row.driver_id for row in registry(store).drivers()] == ["D1"]


# Charge points and drivers, as the operator keeps them


def test_a_charge_point_that_is_added_is_known_with_its_key(store: Store) -> None:
    registry(store).add_charge_point("CP002", "hash 2", ACTOR, NOW)
    registry(store).add_charge_point("CP001", "hash 1", ACTOR, NOW)
    assert store.charge_points() == [
        ChargePoint("CP001", key_hash="hash 1"),
        ChargePoint("CP002", key_hash="hash 2"),
    ]


def test_a_charge_point_is_not_added_twice(store: Store) -> None:
    registry(store).add_charge_point("CP001", "hash 1", ACTOR, NOW)
    with pytest.raises(UsageError, match="the charge point CP001 is there already; remove it first"):
        registry(store).add_charge_point("CP001", "hash 2", ACTOR, NOW)
    assert [cp.key_hash for cp in store.charge_points()] == ["hash 1"]


def test_a_charge_point_that_is_removed_keeps_its_key_to_end_what_runs_and_its_history(store: Store) -> None:
    registry(store).add_charge_point("CP001", "hash 1", ACTOR, NOW)
    store.commit(decisions(an_ended_session()), NOW)
    registry(store).remove_charge_point("CP001", ACTOR, NOW)
    (cp,) = store.charge_points()
    assert (cp.removed, cp.key_hash, cp.location) == (True, "hash 1", "Main Street 1")
    assert len(store.history(a_history_request())[0]) == 1
    with pytest.raises(UsageError, match="there is no charge point CP001"):
        registry(store).remove_charge_point("CP001", ACTOR, NOW)


def test_a_charge_point_that_is_added_again_comes_back_with_a_new_key(store: Store) -> None:
    registry(store).add_charge_point("CP001", "hash 1", ACTOR, NOW)
    store.commit(decisions(), NOW)
    registry(store).remove_charge_point("CP001", ACTOR, NOW)
    registry(store).add_charge_point("CP001", "hash 2", ACTOR, NOW)
    (cp,) = store.charge_points()
    assert (cp.removed, cp.key_hash, cp.location, cp.price_per_kwh) == (
        False,
        "hash 2",
        "Main Street 1",
        Decimal("0.30"),
    )


def test_what_was_never_added_cannot_be_removed(store: Store) -> None:
    with pytest.raises(UsageError, match="there is no charge point CP001"):
        registry(store).remove_charge_point("CP001", ACTOR, NOW)
    with pytest.raises(UsageError, match="there is no driver D1"):
        registry(store).remove_driver("D1", ACTOR, NOW)


def test_drivers_are_added_removed_and_added_again(store: Store) -> None:
    registry(store).add_driver("D2", "key", ACTOR, NOW)
    registry(store).add_driver("D1", "key", ACTOR, NOW + timedelta(days=1))
    assert registry(store).drivers() == [Driver("D1", NOW + timedelta(days=1), True), Driver("D2", NOW, True)]
    with pytest.raises(UsageError, match="the driver D1 is there already"):
        registry(store).add_driver("D1", "key", ACTOR, NOW)
    registry(store).remove_driver("D1", ACTOR, NOW)
    assert registry(store).drivers() == [Driver("D2", NOW, True)]
    with pytest.raises(UsageError, match="there is no driver D1"):
        registry(store).remove_driver("D1", ACTOR, NOW)
    registry(store).add_driver("D1", "key", ACTOR, NOW + timedelta(days=2))
    assert [row.driver_id for row in registry(store).drivers()] == ["D1", "D2"]


def test_a_driver_is_known_with_the_key_it_was_last_given(store: Store) -> None:
    wanted = Wanted(drivers={"D1"})
    registry(store).add_driver("D1", "first", ACTOR, NOW)
    with pytest.raises(UsageError, match="remove it first"):
        registry(store).add_driver("D1", "second", ACTOR, NOW)
    assert store.known(wanted).drivers == {"D1": KnownDriver("first")}
    registry(store).remove_driver("D1", ACTOR, NOW)
    assert store.known(wanted).drivers == {"D1": KnownDriver("first", removed=True)}
    registry(store).add_driver("D1", "third", ACTOR, NOW)
    assert store.known(wanted).drivers == {"D1": KnownDriver("third")}


def test_the_key_of_a_driver_who_was_removed_is_kept_to_end_what_runs(path: Path, store: Store) -> None:
    registry(store).add_driver("D1", "first", ACTOR, NOW)
    registry(store).remove_driver("D1", ACTOR, NOW)
    assert rows(path, "SELECT key, removed FROM drivers") == [("first", 1)]


def test_a_new_database_is_for_its_owner_alone(path: Path, store: Store) -> None:
    registry(store).add_driver("D1", "key", ACTOR, NOW)
    files = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3


def test_a_database_that_is_there_keeps_its_mode(path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    Store(path).close()
    assert path.stat().st_mode & 0o777 == 0o640


def test_ids_that_differ_in_case_are_two(store: Store) -> None:
    registry(store).add_charge_point("cp001", "a", ACTOR, NOW)
    registry(store).add_charge_point("CP001", "b", ACTOR, NOW)
    assert [cp.cp_id for cp in store.charge_points()] == ["CP001", "cp001"]


# What Central commits


def test_nothing_to_store_touches_nothing(path: Path) -> None:
    with asked_of_stores() as asked, closing(Store(path)) as store:
        asked.clear()
        store.commit(Decisions(counts={"x": 1}), NOW)
        assert asked == []


def test_a_charge_point_comes_back_as_it_was_committed(store: Store) -> None:
    cp = a_charge_point(out_of_service=True, status=Status.CHARGING, price_per_kwh=Decimal("999.999999"))
    store.commit(Decisions(charge_points={"CP001": cp}), NOW)
    assert store.charge_points() == [cp]
    changed = replace(
        cp, location="elsewhere", price_per_kwh=Decimal("1.10"), status=Status.FAULTY, out_of_service=False
    )
    store.commit(Decisions(charge_points={"CP001": changed}), NOW)
    assert store.charge_points() == [changed]
    assert str(store.charge_points()[0].price_per_kwh) == "1.10"


def test_central_never_overwrites_the_operators_columns(path: Path, store: Store) -> None:
    """Central has read the charge point; then the operator changes it, from another process."""
    registry(store).add_charge_point("CP001", "old hash", ACTOR, NOW)
    (held,) = store.charge_points()
    operator = Store(path)
    registry(operator).remove_charge_point("CP001", ACTOR, NOW)
    held.status = Status.ACTIVE
    held.location = "here"
    store.commit(Decisions(charge_points={"CP001": held}), NOW)
    (cp,) = store.charge_points()
    assert (cp.key_hash, cp.removed) == ("old hash", True)
    assert (cp.status, cp.location) == (Status.ACTIVE, "here")
    registry(operator).add_charge_point("CP001", "new hash", ACTOR, NOW)
    operator.close()
    store.commit(Decisions(charge_points={"CP001": held}), NOW)
    (cp,) = store.charge_points()
    assert (cp.key_hash, cp.removed) == ("new hash", False)


def test_a_session_comes_back_as_it_was_committed(store: Store) -> None:
    session = a_session(target_energy_wh=None)
    store.commit(decisions(session), NOW)
    assert store.open_sessions() == [session]
    session.start(NOW + timedelta(seconds=1), NOW + timedelta(seconds=1))
    session.meter(3, 1234, 11_000, 20.5)
    session.stop_requested = True
    store.commit(decisions(session), NOW)
    assert store.open_sessions() == [session]
    session.end(EndReason.FAULT, NOW + timedelta(seconds=9), NOW + timedelta(seconds=9))
    store.commit(decisions(session), NOW)
    assert store.open_sessions() == []
    assert store.known(Wanted(sessions={session.session_id})).sessions == {session.session_id: session}


def test_what_a_session_was_agreed_on_does_not_change(store: Store) -> None:
    store.commit(decisions(a_session()), NOW)
    store.commit(
        decisions(a_session(price_per_kwh=Decimal(9), currency="EUR", requested_at=NOW + timedelta(1))), NOW
    )
    assert store.open_sessions() == [a_session()]


def test_the_cost_is_written_with_the_session(path: Path, store: Store) -> None:
    store.commit(decisions(an_ended_session()), NOW)
    assert rows(path, "SELECT energy_wh, price_per_kwh, cost, currency FROM sessions") == [
        (4321, "0.123456", "0.53", "CHF")
    ]


def test_open_sessions_come_in_order_of_their_requests(store: Store) -> None:
    for number in (5, 3, 9, 1):
        store.commit(decisions(a_session(number)), NOW)
    store.commit(decisions(an_ended_session(3), a_session(5)), NOW)
    assert [session.number for session in store.open_sessions()] == [1, 5, 9]
    assert store.last_session_number() == 9


def test_moments_keep_their_instant_whatever_their_zone(store: Store) -> None:
    elsewhere = timezone(timedelta(hours=5, minutes=30))
    session = a_session(requested_at=datetime(2026, 6, 1, 1, 2, 3, 456789, tzinfo=elsewhere))
    store.commit(decisions(session), NOW)
    (back,) = store.open_sessions()
    assert back.requested_at == session.requested_at
    assert back.requested_at.tzinfo is UTC


def test_readings_are_kept_once(path: Path, store: Store) -> None:
    one = MeterValue(1, 7, 1234, 11_000, 20.5, NOW)
    other = MeterValue(1, 8, 1234, 11_000, None, NOW)
    again = MeterValue(1, 7, 9, 11_000, 20.5, NOW)
    store.commit(decisions(a_session(), meter_values=[one, other]), NOW)
    store.commit(Decisions(meter_values=[again]), NOW)
    assert rows(
        path, "SELECT seq, energy_wh, power_w, soc_percent, measured_at FROM meter_values ORDER BY seq"
    ) == [
        (7, 1234, 11_000, 20.5, "2026-01-01 12:00:00.000000"),
        (8, 1234, 11_000, None, "2026-01-01 12:00:00.000000"),
    ]


def test_faults_are_opened_and_cleared(path: Path, store: Store) -> None:
    opened = [FaultOpened("CP001", code, f"{code} is broken", NOW) for code in ("A", "B")]
    store.commit(decisions(faults=opened), NOW)
    later = NOW + timedelta(minutes=1)
    store.commit(Decisions(faults=[FaultCleared("CP001", "A", later), FaultCleared("CP001", "C", later)]), NOW)
    store.commit(Decisions(faults=[FaultOpened("CP001", "A", "again", later)]), NOW)
    assert rows(path, "SELECT cp_id, code, description, started_at, cleared_at FROM faults ORDER BY number") == [
        ("CP001", "A", "A is broken", "2026-01-01 12:00:00.000000", "2026-01-01 12:01:00.000000"),
        ("CP001", "B", "B is broken", "2026-01-01 12:00:00.000000", None),
        ("CP001", "A", "again", "2026-01-01 12:01:00.000000", None),
    ]


def test_faults_of_one_batch_keep_their_order(path: Path, store: Store) -> None:
    batch = [
        FaultOpened("CP001", "A", "first", NOW),
        FaultCleared("CP001", "A", NOW),
        FaultOpened("CP001", "A", "second", NOW),
    ]
    store.commit(decisions(faults=batch), NOW)
    assert rows(path, "SELECT description FROM faults WHERE cleared_at IS NULL") == [("second",)]


def an_answer(request_id: UUID, reason: str = "no") -> ChargeRequestResponse:
    return ChargeRequestResponse(
        message_id=uuid4(),
        timestamp=NOW,
        in_reply_to=request_id,
        driver_id="D1",
        cp_id="CP001",
        accepted=False,
        reason=reason,
        price_per_kwh=Decimal("0.30"),
    )


def other_than(value: Any, column: Column[Any]) -> Any:
    """Another value that the column takes."""
    if column.name == "status":
        return SessionStatus.INTERRUPTED
    if column.name == "end_reason":
        return EndReason.FAULT
    if value is not None:
        return not value if isinstance(value, bool) else value + 1
    if isinstance(column.type, schema.UtcDateTime):
        return NOW
    kind = column.type.python_type
    return UUID(int=1) if kind is UUID else kind(1)


@pytest.mark.parametrize(
    "column",
    [c for c in schema.sessions.columns if c.info not in (schema.ONCE, schema.BESIDE) and c.name != "cost"],
    ids=lambda column: column.name,
)
def test_whatever_of_a_session_may_change_is_written_when_it_has(store: Store, column: Column[Any]) -> None:
    session = a_session()
    store.commit(decisions(session), NOW)
    changed = replace(session, **{column.name: other_than(getattr(session, column.name), column)})
    store.commit(decisions(changed), NOW)
    assert store.known(Wanted(sessions={session.session_id})).sessions[session.session_id] == changed


def test_an_answer_comes_back_as_it_was_given_first(store: Store) -> None:
    request_id = uuid4()
    answer = an_answer(request_id)
    store.commit(Decisions(answers=[Answer(request_id, answer)]), NOW)
    store.commit(Decisions(answers=[Answer(request_id, an_answer(request_id, "another"))]), NOW)
    assert store.known(Wanted(answers={request_id, uuid4()})).answers == {request_id: answer}


def test_answers_are_forgotten_after_a_day(store: Store) -> None:
    ids = [uuid4() for _ in range(3)]
    for hours, request_id in zip((0, 1, 25), ids, strict=True):
        store.commit(Decisions(answers=[Answer(request_id, an_answer(request_id))]), NOW + timedelta(hours=hours))
    store.forget_answers(NOW + timedelta(hours=24, minutes=30))
    assert store.known(Wanted(answers=set(ids))).answers.keys() == {ids[1], ids[2]}


def test_a_receipt_waits_until_kafka_has_it(store: Store) -> None:
    session = an_ended_session()
    store.commit(decisions(session, a_session(2)), NOW)
    assert store.receipts_waiting() == [session]
    store.commit(Decisions(receipts_sent=[(session.session_id, 1)]), NOW)
    assert store.receipts_waiting() == []


def test_a_corrected_receipt_waits_again(store: Store) -> None:
    session = an_ended_session()
    session.status = SessionStatus.INTERRUPTED
    store.commit(decisions(session), NOW)
    store.commit(Decisions(receipts_sent=[(session.session_id, 1)]), NOW)
    assert session.settle(9, 5000, EndReason.STOPPED, NOW, NOW, NOW)
    store.commit(decisions(session), NOW)
    assert store.receipts_waiting() == [session]
    store.commit(Decisions(receipts_sent=[(session.session_id, 1)]), NOW)
    assert store.receipts_waiting() == [session]
    store.commit(Decisions(receipts_sent=[(session.session_id, 2), (session.session_id, 1)]), NOW)
    assert store.receipts_waiting() == []


def test_a_session_that_ends_and_whose_receipt_was_sent_in_one_batch(store: Store) -> None:
    session = an_ended_session()
    store.commit(decisions(session, receipts_sent=[(session.session_id, 1), (uuid4(), 1)]), NOW)
    assert store.receipts_waiting() == []


def test_a_driver_of_open_registration_is_known_from_then_on(store: Store) -> None:
    store.commit(Decisions(drivers={"D1"}), NOW)
    store.commit(Decisions(drivers={"D1", "D2"}), NOW + timedelta(days=1))
    assert registry(store).drivers() == [Driver("D1", NOW, False), Driver("D2", NOW + timedelta(days=1), False)]


def test_a_driver_that_the_operator_removed_is_not_brought_back_by_central(store: Store) -> None:
    """`drivers remove` refuses the driver from then on, `--open-registration` or not; as `cp remove` does."""
    registry(store).add_driver("D1", "key", ACTOR, NOW)
    registry(store).remove_driver("D1", ACTOR, NOW)
    store.commit(Decisions(drivers={"D1"}), NOW)
    assert registry(store).drivers() == []


def test_all_of_a_batch_or_nothing(path: Path, store: Store) -> None:
    """The last thing that is written cannot be; the first must not be there either."""
    stranger = MeterValue(99, 0, 0, 0, None, NOW)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.commit(decisions(a_session(), meter_values=[stranger]), NOW)
    assert store.charge_points() == []
    assert registry(store).drivers() == []
    assert store.open_sessions() == []


def test_all_of_a_batch_at_once(path: Path, store: Store) -> None:
    request_id = uuid4()
    ended = an_ended_session(2)
    batch = decisions(
        a_session(1),
        ended,
        meter_values=[MeterValue(1, 0, 0, 11_000, 20.0, NOW)],
        faults=[FaultOpened("CP001", "A", "broken", NOW)],
        answers=[Answer(request_id, an_answer(request_id))],
        receipts_sent=[(ended.session_id, 1)],
    )
    store.commit(batch, NOW)
    store.close()
    again = Store(path)
    assert again.charge_points() == [a_charge_point()]
    assert registry(again).drivers() == [Driver("D1", NOW, False)]
    assert again.open_sessions() == [a_session(1)]
    assert again.receipts_waiting() == []
    assert again.known(Wanted(answers={request_id})).answers.keys() == {request_id}
    assert rows(path, "SELECT (SELECT count(*) FROM meter_values), (SELECT count(*) FROM faults)") == [(1, 1)]
    again.commit(batch, NOW)  # as after a crash between commit and Kafka's offsets
    assert again.open_sessions() == [a_session(1)]
    again.close()


def test_known_is_what_was_wanted_and_is_there(store: Store) -> None:
    store.commit(decisions(a_session(1), a_session(2)), NOW)
    registry(store).add_driver("D2", "key", ACTOR, NOW)
    registry(store).add_driver("D3", "key", ACTOR, NOW)
    registry(store).remove_driver("D3", ACTOR, NOW)
    known = store.known(
        Wanted(
            sessions={UUID(int=1), UUID(int=3)},
            charge_points={"CP001", "CP009"},
            drivers={"D1", "D3", "D4"},
        )
    )
    assert known.sessions == {UUID(int=1): a_session(1)}
    assert known.charge_points == {"CP001": a_charge_point()}
    assert known.drivers == {"D1": KnownDriver(), "D3": KnownDriver("key", removed=True)}
    assert known.answers == {}


def test_to_want_nothing_asks_nothing(path: Path) -> None:
    with asked_of_stores() as asked, closing(Store(path)) as store:
        asked.clear()
        assert store.known(Wanted()).drivers == {}
        assert asked == []


def test_more_may_be_wanted_than_one_statement_takes(store: Store) -> None:
    registry(store).add_driver("D1", "key", ACTOR, NOW)
    many = {f"X{number}" for number in range(MORE_THAN_ONE_TAKES)}
    assert store.known(Wanted(drivers=many | {"D1"})).drivers == {"D1": KnownDriver("key")}


def test_a_statement_without_parameters_by_position_would_write_nothing_and_is_refused() -> None:
    statement = update(schema.sessions).values(energy_wh=bindparam("energy_wh"))
    with pytest.raises(ValueError, match="has no parameters by position"):
        ManyRows(statement, postgresql.dialect())  # type: ignore[no-untyped-call]


# The start


def test_after_a_crash_nobody_is_connected_and_no_peer_has_a_fault(path: Path, store: Store) -> None:
    faults = [FaultOpened("CP001", code, "x", NOW) for code in ("A", CONNECTION_LOST, "engine_lost")]
    store.commit(decisions(a_session(), faults=faults), NOW)
    store.begin(NOW + timedelta(hours=1))
    assert [cp.status for cp in store.charge_points()] == [Status.DISCONNECTED]
    assert rows(path, "SELECT code, cleared_at FROM faults ORDER BY code") == [
        ("A", "2026-01-01 13:00:00.000000"),
        (CONNECTION_LOST, None),
        ("engine_lost", "2026-01-01 13:00:00.000000"),
    ]
    assert store.open_sessions() == [a_session()]


# History


def a_history_request(**changes: Any) -> ChargingHistoryRequest:
    fields: dict[str, Any] = {"message_id": uuid4(), "timestamp": NOW, "driver_id": "D1"}
    return ChargingHistoryRequest(**fields | changes)


def test_history_is_what_was_billed(store: Store) -> None:
    session = an_ended_session()
    store.commit(decisions(session, a_session(2)), NOW)
    (past,), next_before = store.history(a_history_request())
    assert next_before is None
    assert (past.session_id, past.cp_id) == (session.session_id, "CP001")
    assert (past.status, past.end_reason, past.revision) == (SessionStatus.COMPLETED, EndReason.STOPPED, 1)
    assert (past.energy_wh, past.price_per_kwh, past.cost, past.currency) == (
        4321,
        Decimal("0.123456"),
        Decimal("0.53"),
        "CHF",
    )
    assert (past.requested_at, past.started_at, past.ended_at) == (
        NOW,
        NOW + timedelta(seconds=1),
        NOW + timedelta(seconds=2),
    )


@pytest.mark.parametrize("limit", [1, 3, 5, 6, 7, 200])
def test_the_pages_of_a_history_have_each_session_once_newest_first(store: Store, limit: int) -> None:
    store.commit(decisions(*(an_ended_session(number) for number in range(1, 7))), NOW)
    seen: list[int] = []
    before = None
    while True:
        page, before = store.history(a_history_request(limit=limit, before=before))
        assert 1 <= len(page) <= limit
        seen += [past.session_id.int for past in page]
        if before is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1]


def test_a_session_that_ends_between_two_pages_moves_no_page(store: Store) -> None:
    store.commit(decisions(*(an_ended_session(number) for number in range(1, 5)), a_session(5)), NOW)
    page, before = store.history(a_history_request(limit=2))
    assert [past.session_id.int for past in page] == [4, 3]
    store.commit(decisions(an_ended_session(5), an_ended_session(6)), NOW)
    page, before = store.history(a_history_request(limit=2, before=before))
    assert [past.session_id.int for past in page] == [2, 1]
    assert before is None


def test_a_driver_sees_nobody_elses_history(store: Store) -> None:
    store.commit(decisions(an_ended_session(1), an_ended_session(2, driver_id="D2"), drivers={"D1", "D2"}), NOW)
    assert [past.session_id.int for past in store.history(a_history_request(driver_id="D2"))[0]] == [2]
    assert store.history(a_history_request(driver_id="D3")) == ([], None)


# Cost grows with messages, not with history


@pytest.fixture(scope="module")
def with_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with some history: of 1,000 sessions at 10 charge points, 10 are open, 10 receipts wait."""
    path = tmp_path_factory.mktemp("history") / "evcharge.db"
    store = Store(path)
    cps = {f"CP{n}": a_charge_point(f"CP{n}") for n in range(10)}
    sessions = [an_ended_session(n, cp_id=f"CP{n % 10}", driver_id=f"D{n % 50}") for n in range(990)]
    sessions += [a_session(n, cp_id=f"CP{n % 10}", driver_id=f"D{n % 50}") for n in range(990, 1000)]
    ids = [uuid4() for _ in range(1000)]
    batch = decisions(
        *sessions,
        charge_points=cps,
        drivers={f"D{n}" for n in range(50)},
        meter_values=[MeterValue(session.number, n, 0, 0, None, NOW) for session in sessions for n in range(3)],
        faults=[FaultOpened(f"CP{n % 10}", f"F{n}", "x", NOW) for n in range(200)],
        answers=[Answer(request_id, an_answer(request_id)) for request_id in ids],
        receipts_sent=[(session.session_id, 1) for session in sessions[:980]],
    )
    store.commit(batch, NOW)
    store.commit(Decisions(faults=[FaultCleared(f"CP{n % 10}", f"F{n}", NOW) for n in range(190)]), NOW)
    store.close()
    return path


def history_first(store: Store) -> None:
    assert len(store.history(a_history_request())[0]) == 20


def history_next(store: Store) -> None:
    assert len(store.history(a_history_request(before=500, limit=5))[0]) == 5


def open_sessions(store: Store) -> None:
    assert len(store.open_sessions()) == 10


def receipts_waiting(store: Store) -> None:
    assert len(store.receipts_waiting()) == 10


def known(store: Store) -> None:
    found = store.known(
        Wanted(
            answers={uuid4(), uuid4()}, sessions={UUID(int=7), UUID(int=8)}, charge_points={"CP1"}, drivers={"D1"}
        )
    )
    assert len(found.sessions) == 2


def pruning(store: Store) -> None:
    store.forget_answers(NOW)


def commit_again(store: Store) -> None:
    request_id = uuid4()
    store.commit(
        Decisions(
            charge_points={"CP1": a_charge_point("CP1")},
            drivers={"D1"},
            sessions={UUID(int=995): an_ended_session(995, cp_id="CP5", driver_id="D45")},
            meter_values=[MeterValue(995, 9, 0, 0, None, NOW)],
            faults=[FaultCleared("CP9", "F199", NOW), FaultOpened("CP9", "F199", "x", NOW)],
            answers=[Answer(request_id, an_answer(request_id))],
            receipts_sent=[(UUID(int=995), 1)],
        ),
        NOW,
    )


@pytest.mark.parametrize(
    ("work", "indexes"),
    [
        (history_first, ["ix_sessions_driver_id_number"]),
        (history_next, ["ix_sessions_driver_id_number"]),
        (open_sessions, ["ix_sessions_open"]),
        (receipts_waiting, ["ix_sessions_receipt_waits"]),
        (
            known,
            [
                "sqlite_autoindex_answers_1",
                "sqlite_autoindex_sessions_1",
                "sqlite_autoindex_charge_points_1",
                "sqlite_autoindex_drivers_1",
            ],
        ),
        (pruning, ["ix_answers_answered_at"]),
        (commit_again, ["ix_faults_uncleared", "sqlite_autoindex_sessions_1"]),  # a receipt, by its session's id
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_asked_is_found_by_an_index(
    path: Path, with_history: Path, work: Callable[[Store], None], indexes: list[str]
) -> None:
    shutil.copy(with_history, path)
    with asked_of_stores() as asked, closing(Store(path)) as store:
        asked.clear()
        work(store)
    plans: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        for statement in asked:
            if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans += [detail for *_, detail in plan]
    for detail in plans:
        found = re.match(r"SEARCH |SCAN sessions USING INDEX ix_sessions_(open|receipt_waits)$", detail)
        assert found, f"reads a whole table or index: {plans}"
        assert "TEMP B-TREE" not in detail, f"sorts what no index has in order: {plans}"
    for index in indexes:
        assert any(f"INDEX {index}" in detail for detail in plans), f"does not use {index}: {plans}"


def test_what_is_committed_is_copied_from_the_log_beside_whoever_writes(path: Path, store: Store) -> None:
    store.commit(decisions(a_session()), NOW)
    without_log = path.with_name("without-log.db")
    with closing(sqlite3.connect(path)) as another:
        another.execute("BEGIN IMMEDIATE")
        store.copy_back()
    shutil.copy(path, without_log)
    assert len(rows(without_log, "SELECT * FROM sessions")) == 1

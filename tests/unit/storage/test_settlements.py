"""What was set aside, in a real SQLite file: one row for each session and kind, however often it comes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from test_store import NOW, a_session, decisions, rows

from evcharge.domain.decisions import Decisions, MeterValue, Wanted
from evcharge.domain.set_aside import Kind, SetAside, Settlement
from evcharge.errors import NotThere
from evcharge.storage.settlements import ToSettle
from evcharge.storage.store import Store

SESSION = UUID(int=7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "evcharge.db")
    yield store
    store.close()


def claim(**changes: Any) -> SetAside:
    item = SetAside(
        SESSION, "CP001", Kind.SECOND_COMPLETION, 900, "why", {"message_id": "a", "energy_wh": 900}, NOW
    )
    return replace(item, **changes)


def put(store: Store, *items: SetAside, settlements: tuple[Settlement, ...] = ()) -> None:
    store.commit(Decisions(set_aside=list(items), settlements=list(settlements)), NOW + timedelta(minutes=1))


def settlement(kind: Kind = Kind.SECOND_COMPLETION) -> Settlement:
    return Settlement(SESSION, kind, "maria", 500, "read on site")


def test_a_claim_that_comes_again_is_counted_and_the_highest_is_kept(store: Store) -> None:
    higher = claim(energy_wh=2_000, evidence={"energy_wh": 2_000}, reason="more", set_aside_at=NOW + timedelta(1))
    put(store, claim(), higher)
    put(store, claim(energy_wh=100, times=5))
    (row,) = ToSettle(store.engine).page(False, None, 10).to_settle
    assert (row.times, row.energy_wh, row.reason, row.evidence) == (7, 2_000, "more", {"energy_wh": 2_000})
    assert row.set_aside_at == NOW, "it has waited since the first"


def test_each_kind_and_each_session_is_a_row_of_its_own(store: Store) -> None:
    put(store, claim(), claim(kind=Kind.ORPHAN), claim(session_id=UUID(int=8)))
    found = ToSettle(store.engine)
    assert [row.number for row in found.page(False, None, 10).to_settle] == [3, 2, 1]
    first = found.page(False, None, 2)
    assert first.next_before == 2
    assert [row.number for row in found.page(False, first.next_before, 2).to_settle] == [1]
    assert [(item.kind, item.count) for item in found.waiting()] == [(Kind.ORPHAN, 1), (Kind.SECOND_COMPLETION, 2)]
    assert found.waiting()[0].since == NOW


def test_nobody_adds_to_another_charge_point_s_claim(store: Store) -> None:
    put(store, claim(kind=Kind.ORPHAN))
    put(store, claim(kind=Kind.ORPHAN, cp_id="CP002", energy_wh=10**9))
    (row,) = ToSettle(store.engine).page(False, None, 10).to_settle
    assert (row.cp_id, row.energy_wh, row.times) == ("CP001", 900, 1)


def test_what_was_settled_stays_and_a_new_claim_is_a_new_row(store: Store, tmp_path: Path) -> None:
    put(store, claim(), claim(kind=Kind.ORPHAN))
    put(store, settlements=(settlement(),))
    found = ToSettle(store.engine)
    assert [row.kind for row in found.page(False, None, 10).to_settle] == [Kind.ORPHAN]
    (row,) = found.page(True, None, 10).to_settle
    assert (row.settled_by, row.billed_wh, row.remark) == ("maria", 500, "read on site")
    assert row.settled_at == NOW + timedelta(minutes=1)
    put(store, claim(), settlements=(settlement(),))
    assert rows(tmp_path / "evcharge.db", "SELECT count(*), count(settled_at) FROM to_settle") == [(3, 2)]
    assert found.one(1) == row
    with pytest.raises(NotThere, match="77"):
        found.one(77)


def test_a_batch_knows_what_was_set_aside_before(store: Store) -> None:
    put(store, claim(), claim(kind=Kind.ORPHAN), claim(kind=Kind.ORPHAN, session_id=UUID(int=8)))
    put(store, settlements=(settlement(),))
    known = store.known(Wanted(set_aside={SESSION, UUID(int=9)}, set_aside_as={3, 4}, orphans={"CP001", "CP002"}))
    assert list(known.set_aside) == [SESSION]
    settled, waiting = known.set_aside[SESSION]
    assert (settled.number, settled.waits, settled.settled_by) == (1, False, "maria")
    assert (waiting.number, waiting.waits, waiting.kind) == (2, True, Kind.ORPHAN)
    assert {number: item.session_id for number, item in known.set_aside_as.items()} == {3: UUID(int=8)}
    assert known.orphans == {"CP001": 2, "CP002": 0}


def test_a_session_is_loaded_with_the_time_of_its_last_reading_that_was_kept(store: Store) -> None:
    values = [MeterValue(1, seq, 100 * seq, 7_000, None, NOW + timedelta(seconds=seq)) for seq in (3, 9, 5)]
    store.commit(decisions(a_session(1), a_session(2), meter_values=values), NOW)
    assert [session.measured_at for session in store.open_sessions()] == [NOW + timedelta(seconds=9), None]
    known = store.known(Wanted(sessions={UUID(int=1)}))
    assert known.sessions[UUID(int=1)].measured_at == NOW + timedelta(seconds=9)


def test_the_session_of_a_claim_that_is_settled_comes_with_it(store: Store) -> None:
    store.commit(decisions(a_session(7)), NOW)
    put(store, claim())
    assert list(store.known(Wanted(set_aside_as={1})).sessions) == [SESSION]

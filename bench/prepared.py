"""A database as Central leaves it, made without running one."""

import itertools
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid5

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Decisions
from evcharge.domain.session import Session
from evcharge.storage.store import Store

IDS = UUID("6f1f3b1e-6f0c-4e0c-9a53-1f6f7a0d4c11")
PRICE = Decimal("0.30")
MAX_POWER_W = 22_000


def cp_ids(count: int, first: int = 0) -> list[str]:
    return [f"CP{number:06d}" for number in range(first, first + count)]


def charge_point(cp_id: str) -> ChargePoint:
    return ChargePoint(cp_id, location=cp_id, price_per_kwh=PRICE, max_power_w=MAX_POWER_W)


def charging(cp_id: str, at: datetime, number: int = 0) -> Session:
    """A session of the driver `D-CP_ID`, who began to charge at `at`; `number` matters in a database alone."""
    session = Session(
        number=number,
        session_id=uuid5(IDS, f"session {cp_id}"),
        request_id=uuid5(IDS, f"request {cp_id}"),
        cp_id=cp_id,
        driver_id=f"D-{cp_id}",
        target_energy_wh=None,
        price_per_kwh=PRICE,
        currency="EUR",
        requested_at=at,
    )
    session.start(at, at)
    return session


def with_sessions(database: Path, count: int, at: datetime, first: int = 0) -> list[Session]:
    """Make a database in which `count` charge points charge, since `at`; the sessions."""
    store = Store(database)
    try:
        numbers = itertools.count(store.last_session_number() + 1)
        sessions = [charging(cp_id, at, next(numbers)) for cp_id in cp_ids(count, first)]
        store.commit(
            Decisions(
                charge_points={session.cp_id: charge_point(session.cp_id) for session in sessions},
                drivers={session.driver_id for session in sessions},
                sessions={session.session_id: session for session in sessions},
            ),
            at,
        )
    finally:
        store.close()
    return sessions

"""The operators' desk: all that they can see and do, the same from the console and over HTTP."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ParamSpec, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from evcharge import clock
from evcharge.central.board import Board, Watcher
from evcharge.domain.ceilings import Ceilings
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import (
    Actor,
    AuditEntry,
    Bill,
    CloseSession,
    Command,
    Correct,
    Reread,
    SetPrice,
    SetService,
    Settle,
    StartCharge,
    StopCharge,
)
from evcharge.domain.driver import Limits
from evcharge.domain.status import Status
from evcharge.errors import NotDecided, UnknownChargePoint
from evcharge.keys import new_key
from evcharge.protocol.messages import ChargeRequest, new_id
from evcharge.protocol.operators import (
    NO_CHANGES,
    AuditPage,
    By,
    Changes,
    ChargePointKey,
    ChargePointNow,
    ChargePointPage,
    DriverKey,
    DriverPage,
    DriverRow,
    FaultPage,
    Health,
    MeterValuePage,
    Revenue,
    SessionFilter,
    SessionPage,
    SessionRow,
    Started,
    Stopping,
    ToSettlePage,
    ToSettleRow,
    Totals,
    Waiting,
)
from evcharge.storage.books import Books
from evcharge.storage.registry import Driver, Registry, Token

REVENUE_DAYS = 30
EXPORT_ROWS = 1000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """Whoever changes something does so as `actor`. Refusals are raised, as the errors that the methods name."""

    actor: Actor
    order: Callable[[Actor, Command], Awaitable[Any]]
    board: Board
    registry: Registry
    books: Books
    threads: Executor
    """For what waits for the database."""
    health_now: Callable[[], Health]
    zone: ZoneInfo
    """That the days of the books are days of."""
    _writes: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time: those that wait for a locked database leave threads to those that only read."""

    def acting_as(self, actor: Actor) -> "Desk":
        return replace(self, actor=actor)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: work(*args, **kwargs))

    async def _write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._writes:
            return await self._in_thread(work, *args, **kwargs)

    # To look

    async def charge_points(
        self, after: str = "", limit: int = 100, status: Status | None = None
    ) -> ChargePointPage:
        board = await self.board.fresh()
        found = [cp for cp in board.all(after) if status is None or cp.status is status]
        page = found[:limit]
        return ChargePointPage(
            charge_points=page,
            next_after=page[-1].cp_id if len(found) > limit else None,
            as_of=board.as_of,
        )

    async def charge_point(self, cp_id: str) -> ChargePointNow:
        """Raises `UnknownChargePoint`, or `NotDecided` if it may just have been added."""
        board = await self.board.fresh()
        found = board.get(cp_id)
        if found is None and board.held_up:
            raise NotDecided("Central is held up and cannot say what has been added of late; look again soon")
        if found is None:
            raise UnknownChargePoint(f"there is no charge point {cp_id}")
        return found

    async def sessions(self, wanted: SessionFilter, before: str | None = None, limit: int = 100) -> SessionPage:
        """Raises `UsageError` if `before` is no page mark."""
        return await self._in_thread(self.books.sessions, wanted, before, limit)

    async def export(self, wanted: SessionFilter) -> AsyncIterator[bytes]:
        """CSV with a head line, in the order of `sessions`, however many there are; times as in Central's zone.

        Who has had it is in the audit.
        """
        chosen = {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}
        entry = AuditEntry(self.actor, "export", "sessions", None, chosen)
        await self._write(self.registry.note, entry, clock.now().utc)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(SessionRow.__struct_fields__)
        before: str | None = None
        while True:
            page = await self.sessions(wanted, before, EXPORT_ROWS)
            writer.writerows(self._cells(row) for row in page.sessions)
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
            if page.next_before is None:
                return
            before = page.next_before

    def _cells(self, row: SessionRow) -> list[Any]:
        values = (getattr(row, name) for name in row.__struct_fields__)
        local = (at.astimezone(self.zone) if isinstance(at, datetime) else at for at in values)
        return [msgspec.to_builtins(value) for value in local]

    async def session(self, session_id: UUID) -> SessionRow:
        """Raises `NotThere`."""
        return await self._in_thread(self.books.session, session_id)

    async def meter_values(self, session_id: UUID, after: int = -1, limit: int = 1000) -> MeterValuePage:
        """Raises `NotThere`."""
        return await self._in_thread(self.books.meter_values, session_id, after, limit)

    async def faults(
        self, cp_id: str | None = None, uncleared: bool = False, before: int | None = None, limit: int = 100
    ) -> FaultPage:
        return await self._in_thread(self.books.faults, cp_id, uncleared, before, limit)

    async def drivers(self, after: str = "", limit: int = 100) -> DriverPage:
        found = await self._in_thread(self.registry.drivers, after, limit + 1)
        page = [_driver_row(row) for row in found[:limit]]
        more = len(found) > limit
        return DriverPage(drivers=page, next_after=page[-1].driver_id if more else None, zone=self.zone.key)

    async def audit(self, before: int | None = None, limit: int = 100) -> AuditPage:
        return await self._in_thread(self.books.audit, before, limit)

    async def to_settle(self, settled: bool = False, before: int | None = None, limit: int = 100) -> ToSettlePage:
        page = await self._in_thread(self.books.to_settle.page, settled, before, limit)
        return msgspec.structs.replace(page, zone=self.zone.key)

    async def one_to_settle(self, number: int) -> ToSettleRow:
        """Raises `NotThere`."""
        return await self._in_thread(self.books.to_settle.one, number)

    async def waiting(self) -> list[Waiting]:
        return await self._in_thread(self.books.to_settle.waiting)

    async def revenue(self, since: date | None = None, until: date | None = None, by: By = By.DAY) -> Revenue:
        """Without `until` up to today, without `since` the month before. Raises `UsageError`."""
        until = until or self._today()
        since = since or date.fromordinal(max(1, until.toordinal() - REVENUE_DAYS + 1))
        return await self._in_thread(self.books.revenue, since, until, by)

    async def totals(self) -> Totals:
        today = self._today()
        revenue = await self.revenue(today, today)
        board = await self.board.fresh()
        found = board.all()
        by_status = dict.fromkeys(Status, 0)
        for cp in found:
            by_status[cp.status] += 1
        sessions = [cp.session for cp in found if cp.session is not None]
        return Totals(
            as_of=board.as_of,
            charge_points=len(found),
            by_status=by_status,
            out_of_service=sum(cp.out_of_service for cp in found),
            open_sessions=len(sessions),
            power_w=sum(session.power_w for session in sessions),
            today=revenue.rows,
            zone=self.zone.key,
            to_settle=await self.waiting(),
        )

    def _today(self) -> date:
        return clock.now().utc.astimezone(self.zone).date()

    async def health(self) -> Health:
        await self.board.fresh()  # Whether the worker still answers.
        return self.health_now()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Changes]]:
        """All charge points, and then what changes, until Central ends or the watcher has been too slow."""
        async with self.board.watched() as watcher:
            yield _changes(watcher)

    async def tokens(self, token_hashes: Collection[str]) -> dict[str, Token]:
        """Those of them that are known, by their hashes."""
        return await self._in_thread(self.registry.tokens_with, token_hashes)

    # To change

    async def start(
        self, cp_id: str, driver_id: str, energy_wh: int | None = None, request_id: UUID | None = None
    ) -> Started:
        """Raises the `WireError` that a driver would be told."""
        request = ChargeRequest(
            message_id=request_id or new_id(),
            timestamp=clock.now().utc,
            driver_id=driver_id,
            cp_id=cp_id,
            energy_wh=energy_wh,
        )
        return Started(session_id=await self.order(self.actor, StartCharge(request)))

    async def stop(self, session_id: UUID) -> Stopping:
        """Raises `NoOpenSession`."""
        return Stopping(session_id=session_id, reason=await self.order(self.actor, StopCharge(session_id)))

    async def close(self, session_id: UUID) -> SessionRow:
        """The session, closed with what was metered. Raises `NoOpenSession`."""
        await self.order(self.actor, CloseSession(session_id))
        return await self.session(session_id)

    async def settle(self, number: int, bill: Bill, remark: str) -> ToSettleRow:
        """Raises `NotThere`, `AlreadyThere` if it has been settled, `StillOpen`, or `InvalidField`."""
        await self.order(self.actor, Settle(number, bill, remark))
        return await self.one_to_settle(number)

    async def correct(self, session_id: UUID, bill: Bill, remark: str) -> SessionRow:
        """Raises `NotThere`, `StillOpen`, or `InvalidField`."""
        await self.order(self.actor, Correct(session_id, bill, remark))
        return await self.session(session_id)

    async def set_service(self, cp_id: str | None, out_of_service: bool) -> list[str]:
        """The ids of those that have changed; all are meant when `cp_id` is None. Raises `UnknownChargePoint`."""
        changed: list[str] = await self.order(self.actor, SetService(cp_id, out_of_service))
        return changed

    async def set_price(
        self, cp_id: str, price_per_kwh: Decimal | None, currency: str | None = None
    ) -> ChargePointNow:
        """None gives it back its own price. Raises `UnknownChargePoint`."""
        await self.order(self.actor, SetPrice(cp_id, price_per_kwh, currency))
        cp = await self.charge_point(cp_id)
        if self.board.held_up:
            raise NotDecided(f"the price of {cp_id} is set, but Central is held up and cannot show it yet")
        return cp

    async def set_ceilings(self, cp_id: str | None, changes: Mapping[str, Any]) -> list[str]:
        """The ids of those that have changed; all are meant when `cp_id` is None. Raises `NotThere`.

        `changes` has the fields of `Ceilings` that are to be others.
        """
        cp_ids = None if cp_id is None else [cp_id]
        changed = await self._write(self.registry.set_ceilings, cp_ids, changes, self.actor, clock.now().utc)
        for changed_id in changed if cp_id is not None else []:
            await self._reread(changed_id)  # All of them Central notices by itself.
        return changed

    async def set_driver(self, driver_id: str, changes: Mapping[str, Any]) -> DriverRow:
        """`changes` has the fields of `Limits`, or `signed_only`, that are to be others. Raises `NotThere`."""
        now = clock.now().utc
        (driver,) = await self._write(self.registry.set_drivers, [driver_id], changes, self.actor, now)
        return _driver_row(driver)

    async def add_charge_point(self, cp_id: str, ceilings: Mapping[str, Any] = NO_CHANGES) -> ChargePointKey:
        """Raises `AlreadyThere`."""
        key = new_key()
        now = clock.now().utc
        add = self.registry.add_charge_point
        await self._write(add, cp_id, hash_key(key), self.actor, now, Ceilings(**ceilings))
        await self._reread(cp_id)
        return ChargePointKey(cp_id=cp_id, key=key)

    async def remove_charge_point(self, cp_id: str) -> None:
        """Its connection ends at once, or with the session that is open there. Raises `NotThere`."""
        await self._write(self.registry.remove_charge_point, cp_id, self.actor, clock.now().utc)
        await self._reread(cp_id)

    async def _reread(self, cp_id: str) -> None:
        # It is done, and audited; should the worker be held up, it acts on it later.
        with suppress(NotDecided):
            await self.order(self.actor, Reread(cp_id))

    async def add_driver(self, driver_id: str, settings: Mapping[str, Any] = NO_CHANGES) -> DriverKey:
        """`settings` as the `changes` of `set_driver`. Raises `AlreadyThere`."""
        key = new_key()
        limits = Limits(**{name: value for name, value in settings.items() if name != "signed_only"})
        signed_only = bool(settings.get("signed_only"))
        now = clock.now().utc
        await self._write(self.registry.add_driver, driver_id, key, self.actor, now, limits, signed_only)
        return DriverKey(driver_id=driver_id, key=key)

    async def remove_driver(self, driver_id: str) -> None:
        """Raises `NotThere`."""
        await self._write(self.registry.remove_driver, driver_id, self.actor, clock.now().utc)


def _driver_row(driver: Driver) -> DriverRow:
    return DriverRow(
        driver_id=driver.driver_id,
        added_at=driver.added_at,
        has_key=driver.has_key,
        max_energy_wh=driver.limits.energy_wh,
        max_cost=driver.limits.cost,
        max_hours=driver.limits.hours,
        signed_only=driver.signed_only,
    )


async def _changes(watcher: Watcher) -> AsyncIterator[Changes]:
    while (item := await watcher.queue.get()) is not None:
        yield item[0]

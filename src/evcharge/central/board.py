"""What is shown of the network: a copy for whoever looks, so that nobody who looks holds up the worker.

The worker fills it when it is asked to (`Look` in its inbox), after it has committed, and only with what has
changed since. All who look at the same time are served by one such look; without any, it costs nothing.
"""

import asyncio
from bisect import bisect_right, insort
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.from_drivers import unavailable
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network
from evcharge.protocol.operators import CeilingsNow, Changes, ChargePointNow, Event, OpenSession

LOOK_EVERY_S = 0.5
PATIENCE_S = 2.0
UNREAD_CHANGES = 20
"""What waits for a watcher who does not read; then it is dropped, and may begin anew."""


def seen(network: Network, cp_ids: set[str], events: list[Event], now: Instant) -> Changes:
    """These charge points as they are now. For the worker's thread, which owns `network`."""
    charge_points = [network.charge_points[cp_id] for cp_id in cp_ids]
    return Changes(
        as_of=now.utc,
        charge_points=[_charge_point(network, cp, now) for cp in charge_points if _is_shown(network, cp)],
        removed_cp_ids=[cp.cp_id for cp in charge_points if not _is_shown(network, cp)],
        events=events,
    )


def _is_shown(network: Network, cp: ChargePoint) -> bool:
    """One that was removed is, until its session has ended."""
    return not cp.removed or cp.cp_id in network.session_at


def _charge_point(network: Network, cp: ChargePoint, now: Instant) -> ChargePointNow:
    session = network.session_at.get(cp.cp_id)
    return ChargePointNow(
        cp_id=cp.cp_id,
        location=cp.location,
        status=cp.status,
        connected=cp.connection is not None,
        available=unavailable(network, cp) is None,
        out_of_service=cp.out_of_service,
        removed=cp.removed,
        price_per_kwh=cp.known_price_per_kwh,
        currency=cp.currency,
        price_by_operator=cp.price_by_operator,
        own_price_per_kwh=cp.own_price_per_kwh,
        own_currency=cp.own_currency,
        max_power_w=cp.max_power_w,
        ceilings=CeilingsNow(
            max_price_per_kwh=cp.ceiling_price_per_kwh,
            currency=cp.ceiling_currency,
            max_power_w=cp.ceiling_power_w,
        ),
        faults=sorted(cp.faults),
        last_heard_at=now.utc_of(cp.last_heard_s) if cp.last_heard_s else None,
        session=msgspec.convert(session, OpenSession, from_attributes=True) if session is not None else None,
    )


class Watcher:
    """One who follows all changes; `None` in the queue is the end."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Changes, bytes] | None] = asyncio.Queue(UNREAD_CHANGES + 1)

    def offer(self, changes: Changes, encoded: bytes) -> bool:
        """False if it has too much unread already; then it hears nothing more."""
        if self.queue.qsize() >= UNREAD_CHANGES:
            self.queue.put_nowait(None)
            return False
        self.queue.put_nowait((changes, encoded))
        return True


class Board:
    """Belongs to the event loop. `ask_to_look` has the worker call `take` soon; `first` is what there is now."""

    def __init__(self, ask_to_look: Callable[[], object], first: Changes, patience_s: float = PATIENCE_S) -> None:
        self._ask_to_look = ask_to_look
        self._patience_s = patience_s
        self._look: asyncio.Future[None] | None = None
        self._ids: list[str] = []
        self._by_id: dict[str, ChargePointNow] = {}
        self._watchers: set[Watcher] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._stopped = False
        self.held_up = False
        """Whether the worker has not answered the last look in time, so that all is as it was `as_of`."""
        self.as_of = first.as_of
        self.take(first)

    def take(self, changes: Changes) -> None:
        for cp in changes.charge_points:
            if cp.cp_id not in self._by_id:
                insort(self._ids, cp.cp_id)
            self._by_id[cp.cp_id] = cp
        gone = [cp_id for cp_id in changes.removed_cp_ids if self._by_id.pop(cp_id, None) is not None]
        for cp_id in gone:
            self._ids.remove(cp_id)
        self.as_of = changes.as_of
        self.held_up = False
        look, self._look = self._look, None
        if look is not None and not look.done():
            look.set_result(None)
        self._tell_watchers(msgspec.structs.replace(changes, removed_cp_ids=gone))  # Once, not at each look.

    async def fresh(self) -> "Board":
        """Itself, with all that had been decided before; should the worker be held up, as it last was."""
        look = self._look
        if look is None:
            look = self._look = asyncio.get_running_loop().create_future()
            self._ask_to_look()
        await asyncio.wait({look}, timeout=self._patience_s)
        self.held_up = not look.done()
        return self

    def get(self, cp_id: str) -> ChargePointNow | None:
        return self._by_id.get(cp_id)

    def all(self, after: str = "") -> list[ChargePointNow]:
        """In order of their ids, those after `after`."""
        return [self._by_id[cp_id] for cp_id in self._ids[bisect_right(self._ids, after) :]]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watcher]:
        """A watcher whose queue brings all there is first, and then all that changes."""
        watcher = Watcher()
        await self.fresh()
        everything = Changes(as_of=self.as_of, charge_points=self.all(), removed_cp_ids=[], events=[])
        watcher.offer(everything, msgspec.json.encode(everything))
        self._watchers.add(watcher)
        if self._stopped:
            self.stop()
        elif self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def _tick(self) -> None:
        while self._watchers:
            await self.fresh()
            await asyncio.sleep(LOOK_EVERY_S)
        self._ticking = None

    def _tell_watchers(self, changes: Changes) -> None:
        if self._watchers and (changes.charge_points or changes.removed_cp_ids or changes.events):
            encoded = msgspec.json.encode(changes)  # once, for all of them
            self._watchers = {watcher for watcher in self._watchers if watcher.offer(changes, encoded)}

    def stop(self) -> None:
        """End all watching."""
        self._stopped = True
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)
        self._watchers.clear()

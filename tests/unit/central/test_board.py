"""What is shown of the network: one look for all who look, everything first and then what changes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from evcharge.central.board import PATIENCE_S, UNREAD_CHANGES, Board, Watcher, seen
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network, Policy
from evcharge.protocol.operators import Changes, Event

NOW = Instant(datetime(2026, 5, 4, 8, 0, tzinfo=UTC), 5000.0)


class Worker:
    """Owns a network and answers looks, when it is told to."""

    def __init__(self, *cp_ids: str, patience_s: float = PATIENCE_S) -> None:
        self.network = Network(
            Policy(), [ChargePoint(cp_id, price_per_kwh=Decimal(1)) for cp_id in cp_ids], [], NOW
        )
        self.looks = 0
        self.held_up = False
        self.events: list[Event] = []
        self.board = Board(self._look, self._seen(), patience_s)

    def _look(self) -> None:
        self.looks += 1
        if not self.held_up:
            asyncio.get_running_loop().call_soon(self.answer)

    def answer(self) -> None:
        self.board.take(self._seen())

    def _seen(self) -> Changes:
        cp_ids, self.network.touched = self.network.touched, set()
        events, self.events = self.events, []
        return seen(self.network, cp_ids, events, NOW)

    def change(self, cp_id: str, location: str) -> None:
        self.network.charge_points[cp_id].location = location
        self.network.touched.add(cp_id)

    def remove(self, cp_id: str) -> None:
        self.network.charge_points[cp_id].removed = True
        self.network.touched.add(cp_id)


def locations(changes: Changes) -> dict[str, str]:
    return {cp.cp_id: cp.location for cp in changes.charge_points}


async def next_of(watcher: Watcher) -> Changes:
    async with asyncio.timeout(5):
        item = await watcher.queue.get()
    assert item is not None
    changes, encoded = item
    assert msgspec.json.decode(encoded, type=Changes) == changes
    return changes


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(run())


def test_a_fresh_look_shows_what_has_changed_in_order_of_ids() -> None:
    async def work() -> None:
        worker = Worker("CP2", "CP1")
        worker.change("CP2", "Harbour")
        board = await worker.board.fresh()
        assert [(cp.cp_id, cp.location) for cp in board.all()] == [("CP1", ""), ("CP2", "Harbour")]
        assert [cp.cp_id for cp in board.all("CP1")] == ["CP2"]
        worker.remove("CP1")
        board = await worker.board.fresh()
        assert [cp.cp_id for cp in board.all()] == ["CP2"]
        assert board.get("CP1") is None

    in_loop(work)


def test_all_who_look_at_the_same_time_are_served_by_one_look() -> None:
    async def work() -> None:
        worker = Worker("CP1")
        await asyncio.gather(*(worker.board.fresh() for _ in range(100)))
        assert worker.looks == 1
        await worker.board.fresh()
        assert worker.looks == 2

    in_loop(work)


def test_without_anybody_who_looks_nothing_is_asked_of_the_worker() -> None:
    async def work() -> None:
        worker = Worker("CP1")
        async with worker.board.watched() as watcher:
            await next_of(watcher)
            worker.change("CP1", "Harbour")
            await next_of(watcher)
        # Nothing is left that could ask; if something went on, this would wait for it in vain.
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        assert worker.looks >= 2

    in_loop(work)


def test_a_watcher_sees_everything_first_and_then_what_changes() -> None:
    async def work() -> None:
        worker = Worker("CP1", "CP2", "CP3")
        worker.change("CP1", "Harbour")
        async with worker.board.watched() as watcher:
            assert locations(await next_of(watcher)) == {"CP1": "Harbour", "CP2": "", "CP3": ""}
            worker.change("CP2", "Market")
            worker.events.append(Event(at=NOW.utc, event="state", fields={"cp_id": "CP2"}))
            changes = await next_of(watcher)
            assert locations(changes) == {"CP2": "Market"}
            assert [event.event for event in changes.events] == ["state"]
            worker.remove("CP3")
            changes = await next_of(watcher)
            assert (changes.charge_points, changes.removed_cp_ids) == ([], ["CP3"])
            worker.remove("CP3")  # It is looked at once more,
            worker.change("CP1", "Station")
            assert (await next_of(watcher)).removed_cp_ids == []  # but has gone once.

    in_loop(work)


def test_a_watcher_that_does_not_read_is_let_go_and_the_others_stay() -> None:
    async def work() -> None:
        worker = Worker("CP1")
        async with worker.board.watched() as idle, worker.board.watched() as eager:
            await next_of(eager)
            for number in range(UNREAD_CHANGES + 5):
                worker.change("CP1", str(number))
                worker.answer()
                assert locations(await next_of(eager)) == {"CP1": str(number)}
            unread = [idle.queue.get_nowait() for _ in range(idle.queue.qsize())]
            assert len(unread) == UNREAD_CHANGES + 1
            assert unread[-1] is None

    in_loop(work)


def test_to_stop_ends_all_watching_and_whoever_comes_later() -> None:
    async def work() -> None:
        worker = Worker("CP1")
        async with worker.board.watched() as watcher:
            await next_of(watcher)
            worker.board.stop()
            assert await watcher.queue.get() is None
        async with worker.board.watched() as late:
            await next_of(late)
            assert await late.queue.get() is None

    in_loop(work)


def test_while_the_worker_is_held_up_it_is_shown_as_it_last_was_and_told() -> None:
    async def work() -> None:
        worker = Worker("CP1", patience_s=0.01)
        assert not (await worker.board.fresh()).held_up
        worker.held_up = True
        worker.change("CP1", "Harbour")
        for _ in range(2):
            board = await worker.board.fresh()
            assert board.held_up
            assert [cp.location for cp in board.all()] == [""]
        assert worker.looks == 2  # The one that is not answered yet is good for all.
        worker.answer()
        assert not board.held_up
        assert [cp.location for cp in board.all()] == ["Harbour"]

    in_loop(work)

"""Requests for histories: so many of each driver, in turns, and none is both unanswered and done with."""

import threading
from datetime import UTC, datetime
from uuid import uuid4

from evcharge.central.historian import MAX_OF_ONE, Historian
from evcharge.protocol.messages import ChargingHistoryRequest
from evcharge.transport.offsets import OffsetTracker, Ticket

NOW = datetime(2026, 11, 28, tzinfo=UTC)
WAIT_S = 10.0


def request(driver_id: str) -> ChargingHistoryRequest:
    return ChargingHistoryRequest(message_id=uuid4(), timestamp=NOW, driver_id=driver_id)


class Desk:
    """A historian whose answers are written down; `wanted` of them, then it is told to stop."""

    def __init__(self, wanted: int) -> None:
        self.offsets = OffsetTracker()
        self.answered: list[str] = []
        self._wanted = wanted
        self.historian = Historian(self.offsets, self._answer)

    def _answer(self, asked: ChargingHistoryRequest, ticket: Ticket | None) -> None:
        self.answered.append(asked.driver_id)
        if len(self.answered) == self._wanted:
            self.historian.stop()

    def work(self) -> None:
        thread = threading.Thread(target=self.historian.work)
        thread.start()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_one_driver_who_asks_without_end_delays_no_other() -> None:
    desk = Desk(wanted=MAX_OF_ONE + 2)
    taken = [desk.historian.ask(request("ana"), None) for _ in range(60_000)]
    assert taken.count(True) == MAX_OF_ONE
    assert desk.historian.ask(request("bo"), None)
    assert desk.historian.ask(request("cy"), None)
    desk.work()
    assert desk.answered[:4] == ["ana", "bo", "cy", "ana"]


def test_what_waits_at_the_end_is_left_and_is_not_done_with() -> None:
    desk = Desk(wanted=1)
    tickets = []
    for number, driver_id in enumerate(("ana", "bo")):
        ticket = desk.offsets.open({("t", 0): number + 1})
        assert desk.historian.ask(request(driver_id), ticket)
        desk.offsets.seal(ticket)
        tickets.append(ticket)
    desk.work()
    assert desk.answered == ["ana"]
    assert desk.offsets.take_committable() == {("t", 0): 1}

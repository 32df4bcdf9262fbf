"""Drivers' histories, looked up beside the worker: a long look back delays no charge, and one driver no other."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from evcharge.protocol.messages import ChargingHistoryRequest
from evcharge.transport.offsets import OffsetTracker, Ticket

MAX_OF_ONE = 5
MAX_IN_ALL = 5_000

Asked = tuple[ChargingHistoryRequest, Ticket | None]


class Historian:
    """One thread, `work`, which takes the drivers in turns; any other asks.

    What has been asked, and not been answered when it ends, stays outstanding on its ticket.
    """

    def __init__(
        self, offsets: OffsetTracker, answer: Callable[[ChargingHistoryRequest, Ticket | None], None]
    ) -> None:
        self._offsets = offsets
        self._answer = answer
        self._asked: OrderedDict[str, deque[Asked]] = OrderedDict()
        self._waiting = 0
        self._changed = threading.Condition()
        self._stopped = False

    def ask(self, request: ChargingHistoryRequest, ticket: Ticket | None) -> bool:
        """False if too many wait already."""
        with self._changed:
            of_driver = self._asked.get(request.driver_id)
            if self._waiting >= MAX_IN_ALL or (of_driver is not None and len(of_driver) >= MAX_OF_ONE):
                return False
            if ticket is not None:
                self._offsets.expect(ticket)
            self._asked.setdefault(request.driver_id, deque()).append((request, ticket))
            self._waiting += 1
            self._changed.notify()
        return True

    def work(self) -> None:
        while (asked := self._next()) is not None:
            request, ticket = asked
            self._answer(request, ticket)
            if ticket is not None:
                self._offsets.delivered(ticket)

    def _next(self) -> Asked | None:
        with self._changed:
            while not self._asked and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            driver_id, of_driver = self._asked.popitem(last=False)
            asked = of_driver.popleft()
            self._waiting -= 1
            if of_driver:
                self._asked[driver_id] = of_driver  # at the end, behind the others
            return asked

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

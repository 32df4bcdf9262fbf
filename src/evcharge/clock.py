"""The one place that reads the machine's clocks."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from evcharge.domain.instant import Instant


def now() -> Instant:
    return Instant(datetime.now(UTC), time.monotonic())


LOOK_EVERY_S = 1.0
HELD_UP_S = 2.0


class Attention:
    """The clocks of a program that waits for others' signs of life; somebody asks it every `LOOK_EVERY_S`.

    The monotonic one leaves out the time in which the program was held up itself (stopped, starved, waiting for
    its disk): it did not listen meanwhile, so the silence of others proves nothing.
    """

    def __init__(self, read: Callable[[], Instant] = now) -> None:
        self._read = read
        self._looked_s = read().monotonic_s
        self._held_up_s = 0.0

    def now(self) -> Instant:
        utc, monotonic_s = self._read()
        gap_s = monotonic_s - self._looked_s
        self._looked_s = monotonic_s
        if gap_s > HELD_UP_S:
            self._held_up_s += gap_s - LOOK_EVERY_S
        return Instant(utc, monotonic_s - self._held_up_s)

    async def keep(self) -> None:
        """Ask, until cancelled; for a program whose other questions may be further apart."""
        while True:
            self.now()
            await asyncio.sleep(LOOK_EVERY_S)

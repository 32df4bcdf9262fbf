"""Time, as an argument."""

from datetime import datetime, timedelta
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on both clocks: `utc` for what is written down, `monotonic_s` for what is waited for.

    Deadlines use the monotonic clock, so that stepping the wall clock starts or ends nothing.
    """

    utc: datetime
    monotonic_s: float

    def utc_of(self, monotonic_s: float) -> datetime:
        """The wall clock's time of another moment, as far as this one can tell."""
        return self.utc - timedelta(seconds=self.monotonic_s - monotonic_s)

"""Time, as an argument."""

from datetime import datetime
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on both clocks: `utc` for what is written down, `monotonic_s` for what is waited for.

    Deadlines use the monotonic clock, so that stepping the wall clock starts or ends nothing.
    """

    utc: datetime
    monotonic_s: float

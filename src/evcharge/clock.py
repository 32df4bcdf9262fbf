"""The one place that reads the machine's clocks."""

import time
from datetime import UTC, datetime

from evcharge.domain.instant import Instant


def now() -> Instant:
    return Instant(datetime.now(UTC), time.monotonic())

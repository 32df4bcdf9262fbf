"""`python off_clock.py SHIFT_FILE ARGUMENTS OF evcharge`: evcharge on a machine whose clock is off.

By as many seconds as the file says at the time."""

import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import confluent_kafka

from evcharge import clock

SHIFT_FILE = Path(sys.argv.pop(1))


def shift_s() -> float:
    return float(SHIFT_FILE.read_text())


class OffDatetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=shift_s())


class OffProducer(confluent_kafka.Producer):
    """librdkafka stamps records by the machine's clock."""

    def produce(self, *args: Any, **kwargs: Any) -> None:
        super().produce(*args, **{"timestamp": int((time.time() + shift_s()) * 1000)} | kwargs)


clock.datetime = OffDatetime  # type: ignore[attr-defined]
confluent_kafka.Producer = OffProducer  # type: ignore[misc]

from evcharge.cli import main  # noqa: E402

main()

"""How Central is, in one look: what `/healthz` answers."""

from datetime import datetime

from evcharge import __version__
from evcharge.central.receipts import Backlog
from evcharge.protocol.operators import Health
from evcharge.transport.broker_watch import Trouble

HELD_UP = "the worker has not answered for some seconds: its disk is slow, or it waits for database or Kafka"
UNUSABLE = "the database cannot be written: its disk is full, or another program has locked it"


def health_of(
    kafka: Trouble | None, database_works: bool, held_up: bool, receipts: Backlog, now: datetime
) -> Health:
    """`ok` if nothing is wrong; each thing that is wrong is a sentence in `reasons`."""
    reasons = [
        *([kafka.reason] if kafka is not None else []),
        *([] if database_works else [UNUSABLE]),
        *([HELD_UP] if held_up else []),
    ]
    return Health(
        status="degraded" if reasons else "ok",
        kafka=kafka.standing.value if kafka is not None else "ok",
        database="ok" if database_works else "unusable",
        version=__version__,
        reasons=reasons,
        receipts_waiting=receipts.waiting,
        receipts_wait_s=round(receipts.wait_s(now), 1),
    )

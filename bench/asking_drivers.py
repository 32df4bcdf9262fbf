"""Drivers who ask for charges at a fixed rate by the clock, whether they are answered or not.

    python bench/asking_drivers.py KAFKA CHARGE_POINTS REQUESTS_A_SECOND REQUESTS

Each driver asks at a charge point of its own, and again when all others have asked. They read one partition of
`driver_responses`, as a driver does, which has the updates of others, too. At the end it says, as JSON, what came
of each request: a list of `Asked`.
"""

import sys
import threading
import time
from datetime import UTC, datetime
from itertools import count, islice
from uuid import UUID

import msgspec
import structlog

from evcharge.protocol import messages
from evcharge.protocol.messages import ChargeRequest, ChargeRequestResponse, derived_id
from evcharge.protocol.records import Received
from evcharge.protocol.topics import Topic, partition_of
from evcharge.transport.kafka import Cluster, Subscriber
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.publisher import Publisher
from ground import PARTITIONS
from prepared import cp_ids

PARTITION = 0
ENERGY_WH = 500
DEADLINE_S = 30.0
ANSWER = b'{"type":"charge_request_response"'


class Asked(msgspec.Struct):
    """Times are on the machine's monotonic clock."""

    session_id: UUID
    """That an accepted request begins."""
    cp_id: str
    due_ns: int
    """When the request was to be sent by the schedule; from then on it has waited."""
    answers: list[tuple[int, bool]] = []
    """When each came, and whether it accepts."""


def drivers(number: int) -> list[str]:
    """So many whose answers are all in one partition."""
    return list(islice((f"A{n}" for n in count() if partition_of(f"A{n}", PARTITIONS) == PARTITION), number))


class Asking:
    def __init__(self, kafka: str) -> None:
        access, log = KafkaAccess(kafka), structlog.get_logger()
        self._asked: dict[UUID, Asked] = {}
        self._publisher = Publisher(access, "evcharge-driver", trace=None, log=log, on_fatal=sys.exit)
        self._subscriber = Subscriber(
            access,
            "evcharge-driver",
            group_id=None,
            choose=lambda topics: [(Topic.RESPONSES, PARTITION)],
            trace=None,
            log=log,
            on_fatal=sys.exit,
            on_batch=self._take,
        )
        topics = Cluster(access, log).topics([Topic.RESPONSES], threading.Event())
        assert topics is not None
        self._subscriber.start(topics)

    def _take(self, records: list[Received]) -> None:
        came_ns = time.monotonic_ns()
        for record in records:
            if record.value.startswith(ANSWER):
                answer = messages.decode(record.value)
                if isinstance(answer, ChargeRequestResponse) and answer.in_reply_to in self._asked:
                    self._asked[answer.in_reply_to].answers.append((came_ns, answer.accepted))

    def ask(self, charge_points: int, rate: float, requests: int) -> list[Asked]:
        """As many of the answers as come in time are with them."""
        who = list(zip(drivers(charge_points), cp_ids(charge_points), strict=True))
        begun_ns = time.monotonic_ns()
        for number in range(requests):
            driver_id, cp_id = who[number % charge_points]
            due_ns = begun_ns + int(number / rate * 1e9)
            time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            request = ChargeRequest(
                message_id=messages.new_id(),
                timestamp=datetime.now(UTC),
                driver_id=driver_id,
                cp_id=cp_id,
                energy_wh=ENERGY_WH,
            )
            session_id = derived_id(request.message_id, "session")
            self._asked[request.message_id] = Asked(session_id, cp_id, due_ns, [])
            self._publisher.publish(Topic.CHARGE_REQUESTS, cp_id, messages.encode(request))
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s and not all(asked.answers for asked in self._asked.values()):
            time.sleep(0.1)
        return list(self._asked.values())

    def close(self) -> None:
        self._subscriber.close()
        self._publisher.close()


if __name__ == "__main__":
    asking = Asking(sys.argv[1])
    print(msgspec.json.encode(asking.ask(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))).decode())
    asking.close()

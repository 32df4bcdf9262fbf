"""A flow of readings from charge points that charge, as `prepared` has put them into the database.

    python bench/reading_flow.py KAFKA FIRST_CHARGE_POINT CHARGE_POINTS

Each line on stdin is a rate from then on, in readings a second, which is kept by the clock, whether Central keeps
up or not. At the end of stdin it says how many readings there have been in all. They go round: one of each charge
point in turn.
"""

import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaRecord

from evcharge.protocol.topics import Topic
from prepared import charging, cp_ids

WH_A_READING = 1
TICK_S = 0.001
LINGER_MS = 5  # as an Engine


def readings(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """The key and the value of each; put together from text, which costs a tenth of encoding a message."""
    charge_points = []
    for cp_id in cp_ids(count, first):
        session = charging(cp_id, datetime.now(UTC))
        fixed = (
            f'"cp_id":"{cp_id}","session_id":"{session.session_id}","driver_id":"{session.driver_id}",'
            '"power_w":11000,"soc_percent":50.0}'
        )
        charge_points.append((cp_id, fixed))
    number, seq = 0, 0
    while True:
        now = datetime.now(UTC).isoformat()
        for cp_id, fixed in charge_points:
            number += 1
            own = (
                f'{{"type":"charging_data","message_id":"00000000-0000-4000-8000-{number:012x}","timestamp":"{now}",'
                f'"seq":{seq},"energy_wh":{(seq + 1) * WH_A_READING},'
            )
            yield cp_id, (own + fixed).encode()
        seq += 1


class Flow:
    def __init__(self, kafka: str, first: int, count: int) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": LINGER_MS,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._readings = readings(first, count)
        self._count = 0
        self._lost = 0
        self.rate = 0.0
        """A second."""
        self.over = False

    def run(self) -> int:
        """Until it is over; the number of readings."""
        rate = 0.0
        begun_s, before = time.monotonic(), 0
        while not self.over:
            if rate != self.rate:
                rate, begun_s, before = self.rate, time.monotonic(), self._count
            self._produce(before + int((time.monotonic() - begun_s) * rate) - self._count)
            time.sleep(TICK_S)
        self._producer.flush()
        if self._lost:
            raise SystemExit(f"Kafka has not taken {self._lost} readings")
        return self._count

    def _produce(self, number: int) -> None:
        for _ in range(number):
            key, value = next(self._readings)
            self._producer.produce(Topic.SESSION_DATA, value, key, on_delivery=self._delivered)
            self._count += 1
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: KafkaRecord) -> None:
        if error is not None:
            self._lost += 1


def obey(flow: Flow) -> None:
    for line in sys.stdin:
        flow.rate = float(line)
    flow.over = True


if __name__ == "__main__":
    the_flow = Flow(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    threading.Thread(target=obey, args=(the_flow,), daemon=True).start()
    print(the_flow.run(), flush=True)

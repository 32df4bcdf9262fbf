"""Drivers who charge one after the other, each at a charge point of its own, and check what they are billed."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

import msgspec
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka import Message as KafkaRecord

from evcharge.protocol import messages
from evcharge.protocol.messages import ChargeRequest, new_id
from evcharge.protocol.topics import Topic
from figures import WrongResult, require
from prepared import PRICE

CENT = Decimal("0.01")
LEAST_WH = 1_000
ENERGIES = 5_003
"""How many different ones are asked for."""
SILENCE_S = 30.0
"""Nobody is billed for so long: something is lost."""


class Answer(msgspec.Struct):
    """What a driver looks at in whatever it is told."""

    type: str
    driver_id: str
    in_reply_to: UUID | None = None
    session_id: UUID | None = None
    accepted: bool | None = None
    code: str | None = None
    energy_wh: int | None = None
    cost: Decimal | None = None
    revision: int | None = None


@dataclass
class Books:
    """All that has been asked for, which is what must have been billed."""

    sessions: int = 0
    energy_wh: int = 0
    cost: Decimal = Decimal(0)
    answers: Counter[str] = field(default_factory=Counter)
    """By type."""


def cost_of(energy_wh: int) -> Decimal:
    return (energy_wh * PRICE / 1000).quantize(CENT, ROUND_HALF_UP)


class Drivers:
    """One for each of these charge points: driver id -> charge point id."""

    def __init__(self, kafka: str, charge_points: Mapping[str, str]) -> None:
        self._charge_points = charge_points
        self._asked_wh: dict[str, int] = {}
        """Of the drivers whose receipt has not come."""
        self._begun = 0
        self._silent_from_s = 0.0
        self.books = Books()
        common = {"bootstrap.servers": kafka}
        self._producer = Producer(common | {"enable.idempotence": True, "acks": "all", "linger.ms": 1})
        self._consumer = Consumer(common | {"group.id": "bench-drivers", "enable.auto.commit": False})
        topic = Topic.RESPONSES.value
        partitions = [
            TopicPartition(topic, number)
            for number in self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        for partition in partitions:
            _, partition.offset = self._consumer.get_watermark_offsets(partition, timeout=10)
        self._consumer.assign(partitions)
        self._partitions = partitions

    def charge(self, sessions: int) -> float:
        """Have so many sessions charged and billed, as many at a time as there are drivers; the seconds."""
        until = self.books.sessions + sessions
        last = self._begun + sessions
        begun_s = self._silent_from_s = time.monotonic()
        for driver_id in self._charge_points:
            if self._begun < last:
                self._ask(driver_id)
        while self.books.sessions < until:
            self._producer.poll(0)
            for driver_id in self._billed():
                if self._begun < last:
                    self._ask(driver_id)
            if time.monotonic() - self._silent_from_s > SILENCE_S:
                raise WrongResult(f"{until - self.books.sessions} receipts have not come")
        return time.monotonic() - begun_s

    def close(self) -> None:
        """Read to the end of what has been said: nobody may have been billed twice."""
        ends = [self._consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in self._partitions]
        while any(
            now.offset < end for now, end in zip(self._consumer.position(self._partitions), ends, strict=True)
        ):
            require(not self._billed(), "a driver was billed again")
        self._consumer.close()

    def _ask(self, driver_id: str) -> None:
        cp_id = self._charge_points[driver_id]
        energy_wh = LEAST_WH + self._begun % ENERGIES
        self._begun += 1
        self._asked_wh[driver_id] = energy_wh
        request = ChargeRequest(
            message_id=new_id(),
            timestamp=datetime.now(UTC),
            driver_id=driver_id,
            cp_id=cp_id,
            energy_wh=energy_wh,
        )
        self._producer.produce(Topic.CHARGE_REQUESTS, messages.encode(request), cp_id, on_delivery=_delivered)

    def _billed(self) -> list[str]:
        """The drivers whose receipts have come, and are right."""
        billed = []
        for record in self._consumer.consume(1000, 0.05):
            answer = _decode(record.value() or b"")
            self.books.answers[answer.type] += 1
            if answer.accepted is False or answer.type == "error_response":
                raise WrongResult(f"{answer.driver_id} is refused: {answer.code}")
            if answer.type == "charge_completion_response":
                self._check(answer)
                billed.append(answer.driver_id)
        if billed:
            self._silent_from_s = time.monotonic()
        return billed

    def _check(self, receipt: Answer) -> None:
        energy_wh = self._asked_wh.pop(receipt.driver_id, None)
        if energy_wh is None:
            raise WrongResult(f"{receipt.driver_id} has two receipts of one session")
        cost = cost_of(energy_wh)
        if (receipt.energy_wh, receipt.cost, receipt.revision) != (energy_wh, cost, 1):
            raise WrongResult(f"{receipt.driver_id} asked for {energy_wh} Wh ({cost}), and is billed {receipt}")
        self.books.sessions += 1
        self.books.energy_wh += energy_wh
        self.books.cost += cost


_decode = msgspec.json.Decoder(Answer).decode


def _delivered(error: KafkaError | None, _: KafkaRecord) -> None:
    if error is not None:
        raise WrongResult(f"a request was not delivered: {error}")

"""What Central says on Kafka, until Kafka has it: answers and receipts to drivers, and dead letters.

The offset of a request is committed once its answer has been written. What Kafka refuses is kept, and tried again;
a receipt is in the database anyway, and is tried again from there.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from evcharge import clock
from evcharge.central.receipts import Receipts
from evcharge.domain.decisions import DeadLetter
from evcharge.errors import InternalError
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AvailableCpsResponse,
    ChargeCompletionResponse,
    ChargingHistoryResponse,
    Message,
    Reply,
)
from evcharge.protocol.topics import Topic
from evcharge.transport.offsets import OffsetTracker, Ticket
from evcharge.transport.publisher import NO_HEADERS, Publisher, Refusal

RETRY_S = 1.0
AGAIN_EVERY_S = 5.0
AGAIN_AT_ONCE = 200
PAGES = (AvailableCpsResponse, ChargingHistoryResponse)
MAX_KEPT = 50_000
"""So many requests may wait for answers that Kafka refuses; then none is read any more."""
MAX_DEAD_LETTER_BYTES = 900_000  # with its headers below what a Kafka takes by default, 1 MB


@dataclass(slots=True, eq=False)
class Parcel:
    """One record. `tickets` are those of the batches that it follows from."""

    topic: Topic
    key: str | bytes | None
    value: bytes | None
    tickets: list[Ticket]
    message: Message | None = None
    headers: Mapping[str, bytes] = field(default_factory=lambda: NO_HEADERS)

    @property
    def name(self) -> object:
        """The same for an answer that is given again."""
        return self.message.message_id if self.message is not None else id(self)


class Outbox:
    """Any thread sends; `try_again` belongs to one. `warn` throttles by its second argument."""

    def __init__(
        self,
        publisher: Publisher,
        offsets: OffsetTracker,
        receipts: Receipts,
        *,
        on_receipt: Callable[[UUID, int], None],
        warn: Callable[..., None],
        stopping: threading.Event,
    ) -> None:
        self._publisher = publisher
        self._offsets = offsets
        self._receipts = receipts
        self._on_receipt = on_receipt
        self._warn = warn
        self._stopping = stopping
        self._lock = threading.Lock()
        self._kept: dict[object, Parcel] = {}
        self._trying: set[object] = set()
        self._refused = False
        self._next_try_s = 0.0

    @property
    def kept(self) -> int:
        """How many records Kafka has refused, and will be offered again; receipts are not among them."""
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        return len(self._kept) >= MAX_KEPT

    def send(self, driver_id: str, message: Message, ticket: Ticket | None) -> None:
        """Waits as long as the queue of Kafka's client is full."""
        if isinstance(message, ChargeCompletionResponse):
            self._receipts.published(message.session_id, message.revision)
        self._expect(Parcel(Topic.RESPONSES, driver_id, messages.encode(message), [], message), ticket)

    def send_droppable(self, driver_id: str, update: Message) -> bool:
        """What a driver can do without, as the next one says more; False if it was dropped."""
        return self._publisher.publish_droppable(Topic.RESPONSES, driver_id, messages.encode(update))

    def put_aside(self, letter: DeadLetter, ticket: Ticket | None) -> None:
        record, error = letter.record, letter.error
        headers = {
            "topic": record.topic.encode(),
            "partition": b"%d" % record.partition,
            "offset": b"%d" % record.offset,
            "code": error.code.encode(),
            "reason": messages.shown(str(error)).encode(),
        }
        key, value = record.key, record.value
        if len(key or b"") + len(value) > MAX_DEAD_LETTER_BYTES:
            headers["left-out"] = b"key and value: %d bytes" % (len(key or b"") + len(value))
            key, value = None, b""
        self._expect(Parcel(Topic.DEAD_LETTERS, key, value, [], headers=headers), ticket)

    def _expect(self, parcel: Parcel, ticket: Ticket | None) -> None:
        if ticket is not None:
            self._offsets.expect(ticket)
            parcel.tickets.append(ticket)
        self._queue(parcel)

    def _queue(self, parcel: Parcel) -> None:
        def reported(refusal: Refusal | None) -> None:
            self._reported(parcel, refusal)

        while not self._publisher.publish(
            parcel.topic, parcel.key, parcel.value, reported, headers=parcel.headers
        ):
            self._warn("kafka_queue_full", "kafka_queue", retry_s=RETRY_S)
            if self._stopping.wait(RETRY_S):
                return

    def _reported(self, parcel: Parcel, refusal: Refusal | None) -> None:
        message = parcel.message
        if isinstance(message, ChargeCompletionResponse):
            if refusal is None:
                self._on_receipt(message.session_id, message.revision)
            else:
                self._receipts.refused(message.session_id, message.revision)
        elif refusal is not None and refusal.too_large and isinstance(message, PAGES):
            self._say_too_large(parcel, message)
        elif refusal is not None and not (refusal.too_large and parcel.topic is Topic.DEAD_LETTERS):
            self._keep(parcel)
            return
        self._settle(parcel)

    def _settle(self, parcel: Parcel) -> None:
        with self._lock:
            self._trying.discard(parcel.name)
        for ticket in parcel.tickets:
            self._offsets.delivered(ticket)

    def _keep(self, parcel: Parcel) -> None:
        with self._lock:
            self._refused = True
            self._trying.discard(parcel.name)
            before = self._kept.pop(parcel.name, None)
            if before is not None:
                parcel.tickets = before.tickets + parcel.tickets
            self._kept[parcel.name] = parcel

    def _say_too_large(self, parcel: Parcel, answer: Reply) -> None:
        """Instead of an answer that Kafka will never take, one that it does."""
        size = len(parcel.value or b"")
        reason = f"the answer has {size} bytes, which is more than this Kafka takes; ask for less, by `limit`"
        driver_id = str(parcel.key)
        reply = messages.error_response(InternalError.code, reason, answer.in_reply_to, clock.now(), driver_id)
        for ticket in parcel.tickets:
            self._offsets.expect(ticket)
        self._queue(Parcel(parcel.topic, parcel.key, messages.encode(reply), list(parcel.tickets), reply))

    def try_again(self) -> None:
        """Offer Kafka some of what it has refused; more of it at once as long as it takes them."""
        now_s = time.monotonic()
        with self._lock:
            if self._trying or not self._kept or now_s < self._next_try_s:
                return
            self._next_try_s = now_s + AGAIN_EVERY_S if self._refused else now_s
            self._refused = False
            parcels = [self._kept.pop(name) for name in list(self._kept)[:AGAIN_AT_ONCE]]
            self._trying = {parcel.name for parcel in parcels}
        for parcel in parcels:
            self._queue(parcel)

"""The shortest way from a request to its answer through Kafka: decode, produce, and no thought in between.

    python bench/bare_answers.py KAFKA

Takes the readings, too, and produces one record for each, so that it meets the broker under the flow that Central
has; its clients have Central's settings. It says `ready`; when stdin ends, how many readings it has had.
"""

import sys
import threading

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from bare_loop import Reading, delivered, update_after
from evcharge.protocol.messages import ChargeRequest, ChargeRequestResponse, derived_id
from evcharge.protocol.topics import Topic
from ground import PARTITIONS

TOPICS = (Topic.CHARGE_REQUESTS, Topic.SESSION_DATA)
RECORDS_A_BATCH = 1000
POLL_S = 0.1


class BareAnswers:
    def __init__(self, kafka: str) -> None:
        common = {
            "bootstrap.servers": kafka,
            "socket.keepalive.enable": True,
            "topic.metadata.refresh.interval.ms": 30_000,
        }
        self._consumer = Consumer(
            common
            | {
                "group.id": "bare-answers",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": 500,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        wanted = [
            TopicPartition(topic, number, OFFSET_BEGINNING) for topic in TOPICS for number in range(PARTITIONS)
        ]
        self._consumer.assign(wanted)
        self._producer = Producer(
            common
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "queue.buffering.max.messages": 200_000,
            }
        )
        self._encode = msgspec.json.Encoder().encode
        self.over = threading.Event()

    def run(self) -> int:
        """Until it is over, and nothing more comes; the number of readings."""
        decode_reading = msgspec.json.Decoder(Reading).decode
        decode_request = msgspec.json.Decoder(ChargeRequest).decode
        readings = 0
        while True:
            first = self._consumer.poll(POLL_S)
            if first is None:
                if self.over.is_set():
                    self._producer.flush()
                    return readings
                continue
            for record in [first, *self._consumer.consume(RECORDS_A_BATCH - 1, 0)]:
                value = record.value() or b""
                if record.topic() == Topic.SESSION_DATA:
                    readings += 1
                    self._follow(decode_reading(value))
                else:
                    self._answer(decode_request(value))
            self._producer.poll(0)

    def _answer(self, request: ChargeRequest) -> None:
        self._produce(
            request.driver_id,
            ChargeRequestResponse(
                message_id=derived_id(request.message_id, "answer"),
                timestamp=request.timestamp,
                in_reply_to=request.message_id,
                accepted=True,
                driver_id=request.driver_id,
                cp_id=request.cp_id,
                session_id=derived_id(request.message_id, "session"),
            ),
        )

    def _follow(self, reading: Reading) -> None:
        self._produce(reading.driver_id, update_after(reading))

    def _produce(self, driver_id: str, message: msgspec.Struct) -> None:
        self._producer.produce(Topic.RESPONSES, self._encode(message), driver_id, on_delivery=delivered)


def until_stdin_ends(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    bare = BareAnswers(sys.argv[1])
    threading.Thread(target=until_stdin_ends, args=(bare.over,), daemon=True).start()
    print("ready", flush=True)
    print(bare.run(), flush=True)

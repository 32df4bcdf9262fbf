"""A driver in nothing but the documented protocol (docs/protocol.md), confluent-kafka and the standard library.

    EVCHARGE_KEY=… python examples/driver.py KAFKA DRIVER_ID CP_ID KWH

Asks for a charge, prints how it goes, and ends with its receipt: exit code 0 if it was completed, else 1.
"""

import hmac
import json
import os
import sys
import time
import zlib
from datetime import UTC, datetime
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

REPEAT_S, TIMEOUT_S = 5, 30


def run(kafka: str, driver_id: str, cp_id: str, kwh: str) -> bool:
    cluster = {"bootstrap.servers": kafka, "log_level": 0}
    # All that concerns a driver comes in one partition, the one that its id hashes to. Begin at its end, and
    # before asking. No group is joined, though librdkafka wants one to be named.
    consumer = Consumer({**cluster, "group.id": driver_id, "enable.auto.commit": False})
    partitions = consumer.list_topics("driver_responses", timeout=10).topics["driver_responses"].partitions
    if not partitions:
        sys.exit("There is no topic driver_responses yet; is Central running?")
    mine = TopicPartition("driver_responses", zlib.crc32(driver_id.encode()) % len(partitions))
    _, mine.offset = consumer.get_watermark_offsets(mine, timeout=10)
    consumer.assign([mine])

    envelope = {"type": "charge_request", "message_id": str(uuid4()), "timestamp": datetime.now(UTC).isoformat()}
    request = {**envelope, "driver_id": driver_id, "cp_id": cp_id, "energy_wh": round(float(kwh) * 1000)}
    value = json.dumps(request).encode()
    key = os.environ.get("EVCHARGE_KEY", "")  # what `evcharge drivers add` printed
    signature = hmac.new(key.encode(), value, "sha256").hexdigest()
    headers = {"evcharge-hmac-sha256": signature.encode()} if key else {}
    producer = Producer({**cluster, "acks": "all"})
    session_id = None
    give_up_at = time.monotonic() + TIMEOUT_S
    ask_at = time.monotonic()
    while True:
        if session_id is None and time.monotonic() >= give_up_at:
            sys.exit(f"Central has not answered within {TIMEOUT_S} s.")
        if session_id is None and time.monotonic() >= ask_at:
            producer.produce(
                "driver_charge_requests", key=cp_id, value=value, headers=headers
            )  # each time the same
            producer.flush(1)
            ask_at += REPEAT_S
        record = consumer.poll(0.5)
        if record is None or record.error():
            continue
        heard = json.loads(record.value() or b"{}")
        match heard.get("type"):
            case "charge_request_response" if heard["in_reply_to"] == request["message_id"]:
                if not heard["accepted"]:
                    print(f"refused: {heard['reason']} ({heard['code']})")
                    return False
                session_id = heard["session_id"]
                print(f"accepted: {heard['price_per_kwh']} {heard['currency']}/kWh, session {session_id}")
            case "charging_status_update" | "charge_completion_response" as kind:
                if heard["session_id"] != session_id:
                    continue  # of another driver in this partition, or of an earlier charge
                print(f"{heard['status']}: {heard['energy_wh']} Wh, {heard['cost']} {heard['currency']}")
                if kind == "charge_completion_response":
                    return bool(heard["status"] == "completed")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python examples/driver.py KAFKA DRIVER_ID CP_ID KWH")
    try:
        sys.exit(0 if run(*sys.argv[1:]) else 1)
    except KafkaException as problem:
        sys.exit(f"Kafka does not answer: {problem.args[0].str()}")
    except KeyboardInterrupt:
        sys.exit(1)

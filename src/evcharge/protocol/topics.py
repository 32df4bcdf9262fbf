"""The topics. Keyed by `cp_id`, so that all that concerns a charge point keeps its order in one partition;
the queries (`driver_cps_requests`) and `driver_responses` by `driver_id`.

Six carry the network's messages. The seventh, `dead_letters`, carries none: what came on the others and cannot be
taken is put aside there for a person to look at, with its own key and value, as Kafka Connect does it.
"""

import zlib
from enum import StrEnum


class Topic(StrEnum):
    CHARGE_REQUESTS = "driver_charge_requests"
    STOP_REQUESTS = "driver_stop_requests"
    CPS_REQUESTS = "driver_cps_requests"
    RESPONSES = "driver_responses"
    SESSION_DATA = "charging_session_data"
    SESSION_COMPLETE = "charging_session_complete"
    DEAD_LETTERS = "dead_letters"


FROM_DRIVERS = (Topic.CHARGE_REQUESTS, Topic.STOP_REQUESTS, Topic.CPS_REQUESTS)
FROM_METERS = (Topic.SESSION_DATA, Topic.SESSION_COMPLETE)
TO_CENTRAL = FROM_DRIVERS + FROM_METERS


def partition_of(key: str, partitions: int) -> int:
    """Where a record with this key lies: CRC-32 of the key's bytes, modulo the count (librdkafka's default)."""
    return zlib.crc32(key.encode()) % partitions

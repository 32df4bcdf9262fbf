"""The six topics. Keyed by `cp_id`, so that all that concerns a charge point keeps its order in one partition;
the queries (`driver_cps_requests`) and `driver_responses` by `driver_id`."""

import zlib
from enum import StrEnum


class Topic(StrEnum):
    CHARGE_REQUESTS = "driver_charge_requests"
    STOP_REQUESTS = "driver_stop_requests"
    CPS_REQUESTS = "driver_cps_requests"
    RESPONSES = "driver_responses"
    SESSION_DATA = "charging_session_data"
    SESSION_COMPLETE = "charging_session_complete"


FROM_DRIVERS = (Topic.CHARGE_REQUESTS, Topic.STOP_REQUESTS, Topic.CPS_REQUESTS)
TO_CENTRAL = tuple(topic for topic in Topic if topic is not Topic.RESPONSES)


def partition_of(key: str, partitions: int) -> int:
    """Where a record with this key lies: CRC-32 of the key's bytes, modulo the count (librdkafka's default)."""
    return zlib.crc32(key.encode()) % partitions

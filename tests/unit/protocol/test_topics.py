"""The topics of the seed, and where a key lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.protocol.topics import TO_CENTRAL, Topic, partition_of


def crc32(data: bytes) -> int:
    """CRC-32 bit by bit, as ISO 3309 defines it, without zlib."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_topics_are_the_six_of_the_seed_and_one_for_what_cannot_be_taken() -> None:
    assert {topic.value for topic in Topic if topic is not Topic.DEAD_LETTERS} == {
        "driver_charge_requests",
        "driver_stop_requests",
        "driver_cps_requests",
        "driver_responses",
        "charging_session_data",
        "charging_session_complete",
    }


def test_central_reads_all_topics_but_its_own() -> None:
    assert set(TO_CENTRAL) == set(Topic) - {Topic.RESPONSES, Topic.DEAD_LETTERS}
    assert len(TO_CENTRAL) == len(set(TO_CENTRAL))


@pytest.mark.parametrize(
    ("key", "checksum"),
    [
        ("123456789", 0xCBF43926),  # the check value that every description of CRC-32 gives
        ("", 0x00000000),
        ("a", 0xE8B7BE43),
        ("abc", 0x352441C2),
        ("The quick brown fox jumps over the lazy dog", 0x414FA339),
    ],
)
def test_a_key_lies_where_its_known_crc_32_says(key: str, checksum: int) -> None:
    assert partition_of(key, 2**32) == checksum
    assert partition_of(key, 6) == checksum % 6


@given(st.text(max_size=64), st.integers(1, 10_000))
def test_a_key_lies_where_its_crc_32_says(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == crc32(key.encode()) % partitions


@given(st.text(max_size=64))
def test_one_partition_takes_all(key: str) -> None:
    assert partition_of(key, 1) == 0

"""What the suite has found, each as a scenario without chance."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import eventually
from machine import no_clock
from network import CENTRAL_OF_A_CROWD, Kafka, Network

from kafka_broker import ensure_jars

HOUR_S = 3600


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    ensure_jars()
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.close()


@pytest.mark.skipif(no_clock() is not None, reason=str(no_clock()))
def test_programs_end_in_order_though_the_clock_is_set(kafka: Kafka, tmp_path: Path) -> None:
    """The Kafka client waits by the wall clock, so that a poll of 0.1 s may last an hour."""
    network = Network("clock", tmp_path, kafka, frozenset({"central-clock", "driver-clock"}))
    try:
        network.start(1)
        driver = network.start_driver("ana", [(network.cp_ids[0], 0.5)])
        network.until(network.is_charging, "she charges")
        for clock in network.clocks.values():
            clock.set(HOUR_S)
        assert driver.wait(20) == 0
        central = network.running["central"]
        central.signal(signal.SIGTERM)
        assert central.wait(5) == 128 + signal.SIGTERM
    finally:
        network.heal()
        network.stop()


def test_central_hears_drivers_again_soon_after_a_connection_to_kafka_died_without_a_word(
    kafka: Kafka, tmp_path: Path
) -> None:
    """Within the client's 10 s, and not its default of 60."""
    network = Network(
        "half-open", tmp_path, kafka, frozenset({"central-kafka"}), central_options=CENTRAL_OF_A_CROWD
    )
    try:
        network.start(1)
        kafka.proxies["central"].open_half()
        driver = network.start_driver("ana", [(network.cp_ids[0], 0.05)])
        network.until(network.is_charging, "Central has heard her", 20)
        eventually(lambda: driver.process.poll() == 0, "she has her receipt", 20)
        # Where the offsets go to is asked over a connection of its own, and that one is still dead.
        central = network.running["central"]
        central.signal(signal.SIGTERM)
        assert central.wait(5) == 128 + signal.SIGTERM
    finally:
        network.heal()
        network.stop()

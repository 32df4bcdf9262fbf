"""One real Kafka for all tests; a folder and processes of its own for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import World

from kafka_broker import Broker, ensure_jars, free_port


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    ensure_jars()
    broker = Broker(tmp_path_factory.mktemp("kafka"), free_port())
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def world(broker: Broker, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, broker.bootstrap)
    yield world
    world.stop()

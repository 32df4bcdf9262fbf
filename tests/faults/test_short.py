"""The short version of `make faults`: each kind of break once, three to a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from breaks import BREAKS
from network import Kafka
from run import SHORT, possible, run

from kafka_broker import ensure_jars

SEED = 20_261_124
TRIPLES: list[tuple[str, ...]] = [
    ("kill-central", "half-open-monitor-engine", "advance-driver-clock"),
    ("kill-engine", "stall-monitor-central", "say-again"),
    ("kill-monitor", "cut-engine-kafka", "turn-back-engine-clock"),
    ("kill-driver", "lock-database", "twice-monitor-central"),
    ("kill-broker", "freeze-engine", "delay-monitor-central"),
    ("freeze-central", "reset-monitor-engine", "loss-engine-kafka"),
    ("freeze-monitor", "fill-engine-disk", "trickle-driver-kafka"),
    ("freeze-broker", "fill-central-disk", "shuffle-monitor-engine"),
]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    ensure_jars()
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.close()


@pytest.fixture(scope="session")
def here() -> set[str]:
    """The breaks that can be done on this machine."""
    return set(possible(long=True))


@pytest.mark.parametrize("names", TRIPLES, ids=" ".join)
def test_no_books_disagree(names: tuple[str, ...], kafka: Kafka, here: set[str], tmp_path: Path) -> None:
    breaks = [BREAKS[name] for name in names if name in here]
    result = run(SEED + TRIPLES.index(names), breaks, kafka, tmp_path, SHORT)
    assert not result.wrong, "\n".join(result.wrong)
    assert result.sessions > 0
    assert result.energy_wh > 0


def test_every_kind_of_break_has_its_turn() -> None:
    """A kind is what is done, whatever it is done to."""
    assert {name.split("-")[0] for triple in TRIPLES for name in triple} == {name.split("-")[0] for name in BREAKS}

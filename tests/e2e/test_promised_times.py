"""How soon what has happened at a charge point is seen: as promised, and on every screen."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import World, eventually
from terminal import Terminal

from kafka_broker import free_port


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.kill()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun_s = time.monotonic()
    yield
    took_s = time.monotonic() - begun_s
    assert took_s <= seconds, f"it took {took_s:.2f} s"


def test_a_fault_of_an_engine_is_on_every_screen_within_a_second(
    world: World, tmp_path: Path, terminals: list[Terminal]
) -> None:
    to_kafka = ("--kafka", world.kafka)
    port, http_port = free_port(), free_port()
    engine = world.engine()
    here = ("--host", "127.0.0.1", "--port", str(port), "--http", f"127.0.0.1:{http_port}")
    central = Terminal(tmp_path, "central", *here, *to_kafka, "--db", "evcharge.db", "--open-registration")
    terminals.append(central)
    central.saw("kafka_joined")
    links = ("--engine", f"127.0.0.1:{engine.port}", "--central", f"127.0.0.1:{port}")
    monitor = Terminal(tmp_path, "monitor", "CP001", *links)
    terminals.append(monitor)
    world.until_status("CP001", "ACTIVE")
    token = world.token("maria", "viewer")
    admin = Terminal(tmp_path, "admin", "--url", f"http://127.0.0.1:{http_port}", "--token", token)
    terminals.append(admin)
    for terminal in terminals:
        terminal.saw("ACTIVE")
    with within(1.0):
        engine.say("fault ground_fault")
        for terminal in terminals:
            terminal.saw("ground_fault")
        assert world.status("CP001") == "FAULTY"


def test_a_silent_engine_is_seen_within_its_timeout_and_a_second(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, "--health-interval", "0.5", "--health-timeout", "2")
    with within(3.0):
        engine.signal(signal.SIGSTOP)
        world.until_status("CP001", "FAULTY")
    faults = world.rows("SELECT code FROM faults WHERE cleared_at IS NULL")
    assert [fault["code"] for fault in faults] == ["engine_silent"]
    engine.signal(signal.SIGCONT)
    eventually(lambda: world.status("CP001") == "ACTIVE", "it recovers", deadline_s=3)

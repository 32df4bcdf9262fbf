"""A program that was held up itself takes nobody else's silence for the end of them."""

from __future__ import annotations

import signal
import sqlite3
import time

from harness import World, eventually
from test_trouble import MEDIUM, metered_wh


def let_pass(seconds: float) -> None:
    """Nothing can be waited for but that time goes by."""
    until_s = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until_s, f"{seconds:g} s pass")


def test_a_central_that_was_stopped_gives_no_monitor_up(world: World) -> None:
    central = world.central("--heartbeat-timeout", "3")
    fleet = world.start(
        "fleet",
        *("fleet", "--count", "200", "--kafka", world.kafka, "--central", f"127.0.0.1:{central.port}"),
        *("--heartbeat-interval", "1.5", "--log-level", "info"),
    )

    def active() -> int:
        return len(world.rows("SELECT 1 FROM charge_points WHERE status = 'ACTIVE'"))

    eventually(lambda: active() == 200, "all are there")
    central.signal(signal.SIGSTOP)
    let_pass(4)
    central.signal(signal.SIGCONT)
    world.ask("ana", "list")
    assert active() == 200
    assert "disconnected" not in fleet.log
    fleet.signal(signal.SIGSTOP)  # and silence that is real is still seen
    eventually(lambda: active() == 0, "all are given up", deadline_s=5)


def test_a_monitor_that_was_stopped_does_not_give_its_engine_up(world: World) -> None:
    central = world.central()
    engine, monitor = world.charge_point(
        "CP001", central, "--health-interval", "0.5", "--health-timeout", "2", engine=MEDIUM
    )
    driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--json")
    world.until_session("charging", least_wh=50)
    monitor.signal(signal.SIGSTOP)
    let_pass(3.5)
    monitor.signal(signal.SIGCONT)
    assert driver.wait(60) == 0
    session = world.until_session("completed")
    assert session["end_reason"] == "target_reached"
    assert session["energy_wh"] == metered_wh(engine) == 1000
    assert world.rows("SELECT code FROM faults WHERE code LIKE 'engine%'") == []


def test_a_start_is_not_overdue_because_the_database_was_locked(world: World) -> None:
    central = world.central("--start-timeout", "2")
    world.charge_point("CP001", central, engine=MEDIUM)
    lock = sqlite3.connect(world.folder / "evcharge.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--json")
    eventually(
        lambda: any(line["message"]["type"] == "charge_request" for line in central.trace()), "the request came"
    )
    let_pass(4)
    lock.execute("ROLLBACK")
    lock.close()
    assert driver.wait(60) == 0
    assert world.until_session("completed")["end_reason"] == "target_reached"

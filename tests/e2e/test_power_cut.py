"""The power goes: what had reached the disk is all that is left.

The files live on a file system of their own in an image. A copy of the image has what was synced, or had been
written back by then, and not what only the kernel held: as after a cut of power. Needs the right to mount.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from harness import Program, World, eventually
from test_trouble import MEDIUM

IMAGE_BYTES = 32 * 1024 * 1024
CUTS = 5


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    place = image.with_suffix(".mounted")
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder that it is mounted at; beside it, with the ending `.img`, its image."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system of one's own takes root and mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    try:
        with mounted(image) as place:
            yield place
    except subprocess.CalledProcessError as problem:
        if problem.cmd[0] == "mount":
            pytest.skip("this machine mounts no images")
        raise


def cut(program: Program, disk: Path, name: str) -> Path:
    """A copy of the disk as it would be, had the power gone at this moment."""
    program.signal(signal.SIGSTOP)
    copy = disk.with_name(f"{name}.img")
    shutil.copyfile(disk.with_suffix(".img"), copy)
    return copy


def test_a_charge_point_loses_at_most_one_second_of_energy(world: World, disk: Path) -> None:
    central = world.central()
    options = ("--time-scale", "60")
    engine, monitor = world.charge_point("CP001", central, engine=(*options, "--journal", str(disk)))
    driver = world.driver("ana", "charge", "CP001", "--wait", "--json")
    world.until_session("charging", least_wh=500)
    copy = cut(engine, disk, "cut")
    port = engine.port
    monitor.kill()
    engine.kill()
    readings = [line for line in engine.trace() if line["message"]["type"] == "charging_data" and "topic" in line]
    with mounted(copy) as found:
        engine2 = world.engine(*options, "--journal", str(found), name="engine2", port=port)
        world.monitor("CP001", port, central.port, name="monitor2")
        assert driver.wait(60) == 1
        engine2.kill()
    (settled,) = {
        line["message"]["energy_wh"]
        for line in engine2.trace()
        if line["message"]["type"] == "charge_completion" and line["direction"] == "out"
    }
    kept = next(line for line in readings if line["message"]["energy_wh"] == settled)
    lost_s = (at(readings[-1]) - at(kept)).total_seconds()
    assert lost_s <= 1.1, f"{lost_s} s of readings were lost"
    receipt = json.loads(driver.output)
    assert receipt["energy_wh"] == readings[-1]["message"]["energy_wh"], "Central had been told, and bills it"


def at(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["at"])


def test_central_has_on_its_disk_whatever_it_has_said(world: World, disk: Path) -> None:
    central = world.central("--db", str(disk / "evcharge.db"))
    for cp_id in ("CP001", "CP002", "CP003"):
        engine = world.engine(*MEDIUM, name=f"engine-{cp_id}")
        world.monitor(cp_id, engine.port, central.port, name=f"monitor-{cp_id}")
    eventually(lambda: len(world.ask("watcher", "list")) == 3, "all are there")
    for number in range(CUTS):
        drivers = [world.driver(f"D{i}-{number}", "charge", f"CP00{i}", "--energy", "0.1") for i in (1, 2, 3)]
        for driver in drivers:
            assert driver.wait(60) == 0
        told = 3 * number
        eventually(lambda told=told: len(said(central)) > told, "a receipt goes out")  # type: ignore[misc]
        copy = cut(central, disk, f"cut{number}")
        receipts = said(central)
        central.signal(signal.SIGCONT)
        with mounted(copy) as found, closing(sqlite3.connect(found / "evcharge.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            for session_id, (energy_wh, revision) in receipts.items():
                row = database.execute(
                    "SELECT energy_wh, revision FROM sessions WHERE session_id = ?", (session_id,)
                ).fetchone()
                assert row == (energy_wh, revision)
        eventually(lambda told=told: len(said(central)) == told + 3, "all have their receipts")  # type: ignore[misc]


def said(central: Program) -> dict[str, tuple[int, int]]:
    """session_id -> energy and revision, of the receipts that Central has handed to Kafka."""
    return {
        uuid.UUID(line["message"]["session_id"]).hex: (line["message"]["energy_wh"], line["message"]["revision"])
        for line in central.trace()
        if line["message"]["type"] == "charge_completion_response" and line["direction"] == "out"
    }

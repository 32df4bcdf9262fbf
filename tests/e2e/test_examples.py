"""The two example programs, which know nothing but the documented protocol, against the real system."""

import os
import subprocess
import sys
from pathlib import Path

from harness import Program, World, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(world: World, name: str, *arguments: str, key: str = "") -> Program:
    with (world.folder / f"{name}.out").open("w") as out, (world.folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", str(EXAMPLES / f"{name}.py"), *arguments],
            stdout=out,
            stderr=log,
            text=True,
            env=os.environ | {"EVCHARGE_KEY": key},
        )
    program = Program(name, world.folder, process)
    world.programs.append(program)
    return program


def test_the_examples_charge_with_each_other_and_with_the_real_programs(world: World) -> None:
    central = world.central()
    charge_point = start(world, "charge_point", "127.0.0.1", str(central.port), "EXAMPLE-1")
    world.until_status("EXAMPLE-1", "ACTIVE")
    driver = start(world, "driver", world.kafka, "ana", "EXAMPLE-1", "0.5")
    assert driver.wait() == 0, driver.log
    assert "completed: 500 Wh, 0.15 EUR" in driver.output
    eventually(lambda: "target_reached: 500 Wh, 0.15 EUR" in charge_point.output, "it has its receipt")

    assert world.ask("bo", "charge", "EXAMPLE-1", "--energy", "0.25", "--wait")["energy_wh"] == 250
    assert world.ask("bo", "charge", "EXAMPLE-1")["accepted"] is True
    world.until_session("charging", least_wh=1)
    refused = start(world, "driver", world.kafka, "cy", "EXAMPLE-1", "1")
    assert refused.wait() == 1
    assert "refused: EXAMPLE-1 is taken by another charge (charge_point_busy)" in refused.output
    world.ask("bo", "stop")
    assert world.until_session("completed")["end_reason"] == "stopped"

    central.kill()
    assert charge_point.wait() == 1
    assert "Central has closed the connection" in charge_point.log


def test_the_example_driver_needs_its_key(world: World) -> None:
    add = world.start("add", "drivers", "add", "ana", "--db", "evcharge.db")
    assert add.wait() == 0
    central = world.central()
    start(world, "charge_point", "127.0.0.1", str(central.port), "EXAMPLE-1")
    world.until_status("EXAMPLE-1", "ACTIVE")
    without = start(world, "driver", world.kafka, "ana", "EXAMPLE-1", "0.1")
    assert without.wait() == 1
    assert "authentication_failed" in without.output
    signed = start(world, "driver", world.kafka, "ana", "EXAMPLE-1", "0.1", key=add.output.strip())
    assert signed.wait() == 0, signed.log
    assert "completed: 100 Wh" in signed.output


def test_the_example_charge_point_needs_its_key(world: World) -> None:
    add = world.start("add", "cp", "add", "EXAMPLE-1", "--db", "evcharge.db")
    assert add.wait() == 0
    central = world.central(open_registration=False)
    without = start(world, "charge_point", "127.0.0.1", str(central.port), "EXAMPLE-1")
    assert without.wait() == 1
    assert "Central refuses EXAMPLE-1" in without.log
    start(world, "charge_point", "127.0.0.1", str(central.port), "EXAMPLE-1", add.output.strip())
    world.until_status("EXAMPLE-1", "ACTIVE")

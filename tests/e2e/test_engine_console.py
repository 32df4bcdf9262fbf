"""EngineCLI: every command, through stdin and stdout against the running system."""

import re

import pytest
from harness import World, eventually
from test_monitor_console import answer, at_work

SLOW = ("--time-scale", "20", "--soc", "50")


def test_every_command(world: World) -> None:
    _, engine, _ = at_work(world, *SLOW)
    for command in ("status", "plug", "unplug", "charge", "stop", "fault", "repair", "help", "quit"):
        assert answer(engine, f"help {command}").startswith(command)
    assert len(answer(engine, "help").splitlines()) == 9
    assert answer(engine, "status") == (
        "charge point CP001; Monitor connected; vehicle at 50.0 %; not charging; healthy;"
        " 0 charges, 0.000 kWh; 0 completions without a receipt"
    )

    assert answer(engine, "plug 40 30 7") == "plugged in: 40 kWh at 30 %, takes 7 kW"
    session = answer(engine, "charge ana 5").removeprefix("accepted: session ")
    assert re.fullmatch("[-0-9a-f]{36}", session)
    running = world.until_session("charging", least_wh=10)
    assert (running["driver_id"], running["target_energy_wh"]) == ("ana", 5000)
    assert re.search(r"; vehicle at 30\.\d %; charging \d+ Wh for ana; healthy;", answer(engine, "status"))
    assert answer(engine, "charge bo").startswith("refused: CP001 is taken by another charge")
    assert answer(engine, "stop") == "stopped"
    assert world.until_session("completed")["end_reason"] == "stopped"
    eventually(
        lambda: "1 charge, " in (said := answer(engine, "status")) and "0 completions" in said, "its receipt came"
    )

    world.until_status("CP001", "ACTIVE")
    assert answer(engine, "charge ana").startswith("accepted")
    world.until_status("CP001", "CHARGING")
    assert answer(engine, "fault over_voltage the grid is high") == "faulty: over_voltage"
    world.until_status("CP001", "FAULTY")
    fault = world.rows("SELECT * FROM faults WHERE cleared_at IS NULL")[0]
    assert (fault["code"], fault["description"]) == ("over_voltage", "the grid is high")
    assert "faulty: over_voltage, the grid is high" in answer(engine, "status")
    assert answer(engine, "charge ana").startswith("refused: ")
    assert answer(engine, "repair") == "repaired"
    world.until_status("CP001", "ACTIVE")

    assert answer(engine, "charge ana").startswith("accepted")
    world.until_status("CP001", "CHARGING")
    assert answer(engine, "unplug") == "unplugged"
    world.until_status("CP001", "ACTIVE")
    ends = [row["end_reason"] for row in world.rows("SELECT end_reason FROM sessions ORDER BY number")]
    assert ends == ["stopped", "fault", "unplugged"]
    engine.say("quit")
    assert engine.wait() == 0


@pytest.mark.parametrize("end", ["quit", "exit"])
def test_quit_ends_a_charge_and_the_engine_in_order(world: World, end: str) -> None:
    _, engine, _ = at_work(world, *SLOW)
    assert answer(engine, "charge ana").startswith("accepted")
    world.until_session("charging", least_wh=1)
    engine.say(end)
    assert engine.wait() == 0
    assert "charge_ended" in engine.log


def test_whatever_is_typed_is_answered(world: World) -> None:
    _, engine, _ = at_work(world, *SLOW)
    for line, sentence in (
        ("stats", "there is no command 'stats'; did you mean 'status'?"),
        ("\x1b[A", "there is no command '\\x1b[A'; 'help' lists the commands"),
        ("plug 60", "say: plug BATTERY_KWH SOC_PERCENT [POWER_KW]"),
        ("plug sixty 50", "the battery in kWh must be a number from 0.1 to 1000, not 'sixty'"),
        ("charge", "say: charge DRIVER_ID [KWH]"),
        ("charge ana -1", "the energy in kWh must be a number from 0.001 to 1000, not '-1'"),
        ("stop", "no charge runs"),
        ("fault 'a b'", "say: fault CODE [DESCRIPTION]"),
        ("repair", "nothing is faulty"),
        ('fault "', "no closing quotation"),
    ):
        assert answer(engine, line) == f"error: {sentence}"
    assert answer(engine, "unplug") == "unplugged"
    assert answer(engine, "unplug") == "error: no vehicle is plugged in"
    assert answer(engine, "status").startswith("charge point CP001; Monitor connected; no vehicle;")


def test_without_a_console_nothing_is_read(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, engine=(*SLOW, "--headless"))
    engine.say("quit")
    world.ask("ana", "charge", "CP001")
    world.until_session("charging", least_wh=1)
    assert engine.process.poll() is None
    assert engine.output.count("\n") == 1

"""MonitorCLI, and the Engine's manual plug, through stdin and stdout against a network at work."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from harness import Program, World, eventually

CP = "CP001"
SLOW = ("--time-scale", "20")


def answer(program: Program, line: str) -> str:
    """What the program answers to this line."""
    before = len(program.output)
    program.say(line)
    return eventually(lambda: program.output[before:], f"{program.name} answers {line!r}\n{program.log}").rstrip(
        "\n"
    )


def logged(program: Program, event: str) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, program.log.splitlines()) if entry["event"] == event]


def at_work(world: World, *engine: str) -> tuple[Program, Program, Program]:
    central = world.central()
    return central, *world.charge_point(CP, central, engine=engine)


def open_faults(world: World) -> list[str]:
    rows = world.rows("SELECT code FROM faults WHERE cp_id = ? AND cleared_at IS NULL ORDER BY code", CP)
    return [row["code"] for row in rows]


def charging(world: World) -> None:
    world.ask("ana", "charge", CP)
    world.until_session("charging", 10)


def test_status_and_help(world: World) -> None:
    _, engine, monitor = at_work(world, *SLOW)
    assert re.fullmatch(
        rf"charge point {CP} is ACTIVE; Central connected for 0:00:\d\d; Engine connected for 0:00:\d\d; "
        r"no charge; passed \d+ up and \d+ down, 0 wait",
        answer(monitor, "status"),
    )
    for command in ("status", "reconnect [central|engine]", "fault CODE", "clear CODE", "location TEXT", "quit"):
        assert command in answer(monitor, f"help {command.split()[0]}")
    charging(world)
    said = answer(monitor, "status")
    assert f"{CP} is CHARGING" in said
    assert re.search(r"; ana: 0\.\d{3} kWh, 11\.0 kW, battery 20 %, \d s ago, session [-0-9a-f]{36};", said)
    engine.kill()
    eventually(lambda: "FAULTY (engine_lost)" in answer(monitor, "status"), "the Engine is missed")


@pytest.mark.parametrize(
    ("line", "links"),
    [("reconnect central", {"Central"}), ("reconnect engine", {"Engine"}), ("reconnect", {"Central", "Engine"})],
)
def test_reconnect_brings_the_links_back_at_once_and_no_charge_ends(
    world: World, line: str, links: set[str]
) -> None:
    central = world.central()
    engine = world.engine(*SLOW)
    # A wait that this test would not survive, were it waited.
    patient = ("--reconnect-min", "3600", "--reconnect-max", "3600")
    monitor = world.monitor(CP, engine.port, central.port, *patient)
    world.until_status(CP, "ACTIVE")
    charging(world)
    before = world.session()
    assert before is not None
    assert answer(monitor, line) == f"connecting anew to {' and '.join(sorted(links))}"
    eventually(lambda: len(logged(monitor, "connected")) == 2 + len(links), "the links are back")
    gone = logged(monitor, "disconnected")
    assert {(entry["peer"], entry["reason"]) for entry in gone} == {
        (link, f"the Monitor was told to connect to {link} anew") for link in links
    }
    world.until_status(CP, "CHARGING")
    world.until_session("charging", before["energy_wh"] + 10)
    assert open_faults(world) == []


def test_a_fault_reported_here_lasts_until_it_is_cleared_here_and_ends_no_charge(world: World) -> None:
    _, engine, monitor = at_work(world, *SLOW)
    charging(world)
    assert answer(monitor, "fault cable_damaged the cable is cut") == "faulty: cable_damaged, told to Central"
    world.until_status(CP, "FAULTY")
    assert open_faults(world) == ["cable_damaged"]
    session = world.session()
    assert session is not None
    world.until_session("charging", session["energy_wh"] + 20)
    # Neither what the Engine says of itself, nor a new connection, clears it.
    for link in ("engine", "central"):
        seen = len(logged(monitor, "connected"))
        answer(monitor, f"reconnect {link}")
        eventually(lambda: len(logged(monitor, "connected")) > seen, "the link is back")  # noqa: B023
        eventually(lambda: open_faults(world) == ["cable_damaged"], "the fault is told again")
    world.until_status(CP, "FAULTY")
    assert answer(monitor, "clear cable_damaged") == "cleared: cable_damaged"
    world.until_status(CP, "CHARGING")
    assert open_faults(world) == []
    answer(monitor, "fault display_dark")
    world.until_status(CP, "FAULTY")
    engine.say("stop")
    world.until_session("completed", 10)
    assert "charge_point_faulty" in world.ask("bo", "charge", CP, code=1)
    answer(monitor, "clear display_dark")
    world.until_status(CP, "ACTIVE")


def test_what_the_engine_reports_is_not_for_the_monitor_to_clear(world: World) -> None:
    _, engine, monitor = at_work(world)
    assert answer(engine, "fault overheated too hot") == "faulty: overheated"
    world.until_status(CP, "FAULTY")
    assert answer(monitor, "clear overheated") == (
        "error: the fault overheated is the Engine's own: it ends when it is repaired there"
    )
    assert answer(monitor, "fault overheated it smells") == "faulty: overheated, told to Central"
    assert answer(engine, "repair") == "repaired"
    assert "healthy" in answer(engine, "status")
    assert open_faults(world) == ["overheated"]
    assert answer(monitor, "clear overheated") == "cleared: overheated"
    world.until_status(CP, "ACTIVE")


def test_a_location_is_known_to_central_at_once_and_after_a_new_connection(world: World) -> None:
    central, _, monitor = at_work(world)

    def stands_at(place: str) -> Callable[[], bool]:
        return lambda: world.rows("SELECT location FROM charge_points")[0]["location"] == place

    assert answer(monitor, "location Harbour, bay 2") == (
        "location: Harbour, bay 2, told to Central; start the Monitor with --location to keep it over a restart"
    )
    eventually(stands_at("Harbour, bay 2"), "Central knows where it stands")
    port = central.port
    central.kill()
    eventually(lambda: "to be told to Central" in answer(monitor, "location 'Market square'"), "Central is missed")
    world.central(name="central2", port=port)
    eventually(stands_at("Market square"), "the next Central knows it, too")
    world.until_status(CP, "ACTIVE")


def test_wrong_input_gets_a_sentence_each_and_harms_nothing(world: World) -> None:
    _, _, monitor = at_work(world)
    for line, sentence in (
        ("status now", "say: status, without more"),
        ("reconnect kafka", "say: reconnect [central|engine]"),
        ("reconnect central engine", "say: reconnect [central|engine]"),
        ("fault", "say: fault CODE [DESCRIPTION]"),
        ("fault ü", "'\\xfc' is no code; a code has 1 to 64 letters, digits or . _ : -"),
        ("fault engine_lost", "the fault engine_lost is for evcharge itself to report"),
        ("clear", "say: clear CODE"),
        ("clear nothing", "there is no fault 'nothing'"),
        ("location", "say: location TEXT"),
        (f"location {'x' * 501}", "a location has 1 to 500 characters, none of them a control character"),
        ("location 'half", "no closing quotation"),
        ("locate x", "there is no command 'locate'; did you mean 'location'?"),
        ("\x1b[2J", "there is no command '\\x1b[2J'; 'help' lists the commands"),
    ):
        assert answer(monitor, line) == f"error: {sentence}"
    monitor.say("")
    assert f"{CP} is ACTIVE" in answer(monitor, "status")
    assert "\x1b" not in monitor.output
    assert open_faults(world) == []


def test_quit_ends_it_in_order_and_the_end_of_stdin_does_not(world: World) -> None:
    central, engine, monitor = at_work(world)
    monitor.say("quit")
    assert monitor.wait() == 0
    world.until_status(CP, "DISCONNECTED")
    again = world.monitor(CP, engine.port, central.port, name="monitor2")
    assert again.process.stdin is not None
    again.process.stdin.close()
    again.process.stdin = None
    world.until_status(CP, "ACTIVE")
    headless = world.monitor(CP, engine.port, central.port, "--headless", name="monitor3")
    eventually(lambda: logged(headless, "connected"), "it is at work")
    headless.say("quit")
    headless.say("status")
    eventually(lambda: logged(again, "gives_way"), "the other one was replaced")
    assert headless.output == ""
    assert headless.process.poll() is None


def test_two_monitors_of_one_engine_do_not_hurry_to_replace_each_other(world: World) -> None:
    central = world.central()
    engine = world.engine()
    wait = ("--reconnect-min", "0.1", "--reconnect-max", "3600")
    first = world.monitor(CP, engine.port, central.port, *wait, name="first")
    world.until_status(CP, "ACTIVE")
    second = world.monitor(CP, engine.port, central.port, *wait, name="second")
    eventually(lambda: len(logged(first, "disconnected")) == 2, "the first one is replaced at both ends")
    eventually(lambda: "Central connected for" in answer(second, "status"), "the second one has taken over")
    assert "Engine connected for" in answer(second, "status")
    said = answer(first, "status")
    assert "Central not connected, attempt 1" in said
    assert "Engine not connected, attempt 1" in said
    world.until_status(CP, "ACTIVE")


# The manual plug


def test_a_charge_waits_for_its_vehicle_and_charges_when_it_comes(world: World) -> None:
    _, engine, monitor = at_work(world, "--manual-plug", "--time-scale", "600")
    world.ask("ana", "charge", CP, "--energy", "2")
    session = world.until_session("charging")
    assert session["energy_wh"] == 0
    eventually(lambda: "ana: waits for a vehicle" in answer(monitor, "status"), "the Monitor shows that it waits")
    engine.say("plug 60 20")
    done = world.until_session("completed", 2000)
    assert (done["energy_wh"], done["end_reason"]) == (2000, "target_reached")
    # The vehicle has stayed: the next charge begins at once.
    world.ask("ana", "charge", CP, "--energy", "1")
    eventually(lambda: world.session()["number"] != done["number"], "there is another session")  # type: ignore[index]
    done = world.until_session("completed", 1000)
    assert done["end_reason"] == "target_reached"
    engine.say("unplug")
    world.ask("ana", "charge", CP, "--energy", "1")
    world.until_session("charging")
    engine.say("stop")
    assert world.until_session("completed")["end_reason"] == "stopped"


def test_a_charge_for_which_nobody_plugs_in_fails_with_nothing_to_pay(world: World) -> None:
    _, engine, _ = at_work(world, "--manual-plug", "--plug-timeout", "1")
    driver = world.driver("ana", "charge", CP, "--energy", "2", "--wait", "--json")
    session = world.until_session("failed")
    assert (session["energy_wh"], session["end_reason"]) == (0, "no_vehicle")
    assert driver.wait() == 1
    assert '"no_vehicle"' in driver.output
    world.until_status(CP, "ACTIVE")
    eventually(lambda: not list(world.folder.glob("journal/*/*.jsonl")), "the receipt has settled the journal")
    assert "healthy" in answer(engine, "status")


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_an_engine_that_ends_while_it_waits_settles_over_nothing(world: World, end: str) -> None:
    _, engine, _ = at_work(world, "--manual-plug")
    world.ask("ana", "charge", CP)
    world.until_session("charging")
    port = engine.port
    eventually(lambda: list(world.folder.glob("journal/*/*.jsonl")), "the journal has the session")
    getattr(engine.process, end)()
    engine.wait()
    world.engine("--manual-plug", name="engine2", port=port)
    session = world.until_session("interrupted")
    assert (session["energy_wh"], session["end_reason"]) == (0, "engine_restarted")
    world.until_status(CP, "ACTIVE")

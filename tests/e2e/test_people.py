"""Who may do what, and how far: what is removed, ceilings, limits, and charges that are confirmed."""

import hmac
import json
from typing import Any

import pytest
from harness import World, eventually
from raw_charge_point import RawChargePoint


def run(world: World, *arguments: str, code: int = 0) -> str:
    """A command on the database, beside the Central that runs: what it prints."""
    program = world.start(f"command-{len(world.programs)}", *arguments, "--db", "evcharge.db")
    assert program.wait() == code, program.log
    return program.output.strip() if code == 0 else program.log


def a_driver(world: World, driver_id: str, key: str, *arguments: str, code: int = 0) -> Any:
    """As `World.ask`, signed."""
    program = world.start(
        f"driver-{len(world.programs)}",
        *("driver", driver_id, *arguments, "--kafka", world.kafka, "--json"),
        env={"EVCHARGE_KEY": key},
    )
    assert program.wait(60) == code, program.log
    return json.loads(program.output) if program.output else program.log


def test_a_driver_who_is_removed_in_mid_charge_can_stop_and_look_back(world: World) -> None:
    central = world.central(open_registration=False)
    cp_key, key = run(world, "cp", "add", "CP001"), run(world, "drivers", "add", "ana")
    with RawChargePoint("CP001", central.port, cp_key) as cp:
        cp.be_ready()
        charge = cp.begin("ana")
        run(world, "drivers", "remove", "ana")
        assert a_driver(world, "ana", key, "status")["session_id"] == charge["session_id"]
        stop = world.start("stop", "driver", "ana", "stop", "--kafka", world.kafka, env={"EVCHARGE_KEY": key})
        cp.answer(cp.hear("stop_charging_command"))
        assert cp.complete(charge, 300)["energy_wh"] == 300
        assert stop.wait() == 0
        assert [past["energy_wh"] for past in a_driver(world, "ana", key, "history")] == [300]
        assert "unknown_driver" in a_driver(world, "ana", key, "charge", "CP001", code=1)


def test_a_charge_point_that_is_removed_on_the_command_line_ends_its_charge_and_goes(world: World) -> None:
    central = world.central(open_registration=False)
    maria = world.operator(central)
    key = run(world, "cp", "add", "CP001")
    run(world, "drivers", "add", "ana")
    eventually(lambda: maria.get("/v1/charge-points/CP001").status_code == 200, "an added one is listed")
    with RawChargePoint("CP001", central.port, key) as cp:
        cp.be_ready()
        charge = cp.begin("ana")
        run(world, "cp", "remove", "CP001")
        shown = eventually(
            lambda: (found := maria.get("/v1/charge-points/CP001").json())["removed"] and found, "it is marked"
        )
        assert shown["session"]["session_id"] == charge["session_id"]
        assert maria.get("/v1/totals").json()["open_sessions"] == 1
        assert "evcharge_sessions_open 1.0" in maria.get("/metrics").text
        assert cp.complete(charge, 300)["energy_wh"] == 300
        assert cp.hear("error_response")["code"] == "authentication_failed"
    assert maria.get("/v1/charge-points/CP001").status_code == 404
    with RawChargePoint("CP001", central.port, key) as cp:
        assert not cp.hear("auth_response")["accepted"]


def test_an_idle_charge_point_that_is_removed_on_the_command_line_is_put_out_at_once(world: World) -> None:
    central = world.central(open_registration=False)
    key = run(world, "cp", "add", "CP001")
    with RawChargePoint("CP001", central.port, key) as cp:
        cp.be_ready()
        run(world, "cp", "remove", "CP001")
        assert cp.hear("error_response")["reason"] == "CP001 has been removed"


def test_what_one_key_registers_above_the_ceiling_is_refused_until_an_operator_allows_it(world: World) -> None:
    central = world.central(open_registration=False)
    maria = world.operator(central)
    key = run(world, "cp", "add", "CP001", "--max-price", "0.60", "--currency", "EUR", "--max-power", "22")
    run(world, "drivers", "add", "ana")
    with RawChargePoint("CP001", central.port, key) as cp:
        answer = cp.register(price_per_kwh="1000", max_power_w=100_000_000)
        assert (answer["accepted"], answer["code"]) == (False, "above_ceiling")
        assert "1000 EUR/kWh" in answer["reason"]
        cp.say("charge_request", driver_id="ana")
        assert cp.hear("charge_request_response")["code"] == "not_registered"
        assert cp.register(price_per_kwh="0.60")["accepted"]
        assert maria.put("/v1/charge-points/CP001/ceilings", json={"max_power_w": 11_000}).json() == {
            "changed_cp_ids": ["CP001"]
        }
        assert cp.hear("error_response")["code"] == "above_ceiling"
    monitor_arguments = ("--price", "0.90", "--key", key)
    engine = world.engine()
    monitor = world.monitor("CP001", engine.port, central.port, *monitor_arguments)
    eventually(lambda: "the ceiling is 0.60 EUR/kWh" in monitor.log, "the Monitor says why")
    run(world, "cp", "set", "CP001", "--max-price", "0.90", "--max-power", "default")
    world.until_status("CP001", "ACTIVE")
    assert monitor.log.count("central_refuses_charge_point") == 1
    shown = maria.get("/v1/charge-points/CP001").json()
    assert shown["ceilings"] == {"max_price_per_kwh": "0.90", "currency": "EUR", "max_power_w": None}


def test_the_limits_of_a_session_are_its_target_and_its_end(world: World) -> None:
    central = world.central("--max-session-energy", "50", "--max-session-hours", "0.0005", open_registration=False)
    cp_key = run(world, "cp", "add", "CP001")
    key = run(world, "drivers", "add", "ana", "--max-cost", "3")
    with RawChargePoint("CP001", central.port, cp_key) as cp:
        cp.be_ready()
        assert a_driver(world, "ana", key, "charge", "CP001")["target_energy_wh"] == 10_000
        command = cp.hear("start_charging_command")
        assert command["energy_wh"] == 10_000
        cp.answer(command)
        assert cp.hear("stop_charging_command")["session_id"] == command["session_id"]
        eventually(lambda: "session_hours_over" in central.log, "the log says why")


def test_no_charge_point_charges_in_the_name_of_a_driver_who_confirms_each_charge(world: World) -> None:
    central = world.central(open_registration=False)
    cp_key, key = run(world, "cp", "add", "CP001"), run(world, "drivers", "add", "ana", "--signed-only")
    with RawChargePoint("CP001", central.port, cp_key) as cp:
        cp.be_ready()
        cp.say("charge_request", driver_id="ana")
        assert cp.hear("charge_request_response")["code"] == "not_confirmed"
        message_id = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
        text = f"CP001\n{message_id}".encode()
        confirmation = hmac.new(key.encode(), text, "sha256").hexdigest()
        charge = cp.begin("ana", message_id=message_id, confirmation=confirmation)
        assert cp.complete(charge, 300)["energy_wh"] == 300


def test_a_used_message_id_is_of_no_use_to_another_driver_at_the_same_charge_point(world: World) -> None:
    central = world.central()
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        request = cp.say("charge_request", driver_id="ana")
        assert cp.hear("charge_request_response")["accepted"]
        cp.say("charge_request", driver_id="bob", message_id=request["message_id"])
        answer = cp.hear("charge_request_response")
        assert (answer["code"], answer["session_id"]) == ("not_yours", None)


@pytest.mark.parametrize("path", ["/v1/charge-points", "/v1/drivers"])
def test_ceilings_and_limits_come_with_what_is_added_over_http(world: World, path: str) -> None:
    maria = world.operator(world.central(open_registration=False))
    if path == "/v1/drivers":
        order = {
            "driver_id": "ana",
            "max_energy_wh": 40_000,
            "max_cost": "30",
            "max_hours": 12,
            "signed_only": True,
        }
        assert maria.post(path, json=order).status_code == 201
        (ana,) = maria.get(path).json()["drivers"]
        assert {name: ana[name] for name in order} == order
        changed = maria.put("/v1/drivers/ana/limits", json={"max_energy_wh": None, "signed_only": False})
        assert (changed.json()["max_energy_wh"], changed.json()["max_cost"]) == (None, "30")
        assert maria.put("/v1/drivers/bob/limits", json={}).status_code == 404
    else:
        order = {"cp_id": "CP001", "max_price_per_kwh": "0.60", "currency": "EUR", "max_power_w": 22_000}
        assert maria.post(path, json=order).status_code == 201
        expected = {name: value for name, value in order.items() if name != "cp_id"}
        assert maria.get("/v1/charge-points/CP001").json()["ceilings"] == expected
        assert maria.put("/v1/network/ceilings", json={"max_power_w": None}).json() == {
            "changed_cp_ids": ["CP001"]
        }
        eventually(
            lambda: maria.get("/v1/charge-points/CP001").json()["ceilings"]["max_power_w"] is None, "it is changed"
        )

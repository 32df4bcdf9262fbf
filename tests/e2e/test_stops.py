"""A stop that the charge point refuses, seen by all who wait for it."""

from harness import World, eventually
from raw_charge_point import RawChargePoint


def test_a_refused_stop_is_told_to_driver_operator_and_log(world: World) -> None:
    central = world.central()
    maria = world.operator(central)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("ana")
        console = world.driver("ana")
        console.saw("charging")
        stop = world.driver("ana", "stop")
        cp.answer(cp.hear("stop_charging_command"), "charge_point_faulty")
        assert stop.wait() == 1
        assert "CP001 does not stop: (charge_point_faulty)" in stop.output
        console.saw("CP001 does not stop: (charge_point_faulty)")
        assert "stop_refused" in central.log
        session = maria.get(f"/v1/sessions/{charge['session_id']}").json()
        assert session["stop_refused"] == "(charge_point_faulty)"
        assert maria.get("/v1/charge-points/CP001").json()["session"]["stop_refused"] == "(charge_point_faulty)"
        central.say(f"session {charge['session_id']}")
        central.saw("stop refused")
        assert cp.complete(charge, 300)["energy_wh"] == 300


def test_a_stop_that_is_obeyed_says_so_with_its_receipt(world: World) -> None:
    central = world.central()
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("ana")
        eventually(lambda: world.ask("ana", "status"), "the charge is there")
        stop = world.driver("ana", "stop")
        cp.answer(cp.hear("stop_charging_command"))
        cp.complete(charge, 300)
        assert stop.wait() == 0
        assert "stopping at CP001" in stop.output
        assert "0.300 kWh" in stop.output

"""What cannot be billed without a person: seen at each door, settled by an operator, told to the driver."""

from typing import Any
from uuid import uuid4

from harness import World, eventually
from raw_charge_point import RawChargePoint
from test_admin_console import from_elsewhere
from test_kafka import completion, publish
from test_operators import ok, problem

AS_IN_LIFE = ("--time-scale", "1")


def read_meter(cp: RawChargePoint, charge: dict[str, Any], *energies_wh: int) -> None:
    for seq, energy_wh in enumerate(energies_wh):
        cp.say("charging_data", **charge, seq=seq, energy_wh=energy_wh, power_w=11_000)


def test_one_wrong_reading_does_not_outlive_the_meter_s_last_word(world: World) -> None:
    central = world.central(*AS_IN_LIFE)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("bo")
        read_meter(cp, charge, 0, 100, 24_000, 103)
        assert cp.hear("error_response")["code"] == "implausible_meter"
        receipt = cp.complete(charge, 200, seq=4)
    assert (receipt["energy_wh"], receipt["cost"], receipt["status"]) == (200, "0.06", "completed")
    assert ok(world.operator(central).get("/v1/to-settle"))["to_settle"] == []


def test_a_claim_beyond_belief_waits_with_its_evidence_until_an_operator_bills_it(world: World) -> None:
    central = world.central(*AS_IN_LIFE)
    maria = world.operator(central)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("bo")
        read_meter(cp, charge, 500)
        told = cp.complete(charge, 40_000, seq=2)
        assert (told["energy_wh"], told["in_reply_to"]) == (500, None), "that it is closed, over what was believed"
        refusal = cp.hear("error_response")
        assert refusal["code"] == "implausible_meter"
        (past,) = world.ask("bo", "history")
        assert (past["energy_wh"], past["status"], past["revision"]) == (500, "interrupted", 1)

        (claim,) = ok(maria.get("/v1/to-settle"))["to_settle"]
        assert (claim["kind"], claim["energy_wh"], claim["cp_id"]) == ("implausible_completion", 40_000, "CP001")
        assert claim["session_id"] == charge["session_id"]
        assert claim["evidence"]["message_id"] == refusal["in_reply_to"]
        assert "implausible" not in claim["reason"]
        (waiting,) = ok(maria.get("/v1/totals"))["to_settle"]
        assert (waiting["kind"], waiting["count"]) == ("implausible_completion", 1)
        metrics = maria.get("/metrics").text
        assert 'evcharge_to_settle{kind="implausible_completion"} 1.0' in metrics
        assert "evcharge_to_settle_oldest_seconds" in metrics
        central.say("to-settle")
        central.saw("implausible_completion")

        number = claim["number"]
        path = f"/v1/to-settle/{number}"
        for order in ({"energy_wh": 30_000}, {"energy_wh": True, "remark": "x"}, {"energy_wh": 1, "remark": " "}):
            assert problem(maria.post(path, json=order), 400) == "invalid_field"
        assert (
            problem(maria.post("/v1/to-settle/77", json={"energy_wh": "all", "remark": "x"}), 404) == "not_there"
        )
        viewer = world.http(central, world.token("vera", "viewer"))
        order = {"energy_wh": 30_000, "remark": "read on site"}
        assert problem(viewer.post(path, json=order), 403) == "not_allowed"
        settled = ok(maria.post(path, json=order))
        assert (settled["settled_by"], settled["billed_wh"], settled["remark"]) == (
            "maria",
            30_000,
            "read on site",
        )
        told = cp.hear("charge_completion_response")
        assert (told["energy_wh"], told["revision"], told["in_reply_to"]) == (30_000, 2, None)
    (past,) = world.ask("bo", "history")
    assert (past["energy_wh"], past["cost"], past["revision"]) == (30_000, "9.00", 2)
    assert problem(maria.post(path, json=order), 409) == "already_there"
    assert ok(maria.get("/v1/to-settle"))["to_settle"] == []
    assert [row["number"] for row in ok(maria.get("/v1/to-settle?settled=true"))["to_settle"]] == [number]
    entry = ok(maria.get("/v1/audit"))["audit"][0]
    assert (entry["action"], entry["target"], entry["actor"]) == ("settle", charge["session_id"], "maria")
    assert (entry["before"]["energy_wh"], entry["after"]["energy_wh"]) == (500, 30_000)
    assert entry["after"]["remark"] == "read on site"


def test_a_settled_bill_is_not_raised_over_kafka_and_is_corrected_by_an_operator_alone(world: World) -> None:
    central = world.central(*AS_IN_LIFE)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("bo")
        receipt = cp.complete(charge, 200)
        for energy_wh in (1_000, 2_000, 211_000_000):
            publish(
                world.kafka,
                "charging_session_complete",
                completion(**charge, energy_wh=energy_wh, end_reason="fault"),
                "CP001",
            )
            again = cp.hear("charge_completion_response")
            assert (again["energy_wh"], again["message_id"]) == (200, receipt["message_id"])
    listed = from_elsewhere(world, "to-settle", name="listed")
    assert listed.wait() == 0, listed.log
    assert "second_completion" in listed.output
    assert "211000.000" in listed.output
    session_id = charge["session_id"]
    for words, answer in (
        (["settle", session_id, "0.15", "agreed", "with", "bo"], f"settled: session {session_id} over 0.150 kWh"),
        (["to-settle"], "nothing waits to be settled"),
        (["to-settle", "settled"], "agreed with bo"),
        (["to-settle", "1"], "211000000"),
    ):
        told = from_elsewhere(world, *words, name=f"told-{len(world.programs)}")
        assert told.wait() == 0, told.log
        assert answer in told.output
    for words in (["settle", "1", "all"], ["settle", "x", "all", "why"], ["settle", "1", "-5", "why"]):
        refused = from_elsewhere(world, *words, name=f"refused-{len(world.programs)}")
        assert refused.wait() == 2
        assert "Traceback" not in refused.log
    (past,) = world.ask("bo", "history")
    assert (past["energy_wh"], past["revision"], past["status"]) == (150, 2, "completed")


def test_a_completion_of_a_session_that_nobody_knows_can_be_billed(world: World) -> None:
    central = world.central(*AS_IN_LIFE)
    maria = world.operator(central)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        orphan = {"session_id": str(uuid4()), "driver_id": "bo"}
        assert cp.complete(orphan, 7_000)["code"] == "unknown_session"
        (claim,) = ok(maria.get("/v1/to-settle"))["to_settle"]
        assert (claim["kind"], claim["energy_wh"]) == ("orphan", 7_000)
        order = {"energy_wh": "all", "remark": "restored from yesterday's copy"}
        assert ok(maria.post(f"/v1/to-settle/{claim['number']}", json=order))["billed_wh"] == 7_000
    (past,) = world.ask("bo", "history")
    assert (past["session_id"], past["energy_wh"], past["cost"]) == (orphan["session_id"], 7_000, "2.10")


def test_a_session_whose_charge_point_is_gone_is_closed_and_settled_by_what_comes_later(world: World) -> None:
    central = world.central(*AS_IN_LIFE)
    maria = world.operator(central)
    with RawChargePoint("CP001", central.port) as cp:
        cp.be_ready()
        charge = cp.begin("bo")
        read_meter(cp, charge, 500)
        world.until_session("charging", least_wh=500)
    session_id = charge["session_id"]
    path = f"/v1/sessions/{session_id}/close"
    closed = ok(maria.post(path))
    assert (closed["status"], closed["end_reason"], closed["energy_wh"]) == (
        "interrupted",
        "closed_by_operator",
        500,
    )
    assert problem(maria.post(path), 409) == "no_open_session"
    assert ok(maria.get("/v1/audit"))["audit"][0]["action"] == "close"
    with RawChargePoint("CP002", central.port) as other, RawChargePoint("CP001", central.port) as cp:
        other.be_ready()
        begun = other.begin("bo")  # The driver is free.
        cp.be_ready()
        cp.say("status_update", status="CHARGING", engine_connected=True, session_id=session_id)
        assert cp.hear("stop_charging_command")["session_id"] == session_id
        assert cp.complete(charge, 900, seq=9)["revision"] == 2
        gone = from_elsewhere(world, "close", "CP002")
        assert gone.wait() == 0, gone.log
        assert f"closed: session {begun['session_id']} of bo" in gone.output
        assert other.hear("stop_charging_command")["session_id"] == begun["session_id"]
    eventually(lambda: world.ask("bo", "history")[0]["end_reason"] == "closed_by_operator", "the driver is told")

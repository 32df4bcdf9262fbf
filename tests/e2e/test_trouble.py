"""What goes wrong in the night: killed programs, lost links, a broker that is away, peers that talk nonsense."""

import json
import os
import signal
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import Program, World, eventually
from test_charging import FAST, SLOW, Wire, charge_request

from kafka_broker import Broker, free_port

MEDIUM = ("--time-scale", "60", "--data-interval", "0.1")
"""At 11 kW a kWh takes about 5 s: long enough to break something in between."""


def metered_wh(engine: Program) -> int:
    """What the Engine's meter said at the end of its last charge."""
    completions = [line["message"] for line in engine.trace() if line["message"]["type"] == "charge_completion"]
    return int(completions[-1]["energy_wh"])


def receipts(world: World, session_id: str) -> list[dict[str, Any]]:
    """What Central has told the driver, from its traces, each message once."""
    found = {}
    for path in world.folder.glob("central*.trace"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            message = entry["message"]
            if (
                entry.get("topic") == "driver_responses"
                and entry["direction"] == "out"
                and message["type"] == "charge_completion_response"
                and message["session_id"] == session_id
            ):
                found[message["message_id"]] = message
    return list(found.values())


def test_central_killed_in_mid_charge_comes_back_and_bills_once(world: World) -> None:
    central = world.central()
    port = central.port
    engine, _ = world.charge_point("CP001", central, engine=MEDIUM)
    driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--json")
    before = world.until_session("charging", least_wh=50)
    central.kill()
    world.central(name="central2", port=port)
    assert world.status("CP001") in ("DISCONNECTED", "ACTIVE", "CHARGING")
    world.until_status("CP001", "CHARGING")
    assert driver.wait(60) == 0
    session = world.until_session("completed")
    assert session["session_id"] == before["session_id"]
    assert session["energy_wh"] == metered_wh(engine) == 1000
    (receipt,) = receipts(world, str(uuid.UUID(session["session_id"])))
    assert receipt["energy_wh"] == json.loads(driver.output)["energy_wh"] == 1000


def test_a_charge_that_ends_while_central_is_down_is_billed_when_it_is_back(world: World) -> None:
    central = world.central()
    port = central.port
    engine, _ = world.charge_point("CP001", central, engine=(*FAST, "--repeat-interval", "0.5"))
    assert world.ask("ana", "charge", "CP001", "--energy", "1")["accepted"] is True
    world.until_session("charging")
    central.kill()
    eventually(lambda: '"charge_ended"' in engine.log, "the charge has ended at the Engine")
    world.central(name="central2", port=port)
    assert world.until_session("completed")["energy_wh"] == 1000
    world.until_status("CP001", "ACTIVE")
    journal = world.folder / "journal" / "cp-CP001"
    eventually(lambda: not list(journal.glob("*.jsonl")), "the receipt has emptied the journal")


def test_monitor_killed_is_seen_at_once_and_the_charge_goes_on(world: World) -> None:
    central = world.central()
    engine, monitor = world.charge_point("CP001", central, engine=MEDIUM)
    driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--json")
    world.until_session("charging", least_wh=50)
    monitor.kill()
    world.until_status("CP001", "DISCONNECTED", deadline_s=1.0)
    energy_then = world.until_session("charging")["energy_wh"]
    world.until_session("charging", least_wh=energy_then + 30)  # by Kafka
    world.monitor("CP001", engine.port, central.port, name="monitor2")
    world.until_status("CP001", "CHARGING")
    assert driver.wait() == 0
    assert json.loads(driver.output)["energy_wh"] == metered_wh(engine) == 1000
    world.until_status("CP001", "ACTIVE")
    assert world.rows("SELECT 1 FROM faults WHERE code = 'connection_lost' AND cleared_at IS NOT NULL")


def test_engine_killed_in_mid_charge_settles_from_its_journal(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, engine=MEDIUM)
    driver = world.driver("ana", "charge", "CP001", "--wait", "--json")
    world.until_session("charging", least_wh=50)
    port = engine.port
    engine.kill()
    world.until_status("CP001", "FAULTY", deadline_s=1.0)
    journal = next((world.folder / "journal" / "cp-CP001").glob("*.jsonl"))
    last_reading = json.loads(journal.read_text().splitlines()[-1])
    engine2 = world.engine(*MEDIUM, name="engine2", port=port)
    driver.wait()
    receipt = json.loads(driver.output)
    assert (receipt["status"], receipt["end_reason"]) == ("interrupted", "engine_restarted")
    assert receipt["energy_wh"] == last_reading["energy_wh"] == metered_wh(engine2)
    world.until_status("CP001", "ACTIVE")
    assert world.ask("bo", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100


def test_engine_that_stays_away_is_closed_from_the_last_reading_and_settled_later(world: World) -> None:
    central = world.central()
    engine = world.engine(*MEDIUM)
    monitor = world.monitor(
        "CP001", engine.port, central.port, *("--health-interval", "0.3", "--health-timeout", "1")
    )
    world.until_status("CP001", "ACTIVE")
    driver = world.driver("ana", "charge", "CP001", "--wait", "--json")
    world.until_session("charging", least_wh=50)
    engine.signal(signal.SIGSTOP)
    world.until_status("CP001", "FAULTY", deadline_s=2.0)
    driver.wait()
    receipt = json.loads(driver.output)
    assert (receipt["status"], receipt["end_reason"]) == ("interrupted", "engine_lost")
    assert '"engine_silent"' in monitor.log
    # It was asleep, not dead: it wakes, learns that the session is closed, and its last word is billed.
    engine.signal(signal.SIGCONT)
    eventually(lambda: '"charge_ended"' in engine.log, "the Engine stops the charge that Central has closed")
    eventually(lambda: (world.session() or {"revision": 0})["revision"] == 2, "the bill has been corrected")
    session = world.session()
    assert session is not None
    assert session["energy_wh"] == metered_wh(engine)
    assert session["energy_wh"] >= receipt["energy_wh"]
    world.until_status("CP001", "ACTIVE")


def test_a_silent_monitor_is_given_up_within_its_time(world: World) -> None:
    central = world.central("--heartbeat-timeout", "1")
    _, monitor = world.charge_point("CP001", central, "--heartbeat-interval", "0.3")
    monitor.signal(signal.SIGSTOP)
    world.until_status("CP001", "DISCONNECTED", deadline_s=2.0)
    monitor.signal(signal.SIGCONT)
    world.until_status("CP001", "ACTIVE")


def waits_s(*monitors: Program) -> list[int]:
    """How long these Monitors stayed away because another had taken their place."""
    lines = [json.loads(line) for monitor in monitors for line in monitor.log.splitlines()]
    return [line["wait_s"] for line in lines if line["event"] == "gives_way"]


def test_two_monitors_on_one_engine_disturb_no_charge_and_one_prevails(world: World) -> None:
    central = world.central()
    often = ("--reconnect-max", "2")
    engine, first = world.charge_point("CP001", central, *often, engine=MEDIUM)
    driver = world.driver("ana", "charge", "CP001", "--energy", "5", "--wait", "--json")
    world.until_session("charging", least_wh=50)
    second = world.monitor("CP001", engine.port, central.port, *often, name="second")
    eventually(lambda: max(waits_s(first, second), default=0) >= 8, "one of them stays away longer and longer")
    # The other has both links, and the charge that has been running all the time.
    world.until_status("CP001", "CHARGING", deadline_s=8)
    assert driver.wait() == 0
    receipt = json.loads(driver.output)
    assert (receipt["energy_wh"], receipt["status"]) == (metered_wh(engine), "completed")
    assert receipt["energy_wh"] == 5000
    assert len(receipts(world, str(uuid.UUID(receipt["session_id"])))) == 1


def test_of_two_monitors_with_one_id_at_central_one_prevails(world: World) -> None:
    central = world.central()
    often = ("--reconnect-max", "2")
    _, first = world.charge_point("CP001", central, *often)
    other_engine = world.engine("--journal", "other", name="other_engine")
    second = world.monitor("CP001", other_engine.port, central.port, *often, name="second")
    eventually(lambda: max(waits_s(first, second), default=0) >= 8, "one of them stays away longer and longer")
    world.until_status("CP001", "ACTIVE", deadline_s=8)


def test_on_central_loss_stop(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, "--on-central-loss", "stop", engine=SLOW)
    world.ask("ana", "charge", "CP001")
    world.until_session("charging")
    port = central.port
    central.kill()
    eventually(lambda: '"central_lost"' in engine.log, "the Engine has stopped the charge")
    world.central(name="central2", port=port)
    assert world.until_session("interrupted")["end_reason"] == "central_lost"


def test_a_stop_reaches_a_charge_point_that_was_offline(world: World) -> None:
    central = world.central()
    engine, monitor = world.charge_point("CP001", central, engine=SLOW)
    world.ask("ana", "charge", "CP001")
    world.until_session("charging")
    monitor.kill()
    world.until_status("CP001", "DISCONNECTED")
    answer = world.ask("ana", "stop")
    assert answer["accepted"] is True
    assert "offline" in answer["reason"]
    world.monitor("CP001", engine.port, central.port, name="monitor2")
    assert world.until_session("completed")["end_reason"] == "stopped"


def test_broker_killed_in_mid_charge(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()
    world = World(tmp_path, broker.bootstrap)
    try:
        central = world.central()
        engine, _ = world.charge_point("CP001", central, engine=MEDIUM)
        driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--json")
        world.until_session("charging", least_wh=50)
        broker.kill()
        # The Monitor's way is enough to finish and to bill.
        assert world.until_session("completed")["energy_wh"] == metered_wh(engine) == 1000
        world.until_status("CP001", "ACTIVE")
        broker.start()
        assert driver.wait(60) == 0
        assert json.loads(driver.output)["energy_wh"] == 1000
        eventually(
            lambda: world.rows("SELECT 1 FROM sessions WHERE receipt_sent = revision"), "the receipt has been sent"
        )
    finally:
        world.stop()
        broker.stop()


def test_nonsense_on_the_socket_harms_nobody_else(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    with socket.create_connection(("127.0.0.1", central.port)) as peer:
        lines = peer.makefile("rb")

        def answer_to(data: bytes) -> dict[str, Any]:
            peer.sendall(data)
            answer: dict[str, Any] = json.loads(lines.readline())
            return answer

        message_id = str(uuid.uuid4())
        envelope = {"message_id": message_id, "timestamp": datetime.now(UTC).isoformat()}
        unknown = json.dumps(envelope | {"type": "tea_request"}).encode()
        early = json.dumps(envelope | {"type": "heartbeat_request", "cp_id": "CP001"}).encode()
        odd = json.dumps(envelope | {"type": "auth_request", "cp_id": "CP 001\x1b[2J"}).encode()
        assert answer_to(b"\x00\xff\x1b[31mgarbage\r\n")["code"] == "bad_json"
        assert answer_to(b"[1, 2]\n")["code"] == "bad_json"
        error = answer_to(unknown + b"\n")
        assert (error["code"], error["in_reply_to"]) == ("unknown_type", message_id)
        error = answer_to(odd + b"\n")
        assert (error["code"], error["in_reply_to"]) == ("invalid_field", message_id)
        assert answer_to(early + b"\n")["code"] == "not_authenticated"
        assert answer_to(b"x" * 1_000_000 + b"\n")["code"] == "line_too_long"
        assert lines.readline() == b""
    warnings = [line for line in central.log.splitlines() if '"bad_message"' in line]
    assert len(warnings) == 4  # once for each peer and code
    assert "\x1b" not in central.log
    assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100


def test_nonsense_on_a_topic_harms_nobody_else(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    wire = Wire(world.kafka)
    for topic in ("driver_charge_requests", "charging_session_data"):
        wire.send(topic, "CP001", b"\xff no json")
    bad = charge_request("ana", "CP001") | {"energy_wh": "lots"}
    wire.send("driver_charge_requests", "CP001", bad)
    assert wire.answer_to(bad)["code"] == "invalid_field"
    stray = charge_request("ana", "CP001")
    wire.send("driver_cps_requests", "ana", stray)
    answer = wire.answer_to(stray)
    assert (answer["accepted"], answer["code"]) == (False, "unexpected_type")
    assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100
    assert central.log.count('"bad_record"') == 4
    central.signal(signal.SIGTERM)
    central.wait()
    assert '"bad_json": 2' in central.log


def test_keys_keep_strangers_out(world: World) -> None:
    add = world.start("add", "cp", "add", "CP001", "--db", "evcharge.db")
    assert add.wait() == 0
    key = add.output.strip()
    add_driver = world.start("add-driver", "drivers", "add", "ana", "--db", "evcharge.db")
    assert add_driver.wait() == 0
    drivers_key = add_driver.output.strip()
    central = world.central(open_registration=False)
    engine = world.engine(*FAST)
    wrong = world.monitor("CP001", engine.port, central.port, "--key", "wrong", name="wrong")
    refusal = "there is no charge point CP001, or its key is another"
    eventually(lambda: refusal in wrong.log, "the wrong key is refused with a sentence")
    assert wrong.process.poll() is None  # It goes on trying: the operator may mend it at the other end.
    wrong.kill()
    assert world.status("CP001") == "DISCONNECTED"
    world.monitor("CP001", engine.port, central.port, "--key", key, name="right")
    world.until_status("CP001", "ACTIVE")
    assert "there is no driver bo" in world.ask("bo", "charge", "CP001", code=1)
    charge = ("charge", "CP001", "--energy", "0.1", "--wait")
    assert world.ask("ana", *charge, "--key", drivers_key)["energy_wh"] == 100
    assert key not in "".join(path.read_text() for path in world.folder.glob("*.trace"))


def test_programs_wait_for_each_other_and_say_for_whom(tmp_path: Path) -> None:
    """Everything is started in the wrong order, the broker last."""
    port = free_port()
    world = World(tmp_path, f"127.0.0.1:{port}")
    broker = Broker(tmp_path / "kafka", port)
    central_port = free_port()
    try:
        monitor = world.monitor("CP001", free_port(), central_port)
        eventually(lambda: '"waiting_for_peer"' in monitor.log, "the Monitor says for whom it waits")
        driver = world.driver("ana", "list", "--all", "--json", "--timeout", "40", "--log-level", "info")
        central = world.start(
            "central",
            *("central", "--host", "127.0.0.1", "--port", str(central_port), "--kafka", world.kafka),
            "--open-registration",
        )
        for program in (central, driver):
            eventually(lambda program=program: '"waiting_for_kafka"' in program.log, "it says that it waits")  # type: ignore[misc]
        # Without Kafka, Central serves the charge points all the same.
        world.until_status("CP001", "FAULTY")
        broker.start()
        assert driver.wait(60) == 0
        assert json.loads(driver.output)[0]["status"] == "FAULTY"  # Its Engine is not there.
    finally:
        world.stop()
        broker.stop()


def test_what_cannot_work_is_one_sentence_and_an_exit_code(world: World) -> None:
    central = world.central()
    here = ("central", "--kafka", world.kafka)
    taken = world.start("taken", *here, "--port", str(central.port), "--db", "other.db")
    assert taken.wait() == 3
    assert "cannot listen on 0.0.0.0" in taken.log
    assert "Traceback" not in taken.log
    second = world.start("second", *here, "--port", "0", "--db", "evcharge.db")
    assert second.wait() == 3
    assert "another Central runs on evcharge.db" in second.log
    lost = world.start("lost", "driver", "ana", "list", "--kafka", f"127.0.0.1:{free_port()}", "--timeout", "1")
    assert lost.wait() == 1
    assert "is the broker running" in lost.log
    assert "Traceback" not in lost.log
    odd = world.start("odd", "driver", "a b", "list")
    assert odd.wait() == 2
    assert "'a b' is no id" in odd.log.replace("\n", " ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_program_ends_in_order_within_five_seconds(world: World, number: signal.Signals) -> None:
    central = world.central()
    engine, monitor = world.charge_point("CP001", central, engine=SLOW)
    driver = world.driver("ana", "charge", "CP001", "--wait")
    world.until_session("charging")
    for program in (driver, monitor, engine, central):
        begun_s = time.monotonic()
        program.signal(number)
        assert program.wait(5) == 128 + number, program.name
        assert time.monotonic() - begun_s < 5
        assert "Traceback" not in program.log, program.log


def test_every_program_ends_in_order_without_its_peers(world: World) -> None:
    nobody = free_port()
    away = f"127.0.0.1:{nobody}"
    programs = [
        world.start("central", "central", "--port", "0", "--kafka", away, "--db", "evcharge.db"),
        world.start("engine", "engine", "--kafka", away),
        world.start("monitor", "monitor", "CP001", "--engine", away, "--central", away),
        world.start("driver", "driver", "ana", "list", "--kafka", away),
    ]
    for program, sign in zip(programs, ("listening", "listening", "waiting", "waiting"), strict=True):
        eventually(lambda program=program, sign=sign: sign in program.log, f"{program.name} runs")  # type: ignore[misc]
    for program in programs:
        program.signal(signal.SIGTERM)
        assert program.wait(5) == 128 + signal.SIGTERM, program.name
        assert "Traceback" not in program.log, program.log


def test_an_option_comes_from_the_environment(world: World) -> None:
    central = world.start(
        "central",
        "central",
        env={"EVCHARGE_PORT": "0", "EVCHARGE_DB": "from-env.db", "EVCHARGE_KAFKA": world.kafka},
    )
    eventually(lambda: "central_listening" in central.log, "Central listens")
    assert (world.folder / "from-env.db").exists()
    assert os.path.getsize(world.folder / "from-env.db") > 0

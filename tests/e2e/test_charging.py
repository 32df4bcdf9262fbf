"""What drivers, charge points and Central do together when nothing is broken."""

import json
import signal
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from harness import World, eventually

FAST = ("--time-scale", "600", "--data-interval", "0.1")
"""At 11 kW a kWh takes about half a second."""
SLOW = ("--time-scale", "1", "--data-interval", "0.1")
"""A charge that goes on until somebody ends it."""


def test_a_charge_follows_the_sequence_diagram_of_the_seed(world: World) -> None:
    central = world.central()
    engine, monitor = world.charge_point("CP001", central, engine=FAST)
    driver = world.driver("ana", "charge", "CP001", "--energy", "1", "--wait", "--trace", "driver.trace")
    assert driver.wait() == 0

    traces = {
        "central": central.trace(),
        "monitor": monitor.trace(),
        "engine": engine.trace(),
        "driver": [json.loads(line) for line in (world.folder / "driver.trace").read_text().splitlines()],
    }

    def at(program: str, direction: str, message_type: str, where: str) -> str:
        """When this program first saw such a message on a topic or a socket."""
        times = [
            line["at"]
            for line in traces[program]
            if line["direction"] == direction
            and line["message"]["type"] == message_type
            and ("topic" in line) == (where != "socket")
            and line.get("topic", "socket") == where
        ]
        assert times, f"{program}: no {message_type} {direction} on {where}"
        return str(times[0])

    steps = [
        at("driver", "out", "charge_request", "driver_charge_requests"),
        at("central", "in", "charge_request", "driver_charge_requests"),
        at("central", "out", "start_charging_command", "socket"),
        at("monitor", "in", "start_charging_command", "socket"),
        at("monitor", "out", "start_charging_command", "socket"),
        at("engine", "in", "start_charging_command", "socket"),
        at("engine", "out", "charging_data", "charging_session_data"),
        at("central", "in", "charging_data", "charging_session_data"),
        at("engine", "out", "charge_completion", "charging_session_complete"),
        at("central", "in", "charge_completion", "charging_session_complete"),
        at("central", "out", "charge_completion_response", "driver_responses"),
        at("driver", "in", "charge_completion_response", "driver_responses"),
    ]
    # One clock: all on this machine. The second way, through the Monitor, may overtake Kafka's at Central.
    central_took_completion_by_kafka = 9
    del steps[central_took_completion_by_kafka]
    assert steps == sorted(steps)
    updates = [
        at("central", "in", "charge_request", "driver_charge_requests"),
        at("central", "out", "charging_status_update", "driver_responses"),
        at("driver", "in", "charging_status_update", "driver_responses"),
        at("driver", "in", "charge_completion_response", "driver_responses"),
    ]
    assert updates == sorted(updates)

    # Both ways, each counted once: the Monitor carried the same data and completion.
    assert at("central", "in", "charging_data", "socket")
    assert at("central", "in", "charge_completion", "socket")
    session = world.until_session("completed")
    assert (session["energy_wh"], session["cost"], session["end_reason"]) == (1000, "0.30", "target_reached")
    seqs = [row["seq"] for row in world.rows("SELECT seq FROM meter_values ORDER BY seq")]
    assert seqs[0] == 0
    assert seqs[-1] == session["last_seq"]
    eventually(
        lambda: world.rows("SELECT 1 FROM sessions WHERE receipt_sent = revision"), "the receipt is marked as sent"
    )
    world.until_status("CP001", "ACTIVE")


def test_a_driver_lists_follows_stops_and_looks_back(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, "--location", "Harbour", "--price", "0.42", engine=SLOW)
    (cp,) = world.ask("ana", "list")
    assert (cp["cp_id"], cp["location"], cp["status"], cp["price_per_kwh"]) == (
        "CP001",
        "Harbour",
        "ACTIVE",
        "0.42",
    )
    assert world.ask("ana", "status") is None

    assert world.ask("ana", "charge", "CP001")["accepted"] is True
    world.until_session("charging", least_wh=1)
    assert world.ask("ana", "list") == []
    assert world.ask("ana", "list", "--all")[0]["status"] == "CHARGING"
    assert world.ask("ana", "status")["cp_id"] == "CP001"
    assert "CP001 is taken by another charge" in world.ask("bo", "charge", "CP001", code=1)
    assert world.ask("ana", "stop")["accepted"] is True
    session = world.until_session("completed")
    assert session["end_reason"] == "stopped"
    (past,) = world.ask("ana", "history")
    assert past["energy_wh"] == session["energy_wh"]
    assert world.ask("bo", "history") == []
    assert "no charge running" in world.ask("ana", "stop", code=1)


def test_a_driver_asks_at_the_charge_point_itself(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, engine=FAST)
    engine.say("charge ana 0.5")
    engine.saw("accepted: session")
    session = world.until_session("completed")
    assert (session["driver_id"], session["energy_wh"]) == ("ana", 500)
    engine.say("unplug")
    engine.say("charge ana 0.5")
    eventually(lambda: world.until_session("failed"), "the start without a vehicle failed")
    failed = world.session()
    assert failed is not None
    assert failed["end_reason"] == "no_vehicle"
    world.until_status("CP001", "ACTIVE")


def test_a_driver_who_comes_back_learns_of_the_charge_that_runs(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    first = world.driver("ana")
    first.say("charge CP001")
    first.saw("accepted")
    world.until_session("charging", least_wh=1)
    first.kill()
    second = world.driver("ana")
    second.saw("still charging: CP001")
    second.say("stop")
    second.saw("CP001: completed (stopped)")
    second.say("quit")
    assert second.wait() == 0


def test_two_drivers_at_the_same_moment_get_one_charge_and_one_refusal(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    wire = Wire(world.kafka)
    requests = [charge_request(driver_id, "CP001") for driver_id in ("ana", "bo")]
    for request in requests:
        wire.send("driver_charge_requests", "CP001", request)
    answers = [wire.answer_to(request) for request in requests]
    assert sorted(answer["accepted"] for answer in answers) == [False, True]
    (refusal,) = (answer for answer in answers if not answer["accepted"])
    assert refusal["code"] == "charge_point_busy"
    assert refusal["reason"] == "CP001 is taken by another charge"
    assert len(world.rows("SELECT 1 FROM sessions")) == 1


def test_a_repeated_request_gets_the_same_answer_and_starts_nothing_twice(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    wire = Wire(world.kafka)
    request = charge_request("ana", "CP001")
    wire.send("driver_charge_requests", "CP001", request)
    first = wire.answer_to(request)
    wire.send("driver_charge_requests", "CP001", request)
    assert wire.answer_to(request) == first

    # The answer is on disk: it outlives Central.
    central.signal(signal.SIGTERM)
    assert central.wait() == 128 + signal.SIGTERM
    world.central(name="central2")
    wire.send("driver_charge_requests", "CP001", request)
    assert wire.answer_to(request) == first
    assert len(world.rows("SELECT 1 FROM sessions")) == 1


def test_a_file_of_charge_points_is_charged_one_after_the_other(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    world.charge_point("CP002", central, engine=FAST)
    (world.folder / "wishes").write_text("# where and how much\nCP001 0.25\nCP404\nCP002 0.5 # then home\n")
    results = world.ask("ana", "--file", "wishes", code=1)
    assert [result.get("energy_wh", result.get("code")) for result in results] == [
        250,
        "unknown_charge_point",
        500,
    ]


def test_an_unanswered_start_fails_and_frees_the_charge_point(world: World) -> None:
    central = world.central("--start-timeout", "0.5")
    engine, _ = world.charge_point("CP001", central, engine=FAST)
    engine.signal(signal.SIGSTOP)
    receipt = world.ask("ana", "charge", "CP001", "--energy", "0.2", "--wait", code=1)
    assert (receipt["status"], receipt["end_reason"], receipt["energy_wh"]) == ("failed", "start_timeout", 0)
    world.until_status("CP001", "ACTIVE")
    engine.signal(signal.SIGCONT)
    # It starts late, is told to stop, and what it has delivered by then is billed all the same.
    eventually(lambda: (world.folder / "journal" / "cp-CP001").exists(), "the journal is there")
    eventually(
        lambda: (
            not list((world.folder / "journal" / "cp-CP001").glob("*.jsonl")) and '"charge_ended"' in engine.log
        ),
        "the late charge has its receipt",
    )
    session = world.session()
    assert session is not None
    meter_wh = [
        line["message"]["energy_wh"] for line in engine.trace() if line["message"]["type"] == "charge_completion"
    ]
    assert session["energy_wh"] == meter_wh[0]


@pytest.mark.parametrize(
    ("engine", "typed", "status", "reason"),
    [
        (("--time-scale", "600", "--battery", "1", "--soc", "60"), "status", "completed", "battery_full"),
        (SLOW, "unplug", "completed", "unplugged"),
        (SLOW, "stop", "completed", "stopped"),
        (SLOW, "fault overheated too hot", "interrupted", "fault"),
    ],
)
def test_a_charge_says_what_ended_it(
    world: World, engine: tuple[str, ...], typed: str, status: str, reason: str
) -> None:
    central = world.central()
    engine_program, _ = world.charge_point("CP001", central, engine=engine)
    driver = world.driver("ana", "charge", "CP001", "--wait", "--json")
    world.until_session("charging" if engine == SLOW else status, least_wh=1)
    engine_program.say(typed)
    driver.wait()
    receipt = json.loads(driver.output)
    assert (receipt["status"], receipt["end_reason"]) == (status, reason)
    if typed.startswith("fault"):
        world.until_status("CP001", "FAULTY")
        (fault,) = world.rows("SELECT * FROM faults WHERE code = 'overheated'")
        assert fault["description"] == "too hot"
        assert "is faulty" in world.ask("ana", "charge", "CP001", code=1)
        engine_program.say("repair")
        world.until_status("CP001", "ACTIVE")
        assert world.rows("SELECT 1 FROM faults WHERE code = 'overheated' AND cleared_at IS NOT NULL")


def test_a_fleet_lives_in_one_process(world: World) -> None:
    central = world.central()
    fleet = world.start(
        "fleet",
        *("fleet", "--count", "40", "--central", f"127.0.0.1:{central.port}", "--kafka", world.kafka),
        *("--time-scale", "600"),
    )
    eventually(
        lambda: len(world.rows("SELECT 1 FROM charge_points WHERE status = 'ACTIVE'")) == 40, "all are active"
    )
    drivers = [
        world.driver(f"driver{n}", "charge", f"CP{n:03d}", "--energy", "0.3", "--wait", "--json")
        for n in (1, 20, 40)
    ]
    for driver in drivers:
        assert driver.wait() == 0
        assert json.loads(driver.output)["energy_wh"] == 300
    fleet.signal(signal.SIGTERM)
    assert fleet.wait(5) == 128 + signal.SIGTERM
    eventually(
        lambda: len(world.rows("SELECT 1 FROM charge_points WHERE status = 'DISCONNECTED'")) == 40, "all are gone"
    )


def charge_request(driver_id: str, cp_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "charge_request",
        "message_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).isoformat(),
        "driver_id": driver_id,
        "cp_id": cp_id,
    } | fields


class Wire:
    """A driver of nothing but Kafka."""

    def __init__(self, kafka: str) -> None:
        self._producer = Producer({"bootstrap.servers": kafka})
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": "wire"})
        partitions = (
            self._consumer.list_topics("driver_responses", timeout=10).topics["driver_responses"].partitions
        )
        ends = []
        for partition in partitions:
            here = TopicPartition("driver_responses", partition)
            _, end = self._consumer.get_watermark_offsets(here, timeout=10)
            ends.append(TopicPartition("driver_responses", partition, end))
        self._consumer.assign(ends)
        self._heard: list[dict[str, Any]] = []

    def send(self, topic: str, key: str, message: dict[str, Any] | bytes) -> None:
        value = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._producer.produce(topic, value, key)
        assert self._producer.flush(10) == 0

    def answer_to(self, request: dict[str, Any]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            # Partitions are read in any order: what answers another request is kept for whoever asks for it.
            record = self._consumer.poll(0.1)
            if record is not None and record.error() is None:
                self._heard.append(json.loads(record.value() or b""))
            for message in self._heard:
                if message.get("in_reply_to") == request["message_id"]:
                    self._heard.remove(message)
                    return message
            return None

        return eventually(look, f"an answer to {request}")

"""Kafka when it goes wrong: records that nobody can take, topics that are lost, a broker that asks who one is."""

import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from certificates import Authority
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewPartitions
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from harness import Program, World, eventually

from evcharge.protocol.topics import FROM_DRIVERS, Topic
from kafka_broker import Broker, Guarded, free_port

FAST = ("--time-scale", "600")
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """Whose topics may be deleted."""
    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def own_world(own_broker: Broker, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, own_broker.bootstrap)
    yield world
    world.stop()


def publish(kafka: str, topic: str, value: bytes, key: str | None = None, partition: int = -1) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, value=value, key=key, partition=partition)
    assert producer.flush(10) == 0


def all_of(kafka: str, topic: str) -> list[Any]:
    """All records of a topic."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "look", "enable.auto.commit": False})
    try:
        found: list[Any] = []
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            here = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(here, timeout=10)
            consumer.assign([here])
            of_partition: list[Any] = []
            while len(of_partition) < end:
                of_partition += [record for record in consumer.consume(end, 0.2) if not record.error()]
            found += of_partition
        return found
    finally:
        consumer.close()


def end(program: Program) -> None:
    """In order, so that it leaves its offsets."""
    program.process.terminate()
    assert program.wait() == 143, program.log


def letters(kafka: str, mark: str, count: int) -> list[dict[str, Any]]:
    """The dead letters whose value or key has this mark, once there are so many."""

    def look() -> list[dict[str, Any]] | None:
        found = [
            {"key": record.key(), "value": record.value()}
            | {name: value.decode() for name, value in record.headers()}
            for record in all_of(kafka, Topic.DEAD_LETTERS)
            if mark.encode() in (record.value() or b"") + (record.key() or b"")
        ]
        return found if len(found) >= count else None

    found = eventually(look, f"{count} dead letters with {mark}")
    assert len(found) == count
    return found


def completion(**fields: Any) -> bytes:
    now = datetime.now(UTC).isoformat()
    own = {"type": "charge_completion", "message_id": str(uuid4()), "timestamp": now, "cp_id": "CP001"}
    charge = {"session_id": str(uuid4()), "driver_id": "ana", "seq": 9, "energy_wh": 500}
    end = {"end_reason": "target_reached", "started_at": now, "ended_at": now}
    return json.dumps(own | charge | end | fields).encode()


# Dead letters


def test_what_cannot_be_taken_is_put_aside_and_holds_nothing_up(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    mark = uuid4().hex
    key = f"CP001-{mark}"
    publish(world.kafka, Topic.CHARGE_REQUESTS, f"no json {mark}".encode(), key)
    publish(world.kafka, Topic.STOP_REQUESTS, completion(driver_id=mark), key)
    publish(world.kafka, Topic.SESSION_COMPLETE, completion(driver_id=mark), key)
    publish(world.kafka, Topic.SESSION_COMPLETE, b"\xff" * 950_000, key[:40])
    assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100
    found = {(letter["topic"], letter["code"]): letter for letter in letters(world.kafka, mark, 3)}
    assert set(found) == {
        (Topic.CHARGE_REQUESTS, "bad_json"),
        (Topic.STOP_REQUESTS, "unexpected_type"),
        (Topic.SESSION_COMPLETE, "unknown_session"),
    }
    bad_json = found[Topic.CHARGE_REQUESTS, "bad_json"]
    assert (bad_json["key"], bad_json["value"]) == (key.encode(), f"no json {mark}".encode())
    assert bad_json["reason"].startswith("not valid JSON")
    assert {bad_json["partition"], bad_json["offset"]} <= {str(number) for number in range(10_000)}
    eventually(
        lambda: any(
            b"950" in (dict(r.headers()).get("left-out") or b"") for r in all_of(world.kafka, "dead_letters")
        ),
        "what is too large is put aside without its value",
    )
    page = world.operator(central).get("/metrics").text
    assert 'evcharge_events_total{event="dead_letter"} 4.0' in page


def test_what_was_put_aside_is_not_read_again(world: World) -> None:
    mark = uuid4().hex
    central = world.central()
    publish(world.kafka, Topic.SESSION_DATA, f"no json {mark}".encode())
    letters(world.kafka, mark, 1)
    world.ask("ana", "list")
    end(central)
    again = world.central(name="central-again")
    world.ask("ana", "list")
    end(again)
    letters(world.kafka, mark, 1)


def test_forged_requests_are_not_put_aside(world: World) -> None:
    assert world.start("add", "drivers", "add", "ana", "--db", "evcharge.db").wait() == 0
    central = world.central()
    before = len(all_of(world.kafka, Topic.DEAD_LETTERS))
    assert "authentication_failed" in world.ask("ana", "list", code=1)
    assert world.ask("bo", "list") == []
    assert len(all_of(world.kafka, Topic.DEAD_LETTERS)) == before
    assert (
        'evcharge_errors_total{code="authentication_failed"} 1.0' in world.operator(central).get("/metrics").text
    )


# Topics and data that are lost


def charge(world: World, driver_id: str) -> None:
    assert world.ask(driver_id, "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100


READERS = 2
"""Of Central: one of requests, one of readings. Each tells of its own topics."""


def admin_of(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


def topics_there(world: World) -> set[str]:
    return set(admin_of(world.kafka).list_topics(timeout=10).topics) & set(Topic)


def groups_there(world: World) -> set[str]:
    return {group.group_id for group in admin_of(world.kafka).list_consumer_groups().result().valid}


def records_of(world: World) -> dict[str, int]:
    """How many there are on each of the network's topics."""
    return {topic: len(all_of(world.kafka, topic)) for topic in Topic}


def done(results: dict[Any, Any]) -> None:
    for result in results.values():
        result.result(20)


def count_of(program: Program, event: str) -> int:
    return program.log.count(f'"event": "{event}"') + program.log.count(f'"event":"{event}"')


def test_topics_that_are_deleted_are_made_anew_and_all_goes_on(own_world: World) -> None:
    world = own_world
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    for _ in range(3):  # more records than there will be in the new topics: offsets are out of range
        charge(world, "ana")
    console = world.driver("ana")
    console.say("list")
    console.saw("CP001")
    admin = admin_of(world.kafka)
    done(admin.delete_topics(list(Topic)))
    eventually(lambda: topics_there(world) == set(Topic), "Central makes them anew")
    eventually(lambda: count_of(central, "topics_have_changed") == READERS, f"and reads them\n{central.log}")
    charge(world, "bo")
    console.say("charge CP001 0.1")  # its topic of answers is another now
    console.saw("completed (target_reached)")
    assert count_of(central, "topics_lost") == 1
    assert central.process.poll() is None
    assert len(world.rows("SELECT * FROM sessions WHERE status = 'completed'")) == 5


def test_partitions_that_are_added_are_read(own_world: World) -> None:
    world = own_world
    central = world.central("--partitions", "1")
    world.charge_point("CP001", central, engine=FAST)
    charge(world, "ana")
    admin = admin_of(world.kafka)
    done(admin.create_partitions([NewPartitions(topic, 8) for topic in Topic]))
    eventually(lambda: count_of(central, "topics_have_changed") == READERS, f"Central sees them\n{central.log}")
    for driver_id in ("bo", "cy", "di"):
        charge(world, driver_id)
    assert count_of(central, "topics_lost") == 0


def test_no_driver_goes_deaf_when_the_partitions_of_the_answers_grow(own_world: World) -> None:
    world = own_world
    central = world.central("--partitions", "1")
    world.charge_point("CP001", central, engine=FAST)
    consoles = [world.driver(driver_id) for driver_id in ("ana", "bo", "cy", "di")]
    for console in consoles:
        console.say("list")
        console.saw("CP001")
    admin = admin_of(world.kafka)
    done(admin.create_partitions([NewPartitions(str(Topic.RESPONSES), 8)]))
    for console in consoles:
        console.say("charge CP001 0.1")
        console.saw("completed (target_reached)")
    world.ask("ed", "charge", "CP001", "--energy", "0.1", "--wait")  # One who comes in the midst of it.


def test_a_kafka_that_has_lost_all_its_data_is_set_up_again(own_world: World, own_broker: Broker) -> None:
    world = own_world
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    charge(world, "ana")
    own_broker.kill()
    shutil.rmtree(own_broker.folder / "topics")
    own_broker.start()
    eventually(lambda: topics_there(world) == set(Topic), f"Central makes the topics anew\n{central.log}")
    eventually(lambda: count_of(central, "topics_have_changed") == READERS, f"and reads them\n{central.log}")
    charge(world, "bo")
    assert central.process.poll() is None


# Two Centrals


def test_a_central_says_at_its_start_whose_offsets_it_has_found(own_world: World) -> None:
    world = own_world
    for _ in range(2):
        central = world.central()
        assert world.ask("ana", "list") == []
        end(central)
    assert count_of(central, "group_of_another") == 0
    other = world.central("--db", "other.db", name="central-other")
    assert count_of(other, "group_of_another") == 1
    assert str(world.folder / "evcharge.db") in other.log


def test_after_the_database_has_changed_it_is_said_once_and_not_at_each_start(own_world: World) -> None:
    world = own_world
    end_after_an_answer(world, "evcharge.db", "central")
    assert count_of(end_after_an_answer(world, "other.db", "central-2"), "group_of_another") == 1
    assert count_of(end_after_an_answer(world, "other.db", "central-3"), "group_of_another") == 0


def end_after_an_answer(world: World, database: str, name: str) -> Program:
    central = world.central("--db", database, name=name)
    assert world.ask("ana", "list") == []
    eventually(lambda: world.http(central).get("/healthz").status_code == 200, "all is well")
    # Its marks are written by a look at the group, some seconds after its start; this is after one.
    eventually(lambda: marks_are_of(world, database), f"its marks are written\n{central.log}")
    end(central)
    return central


def marks_are_of(world: World, database: str) -> bool:
    consumer = Consumer({"bootstrap.servers": world.kafka, "group.id": "evcharge-central"})
    try:
        wanted = [TopicPartition(str(topic), number) for topic in FROM_DRIVERS for number in range(6)]
        marks = [str(at.metadata) for at in consumer.committed(wanted, timeout=10) if at.offset >= 0]
    finally:
        consumer.close()
    return bool(marks) and all(f"/{database} " in mark for mark in marks)


def reason_is(client: httpx.Client, words: str) -> bool:
    told = client.get("/healthz").json()
    return told["kafka"] == "group_shared" and words in told["reasons"][0]


def test_two_centrals_in_a_group_both_say_so_and_the_one_who_stays_says_that_it_is_over(own_world: World) -> None:
    world = own_world
    older = world.central()
    assert world.ask("ana", "list") == []
    newer = world.central("--db", "other.db", name="central-other")
    for central, other in ((older, "other.db"), (newer, "evcharge.db")):
        eventually(partial(reason_is, world.http(central), other), f"it is seen\n{central.log}")
    end(newer)
    eventually(lambda: count_of(older, "group_is_ours_alone") == 1, f"all is well\n{older.log}", 60)
    assert world.http(older).get("/healthz").status_code == 200
    assert [count_of(central, "group_of_another") for central in (older, newer)] == [1, 1]


def test_replay_leaves_the_place_of_a_networks_central_alone(own_world: World) -> None:
    world = own_world
    central = world.central()
    world.ask("ana", "list")
    end(central)
    publish(world.kafka, Topic.SESSION_COMPLETE, completion(driver_id="while-it-was-away"))
    (world.folder / "rows.csv").write_text(
        "session_id,charge_point_id,driver_id,plugged_in_at,charging_seconds,energy_kwh\n"
        "S-1,RP001,bo,2026-11-20T08:00:00+01:00,3600,7.4\n"
    )
    replay = world.start("replay", "replay", "rows.csv", "--kafka", world.kafka, "--json")
    assert replay.wait(90) == 0, replay.log
    assert all_of(world.kafka, Topic.DEAD_LETTERS) == []  # it has not read what was there before
    world.central(name="central-again")
    (letter,) = letters(world.kafka, "while-it-was-away", 1)
    assert letter["code"] == "unknown_session"


ROWS = (
    "session_id,charge_point_id,driver_id,plugged_in_at,charging_seconds,energy_kwh\n"
    "S-1,RP001,bo,2026-11-20T08:00:00+01:00,3600,7.4\n"
    "S-2,RP001,bo,2026-11-20T10:00:00+01:00,360000,74\n"
)


@pytest.mark.parametrize("program", ["replay", "demo"])
def test_a_trial_leaves_nothing_on_a_networks_topics_nor_topics_of_its_own_also_after_ctrl_c(
    own_world: World, program: str
) -> None:
    world = own_world
    end(world.central())
    (world.folder / "rows.csv").write_text(ROWS)
    rest = ("rows.csv", "--speed", "3600", "--trace", "trace") if program == "replay" else ("--time-scale", "60")
    trial = world.start("trial", program, *rest, "--kafka", world.kafka)
    own = f"evcharge-{program}-"

    def its_topics() -> set[str]:
        return {name for name in admin_of(world.kafka).list_topics(timeout=10).topics if name.startswith(own)}

    def charges() -> bool:
        trace = world.folder / "trace"
        return "is CHARGING" in trial.output or (
            trace.exists() and "charge_completion_response" in trace.read_text()
        )

    eventually(charges, f"it charges\n{trial.log}", 60)
    assert len(its_topics()) == len(Topic)
    trial.signal(signal.SIGINT)
    assert trial.wait(30) == (130 if program == "replay" else 0), trial.log
    assert its_topics() == set()
    assert not [group for group in groups_there(world) if group.startswith(own)]
    assert records_of(world) == dict.fromkeys(Topic, 0) | {Topic.CPS_REQUESTS: 1}  # whether a Central answers
    central = world.central(name="central-again")
    world.ask("ana", "list")
    assert all_of(world.kafka, Topic.DEAD_LETTERS) == []
    assert count_of(central, "group_of_another") == 0


def test_several_networks_on_one_kafka_hear_nothing_of_each_other(world: World) -> None:
    """Each has topics with a prefix of its own; the id of the charge point and the driver's is the same."""
    for name, price in (("north", "0.10"), ("south", "0.20")):
        prefix = ("--topic-prefix", f"{name}.")
        central = world.central("--db", f"{name}.db", *prefix, name=f"central-{name}")
        engine = world.engine(*prefix, *FAST, "--journal", f"journal-{name}", name=f"engine-{name}")
        world.monitor("CP001", engine.port, central.port, "--price", price, name=f"monitor-{name}")
        eventually(partial(world.ask, "ana", "list", *prefix), f"the charge point of {name}")
    for name, cost in (("north", "0.10"), ("south", "0.20")):
        receipt = world.ask("ana", "charge", "CP001", "--energy", "1", "--wait", "--topic-prefix", f"{name}.")
        assert receipt["cost"] == cost


# Passwords and ACLs

USERS = {"central": "c-secret", "engine": "e-secret", "driver": "d-secret"}


def documented_acls() -> list[AclBinding]:
    """The `kafka-acls.sh` commands of the operators' page, as what they do."""
    bindings = []
    for line in re.findall(r"^kafka-acls\.sh .*$", PAGE.read_text("utf-8"), re.M):
        words = shlex.split(line)

        def of(flag: str, words: list[str] = words) -> list[str]:
            return [words[at + 1] for at, word in enumerate(words) if word == flag]

        (principal,) = of("--allow-principal")
        resources = [(ResourceType.TOPIC, name) for name in of("--topic")]
        resources += [(ResourceType.GROUP, name) for name in of("--group")]
        for kind, name in resources:
            for operation in of("--operation"):
                bindings.append(
                    AclBinding(
                        kind,
                        name,
                        ResourcePatternType.LITERAL,
                        principal,
                        "*",
                        AclOperation[operation.upper()],
                        AclPermissionType.ALLOW,
                    )
                )
    assert len(bindings) >= 15
    return bindings


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[World, Broker]]:
    """A broker that knows three users, with the ACLs of the operators' page; their settings are in files."""
    port = free_port()
    broker = Broker(tmp_path / "kafka", free_port(), guarded=Guarded(port, USERS))
    broker.start()
    admin = admin_of(broker.bootstrap)
    done(admin.create_acls(documented_acls()))
    for name, password in USERS.items():
        write_settings(tmp_path, name, password)
    world = World(tmp_path, f"127.0.0.1:{port}")
    yield world, broker
    world.stop()
    broker.kill()


def write_settings(folder: Path, name: str, password: str, of: str = "", protocol: str = "SASL_PLAINTEXT") -> None:
    (folder / f"{of or name}.properties").write_text(
        f"security.protocol={protocol}\nsasl.mechanism=PLAIN\nsasl.username={name}\nsasl.password={password}\n"
    )


def client(world: World, name: str, kind: Callable[[dict[str, Any]], Any]) -> Any:
    lines = (world.folder / f"{name}.properties").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    group = {"group.id": f"x-{name}"} if kind is Consumer else {}
    return kind({"bootstrap.servers": world.kafka, **group, **settings})


def may_write(world: World, name: str, topic: str) -> bool:
    producer = client(world, name, Producer)
    written: list[bool] = []
    producer.produce(topic, value=b"x", on_delivery=lambda error, _: written.append(error is None))
    assert producer.flush(20) == 0
    return written == [True]


def may_read(world: World, name: str, topic: str) -> bool:
    consumer = client(world, name, Consumer)
    refused = KafkaError.TOPIC_AUTHORIZATION_FAILED
    said: list[int] = []

    def answered() -> bool:
        """A record, or that the topic is refused; that the group is refused says nothing of the topic."""
        errors = [record.error() for record in consumer.consume(1, 0.5)]
        said.extend(error.code() if error else KafkaError.NO_ERROR for error in errors)
        return KafkaError.NO_ERROR in said or refused in said

    try:
        known = consumer.list_topics(topic, timeout=20).topics[topic].error
        if known is not None and known.code() == refused:
            return False  # It may not even ask for it, and a fetch that waits for a leader would never say so.
        consumer.assign([TopicPartition(topic, 0, 0)])
        eventually(answered, f"{name} hears of {topic}")
        return KafkaError.NO_ERROR in said
    finally:
        consumer.close()


def test_each_role_can_do_its_work_with_the_documented_acls_and_nothing_else(
    guarded: tuple[World, Broker],
) -> None:
    world, broker = guarded
    config = {name: ("--kafka-config", f"{name}.properties") for name in USERS}
    central = world.central(*config["central"])
    engine, _ = world.charge_point("CP001", central, engine=(*FAST, *config["engine"]))
    receipt = world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait", *config["driver"])
    assert receipt["energy_wh"] == 100
    operator = world.operator(central)
    came = 'evcharge_messages_received_total{type="charge_completion",via="kafka"}'
    eventually(lambda: came in operator.get("/metrics").text, "the completion comes by Kafka, too")
    written = {(name, topic) for name in USERS for topic in Topic if may_write(world, name, topic)}
    assert written == {
        *(("driver", topic) for topic in (Topic.CHARGE_REQUESTS, Topic.STOP_REQUESTS, Topic.CPS_REQUESTS)),
        *(("engine", topic) for topic in (Topic.SESSION_DATA, Topic.SESSION_COMPLETE)),
        *(("central", topic) for topic in (Topic.RESPONSES, Topic.DEAD_LETTERS)),
    }
    for topic in Topic:
        publish(broker.bootstrap, topic, b"x", partition=0)  # The one that is read.
    assert {topic for topic in Topic if may_read(world, "driver", topic)} == {Topic.RESPONSES}
    assert {topic for topic in Topic if may_read(world, "engine", topic)} == set()
    told = "".join(program.log + program.output for program in world.programs)
    assert not [password for password in USERS.values() if password in told]
    assert "record_not_delivered" not in engine.log


def test_a_wrong_password_is_said_and_not_waited_out(guarded: tuple[World, Broker]) -> None:
    world, _ = guarded
    for name in USERS:
        write_settings(world.folder, name, "wrong", of=f"wrong-{name}")
    wrong = {name: ("--kafka-config", f"wrong-{name}.properties") for name in USERS}
    said = world.ask("ana", "list", *wrong["driver"], "--timeout", "25", code=3)
    assert "refuses us" in said
    assert "Authentication failed" in said
    assert "--kafka-config" in said
    engine = world.engine(*wrong["engine"])
    eventually(lambda: count_of(engine, "kafka_refuses_us") == 1, f"Engine says so\n{engine.log}")
    central = world.start("central-x", "central", "--port", "0", "--kafka", world.kafka, *wrong["central"])
    eventually(lambda: "Authentication failed" in central.log, f"Central says so\n{central.log}")
    assert (engine.process.poll(), central.process.poll()) == (None, None)


def test_a_driver_that_trusts_the_brokers_certificate_gets_through(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("kafka", "127.0.0.1")
    private = load_pem_private_key(key.read_bytes(), None)
    pkcs8 = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # All that Kafka reads.
    (tmp_path / "both.pem").write_bytes(pkcs8 + certificate.read_bytes())
    port = free_port()
    broker = Broker(tmp_path / "kafka", free_port(), guarded=Guarded(port, USERS, tmp_path / "both.pem"))
    world = World(tmp_path, broker.bootstrap)
    try:
        broker.start()
        world.central()
        world.kafka = f"127.0.0.1:{port}"
        admin = admin_of(broker.bootstrap)
        done(admin.create_acls(documented_acls()))
        for name, authority_file in (("trusting", authority.pem), ("wary", Authority(tmp_path, "other").pem)):
            write_settings(tmp_path, "driver", USERS["driver"], of=name, protocol="SASL_SSL")
            with (tmp_path / f"{name}.properties").open("a") as settings:
                settings.write(f"ssl.ca.location={authority_file}\n")
        assert world.ask("ana", "list", "--kafka-config", "trusting.properties") == []
        said = world.ask("ana", "list", "--kafka-config", "wary.properties", "--timeout", "10", code=3)
        assert "certificate verify failed" in said
    finally:
        world.stop()
        broker.kill()


@pytest.mark.parametrize("program", ["central", "engine", "driver"])
def test_settings_that_do_not_work_end_a_program_with_one_sentence(world: World, program: str) -> None:
    (world.folder / "wrong.properties").write_text("sasl.pasword=s3cret\n")
    arguments = {"central": ("--port", "0"), "engine": (), "driver": ("ana", "list")}[program]
    started = world.start(
        program, program, *arguments, "--kafka", world.kafka, "--kafka-config", "wrong.properties"
    )
    assert started.wait() == 2, started.log
    assert 'No such configuration property: "sasl.pasword"' in started.log
    assert "Traceback" not in started.log
    assert "s3cret" not in started.log

"""A broker that is there, and takes nothing: for the clock, for who we are, for the topic, for want of copies."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewTopic
from harness import Program, World, eventually
from test_kafka import USERS, admin_of, all_of, count_of, done, end, write_settings

from evcharge.protocol.topics import TO_CENTRAL, Topic
from kafka_broker import Broker, Guarded, free_port

FAST = ("--time-scale", "600")
AHEAD_S = 7200


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def world(own_broker: Broker, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, own_broker.bootstrap)
    world.clock("0")
    yield world
    world.stop()


def make_topics(admin: AdminClient, partitions: int = 1, **config: str) -> None:
    settings = {name.replace("_", "."): value for name, value in config.items()}
    done(admin.create_topics([NewTopic(topic, partitions, 1, config=settings) for topic in Topic]))


def configure(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    done(
        admin.incremental_alter_configs(
            [ConfigResource(ResourceType.TOPIC, str(topic), incremental_configs=[entry])]
        )
    )


def stamp_of(admin: AdminClient, topic: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, str(topic))
    return str(admin.describe_configs([resource])[resource].result(20)["message.timestamp.type"].value)


def health(world: World, central: Program) -> dict[str, Any]:
    answer = world.http(central).get("/healthz")
    told: dict[str, Any] = answer.json()
    return told | {"code": answer.status_code}


def requests_committed(kafka: str) -> int:
    """How far the group of Central has come in the topic of queries."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "evcharge-central"})
    try:
        partitions = consumer.list_topics(Topic.CPS_REQUESTS, timeout=10).topics[Topic.CPS_REQUESTS].partitions
        found = consumer.committed([TopicPartition(str(Topic.CPS_REQUESTS), number) for number in partitions], 10)
        return sum(max(0, at.offset) for at in found)
    finally:
        consumer.close()


def receipts(world: World) -> list[dict[str, Any]]:
    found = [json.loads(record.value()) for record in all_of(world.kafka, Topic.RESPONSES)]
    return [message for message in found if message["type"] == "charge_completion_response"]


# The clock


def test_central_has_kafka_stamp_its_topics_also_those_that_are_there(world: World) -> None:
    admin = admin_of(world.kafka)
    done(admin.create_topics([NewTopic(str(Topic.RESPONSES), 1, 1)]))
    assert stamp_of(admin, Topic.RESPONSES) == "CreateTime"
    central = world.central()
    eventually(lambda: count_of(central, "topics_stamped_by_kafka"), f"it does\n{central.log}")
    assert {stamp_of(admin, topic) for topic in Topic} == {"LogAppendTime"}


def test_a_central_two_hours_ahead_names_the_clock_and_still_answers(world: World) -> None:
    world.clock(str(AHEAD_S))
    central = world.central(off_clock=True)
    said = world.ask("ana", "list", code=1)
    assert "clock" in said
    unwell = eventually(
        lambda: (told := health(world, central))["code"] == 503 and told, f"health names it\n{central.log}"
    )
    assert unwell["kafka"] == "clock_differs"
    assert "clock is 7" in unwell["reasons"][0]
    assert count_of(central, "clock_differs") == 1
    world.clock("0")
    assert world.ask("ana", "list") == []
    eventually(lambda: health(world, central)["code"] == 200, "and that it is right again")
    assert count_of(central, "clock_agrees") == 1


def test_what_kafka_refuses_for_the_clock_is_kept_and_goes_out_once_the_clock_is_right(world: World) -> None:
    admin = admin_of(world.kafka)
    make_topics(admin)
    central = world.central(off_clock=True)
    world.charge_point("CP001", central, engine=FAST)
    configure(admin, Topic.RESPONSES, "message.timestamp.type", "CreateTime")  # A Central that may not alter it.
    driver = world.driver("ana", "charge", "CP001", "--energy", "0.1", "--wait", "--json")
    world.until_session("charging")
    world.clock(str(AHEAD_S))
    world.until_session("completed")
    unwell = eventually(
        lambda: (told := health(world, central))["receipts_waiting"] and told, f"it shows\n{central.log}"
    )
    assert (unwell["code"], unwell["kafka"]) == (503, "clock_differs")
    assert "clock" in unwell["reasons"][0]
    assert "evcharge_receipts_waiting 1.0" in world.operator(central).get("/metrics").text
    assert not receipts(world)
    world.clock("0")
    assert driver.wait() == 0
    assert [receipt["energy_wh"] for receipt in receipts(world)] == [100]
    eventually(lambda: health(world, central)["code"] == 200, f"all is well\n{central.log}")
    eventually(lambda: not health(world, central)["receipts_waiting"], "nothing waits")
    assert count_of(central, "record_not_delivered") <= 2  # of two kinds at the most: not once a try
    end(central)
    assert '"undelivered_records": 0' in central.log


def test_a_driver_two_hours_ahead_is_told_of_the_clock_and_not_of_central(world: World) -> None:
    admin = admin_of(world.kafka)
    central = world.central()
    eventually(lambda: count_of(central, "kafka_joined"), "Central is at work")
    world.clock(str(AHEAD_S))

    def said() -> str:
        driver = world.start(
            "driver", "driver", "ana", "list", "--timeout", "12", "--kafka", world.kafka, off_clock=True
        )
        assert driver.wait() in (1, 3)
        return driver.log

    assert "clock" in said()  # Central's word: the request is dated ahead
    for topic in TO_CENTRAL:
        configure(admin, topic, "message.timestamp.type", "CreateTime")
    told = said()  # Kafka's
    assert "clock" in told
    assert "is Central running" not in told
    assert "Traceback" not in told


# Who we are


def allowed(user: str, kind: ResourceType, name: str, operation: str) -> AclBinding:
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(kind, str(name), literal, f"User:{user}", "*", AclOperation[operation], allow)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[World, AdminClient]]:
    """A broker that knows three users. Central may read, and see, all it needs, and write nothing."""
    port = free_port()
    broker = Broker(tmp_path / "kafka", free_port(), guarded=Guarded(port, USERS))
    broker.start()
    admin = admin_of(broker.bootstrap)
    make_topics(admin)
    topic = ResourceType.TOPIC
    acls = [allowed("central", topic, name, "READ") for name in TO_CENTRAL]
    acls += [allowed("central", topic, name, "DESCRIBE") for name in (Topic.RESPONSES, Topic.DEAD_LETTERS)]
    acls += [allowed("central", ResourceType.GROUP, "evcharge-central", "READ")]
    acls += [allowed("driver", topic, name, "WRITE") for name in TO_CENTRAL]
    acls += [allowed("driver", topic, Topic.RESPONSES, "READ")]
    done(admin.create_acls(acls))
    for name, password in USERS.items():
        write_settings(tmp_path, name, password)
    world = World(tmp_path, f"127.0.0.1:{port}")
    yield world, admin
    world.stop()
    broker.kill()


def test_a_central_that_may_read_and_not_write_ends_with_a_sentence_and_swallows_no_request(
    guarded: tuple[World, AdminClient], tmp_path: Path
) -> None:
    world, admin = guarded
    asked = ("ana", "list", "--timeout", "10", "--kafka-config", "driver.properties")
    assert world.driver(*asked).wait() == 1  # Nobody is there to answer.
    settings = ("--kafka-config", "central.properties", "--open-registration", "--db", "evcharge.db")
    central = world.start("central", "central", "--port", "0", "--kafka", world.kafka, *settings)
    assert central.wait() == 3, central.log
    last = central.log.strip().splitlines()[-1]
    assert "Kafka" in last
    assert "uthorization" in last
    assert "Traceback" not in central.log
    assert requests_committed(admin_address(world)) == 0
    topic = ResourceType.TOPIC
    done(
        admin.create_acls(
            [allowed("central", topic, name, "WRITE") for name in (Topic.RESPONSES, Topic.DEAD_LETTERS)]
        )
    )
    world.central("--kafka-config", "central.properties", name="central-again")
    eventually(lambda: all_of(admin_address(world), Topic.RESPONSES), "the request is answered all the same")


def admin_address(world: World) -> str:
    """By the port that is open to all."""
    broker = Broker.of(world.folder / "kafka")
    assert broker is not None
    return broker.bootstrap


def test_answers_that_central_may_not_write_are_kept_and_shown_and_go_out_once_it_may(
    guarded: tuple[World, AdminClient],
) -> None:
    world, admin = guarded
    done(admin.create_acls([allowed("central", ResourceType.TOPIC, Topic.DEAD_LETTERS, "WRITE")]))
    central = world.central("--kafka-config", "central.properties")
    driver = world.driver("ana", "list", "--timeout", "60", "--json", "--kafka-config", "driver.properties")
    unwell = eventually(
        lambda: (told := health(world, central))["code"] == 503 and told, f"health says so\n{central.log}"
    )
    assert unwell["kafka"] == "refuses_records"
    assert "driver_responses" in unwell["reasons"][0]
    assert requests_committed(admin_address(world)) == 0
    done(admin.create_acls([allowed("central", ResourceType.TOPIC, Topic.RESPONSES, "WRITE")]))
    assert driver.wait(60) == 0, driver.log
    eventually(lambda: health(world, central)["code"] == 200, "all is well")
    eventually(lambda: requests_committed(admin_address(world)) > 0, "and the request is done with")


def test_a_driver_that_may_not_write_is_told_so_at_once(guarded: tuple[World, AdminClient]) -> None:
    world, admin = guarded
    done(admin.create_acls([allowed("engine", ResourceType.TOPIC, name, "DESCRIBE") for name in TO_CENTRAL]))
    done(admin.create_acls([allowed("engine", ResourceType.TOPIC, Topic.RESPONSES, "READ")]))
    said = world.ask("ana", "list", "--kafka-config", "engine.properties", "--timeout", "25", code=3)
    assert "uthorization" in said
    assert "is Central running" not in said


# The topic


def test_receipts_of_a_topic_that_was_made_anew_with_fewer_partitions_go_out(world: World) -> None:
    admin = admin_of(world.kafka)
    make_topics(admin, partitions=8)
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    for driver_id in ("ana", "bo", "cy"):
        world.ask(driver_id, "charge", "CP001", "--energy", "0.1", "--wait")
    configure(admin, Topic.RESPONSES, "max.message.bytes", "1")
    driver = world.driver("di", "charge", "CP001", "--energy", "0.1", "--wait", "--json", "--timeout", "60")
    world.until_session("completed")
    eventually(lambda: health(world, central)["kafka"] == "refuses_records", "health says so")
    eventually(lambda: health(world, central)["receipts_waiting"] == 1, "the receipt waits")
    done(admin.delete_topics([str(Topic.RESPONSES)]))
    eventually(
        lambda: count_of(central, "topics_lost") or count_of(central, "topics_created") > 0, "it is made anew"
    )
    eventually(lambda: health(world, central)["receipts_waiting"] == 0, f"receipts go out\n{central.log}")
    assert driver.wait(60) == 0, driver.log


# Copies


class SecondBroker(Broker):
    """One more node of the same cluster, which is no controller."""

    def __init__(self, folder: Path, port: int, *, of: Broker) -> None:
        super().__init__(folder, port)
        self._of = of

    def _format(self, java: str, jars: Path) -> None:
        settings = (self._of.folder / "server.properties").read_text()
        settings += f"""
process.roles=broker
node.id=2
listeners=PLAINTEXT://{self.host}:{self.port}
"""
        self._settings.write_text(settings)
        meta = self._of.folder / "topics" / "meta.properties"
        (cluster_id,) = re.findall("^cluster.id=(.*)$", meta.read_text(), re.MULTILINE)
        if not (self.folder / "topics").exists():
            tool = self._java(java, jars, "kafka.tools.StorageTool")
            options = [f"--cluster-id={cluster_id}", f"--config={self._settings}"]
            subprocess.run([*tool, "format", *options], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture
def two_brokers(tmp_path: Path) -> Iterator[tuple[Broker, Broker]]:
    """Each topic has a copy on both, and wants both in sync."""
    first = Broker(tmp_path / "kafka", free_port(), controller_port=free_port())
    second = SecondBroker(tmp_path / "kafka-2", free_port(), of=first)
    first.start()
    second.start()
    admin = admin_of(first.bootstrap)
    eventually(lambda: len(admin.list_topics(timeout=10).brokers) == 2, "the second has joined")
    settings = {"min.insync.replicas": "2", "message.timestamp.type": "LogAppendTime"}
    copies = [[1, 2]]
    done(admin.create_topics([NewTopic(topic, 1, replica_assignment=copies, config=settings) for topic in Topic]))
    yield first, second
    second.kill()
    first.kill()


def test_records_for_want_of_copies_are_logged_once_and_shown_and_go_out_once_they_are_there(
    two_brokers: tuple[Broker, Broker], tmp_path: Path
) -> None:
    first, second = two_brokers
    world = World(tmp_path, first.bootstrap)
    try:
        central = world.central()
        world.charge_point("CP001", central, engine=FAST)
        assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100
        second.kill()
        order = {"driver_id": "ana", "energy_wh": 200}
        assert world.operator(central).post("/v1/charge-points/CP001/start", json=order).status_code == 202
        world.until_session("completed", least_wh=200)
        unwell = eventually(
            lambda: (told := health(world, central))["code"] == 503 and told, f"it shows\n{central.log}", 60
        )
        assert unwell["kafka"] == "records_wait"
        assert "min.insync.replicas" in unwell["reasons"][0]
        assert unwell["receipts_waiting"] == 1
        second.start()
        eventually(lambda: health(world, central)["code"] == 200, f"all is well\n{central.log}", 60)
        eventually(lambda: not health(world, central)["receipts_waiting"], "nothing waits")
        assert [receipt["energy_wh"] for receipt in receipts(world)] == [100, 200]
        assert count_of(central, "records_wait") == 1
    finally:
        world.stop()

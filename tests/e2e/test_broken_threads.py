"""Each thread of each program, ended while the program runs: an exit code says so, or a sentence, or the log."""

import pytest
from harness import World, eventually
from test_kafka import count_of

CENTRALS = ("worker", "kafka-setup", "copy-back", "publish-again", "history", "kafka-records", "kafka-reports")


@pytest.mark.parametrize("name", CENTRALS)
def test_central_ends_with_an_exit_code_when_a_thread_of_it_has_ended(world: World, name: str) -> None:
    central = world.central(thread_to_break=True)
    assert world.ask("ana", "history") == []
    central.break_thread(name)
    world.driver("ana", "history")  # Work for one that waits for some.
    assert central.wait() in (1, 3), central.log
    assert "there is no thread" not in central.log
    assert name in central.log or "Kafka" in central.log


def test_an_engine_says_that_its_way_by_kafka_is_lost_and_charges_on(world: World) -> None:
    central = world.central()
    arguments = ("--port", "0", "--port-file", "engine.port", "--kafka", world.kafka, "--time-scale", "600")
    engine = world.start("engine", "engine", *arguments, thread_to_break=True)
    world.monitor("CP001", engine.port, central.port)
    world.until_status("CP001", "ACTIVE")
    engine.break_thread("kafka-reports")
    eventually(lambda: count_of(engine, "kafka_failed") == 1, f"it says so\n{engine.log}")
    assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")["energy_wh"] == 100
    assert "there is no thread" not in engine.log


@pytest.mark.parametrize("name", ["kafka-records", "kafka-reports"])
def test_a_driver_who_waits_ends_with_a_sentence_when_a_thread_of_it_has_ended(world: World, name: str) -> None:
    central = world.central()
    world.charge_point("CP001", central)
    waiting = ("driver", "ana", "charge", "CP001", "--energy", "1", "--wait", "--kafka", world.kafka)
    driver = world.start("driver", *waiting, thread_to_break=True)
    world.until_session("charging")
    driver.break_thread(name)
    assert driver.wait() == 3, driver.log
    assert "Kafka" in driver.log
    assert "there is no thread" not in driver.log

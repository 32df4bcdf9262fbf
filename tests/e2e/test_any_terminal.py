"""Every command that prints for people: on a terminal and through a pipe it is text, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import World
from terminal import Terminal
from test_hostile_charge_point import hostile_charge_point

from kafka_broker import Broker

ESCAPED = re.compile(r"\\x1b|\\u001b|\\033|\^\[|\[[0-9;]*m")
"""A control sequence that somebody has made visible."""
DATABASE = ("--db", "evcharge.db")
COMMANDS = (
    "driver ana list --all",
    "driver ana history",
    "driver ana status",
    "driver ana charge CP001 0.5 --wait",
    "driver ana charge NOWHERE",
    "driver ana nonsense",
    "cp list",
    "drivers list",
    "token list",
    "cp remove NOWHERE",
    "admin list",
    "admin show CP001",
    "admin history",
    "admin totals",
    "admin revenue",
    "admin faults",
    "admin audit",
    "admin help",
    "admin nonsense",
    "--help",
    "driver --help",
)


@pytest.fixture(scope="module")
def network(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, str]]]:
    """A network with something in each table, and the environment of who looks at it."""
    world = World(tmp_path_factory.mktemp("network"), broker.bootstrap)
    try:
        central = world.central()
        world.charge_point("CP001", central, "--location", "Harbour, bay 1", engine=("--time-scale", "3600"))
        world.ask("ana", "charge", "CP001", "--energy", "0.5", "--wait")
        for words in ("cp add CP002", "drivers add bo"):
            assert world.start(words.replace(" ", "-"), *words.split(), *DATABASE).wait() == 0
        url = f"http://127.0.0.1:{central.http_port}"
        with hostile_charge_point(central.port, "CP009"):
            world.until_status("CP009", "FAULTY")
            yield world, {"EVCHARGE_URL": url, "EVCHARGE_TOKEN": world.token("maria")}
    finally:
        world.stop()


def arguments_of(world: World, command: str) -> list[str]:
    words = command.replace("charge CP001 0.5", "charge CP001 --energy 0.5").split()
    kafka = ["--kafka", world.kafka] if words[0] == "driver" else []
    return [*words, *kafka, *(DATABASE if words[0] in ("cp", "drivers", "token") else [])]


@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal_no_control_sequence_is_shown_as_text(
    network: tuple[World, dict[str, str]], command: str
) -> None:
    world, env = network
    terminal = Terminal(world.folder, *arguments_of(world, command), env=env)
    try:
        terminal.process.wait(30)
        terminal.ended()
        assert terminal.text.strip()
        assert not ESCAPED.search(terminal.text), terminal.raw
    finally:
        terminal.kill()


@pytest.mark.parametrize("command", COMMANDS)
def test_through_a_pipe_there_is_none(network: tuple[World, dict[str, str]], command: str) -> None:
    world, env = network
    program = world.start(f"piped-{COMMANDS.index(command)}", *arguments_of(world, command), env=env)
    program.wait()
    for text in (program.output, program.log):
        assert "\x1b" not in text
        assert not ESCAPED.search(text), text
    assert (program.output + program.log).strip()


@pytest.mark.parametrize("command", ["driver ana list --all", "cp list", "admin list"])
def test_what_a_charge_point_says_of_itself_stays_escaped_there(
    network: tuple[World, dict[str, str]], command: str
) -> None:
    world, env = network
    terminal = Terminal(world.folder, *arguments_of(world, command), env=env, size=(300, 24))
    try:
        assert terminal.process.wait(30) == 0
        terminal.ended()
        assert "Dock\\u202e\\u2066" in terminal.text
        assert "\u202e" not in terminal.raw
    finally:
        terminal.kill()


def test_the_demo_draws_its_screen_on_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "demo", "--sessions", "1", "--time-scale", "1200")
    try:
        assert terminal.process.wait(60) == 0
        terminal.ended()
        assert "receipt for" in terminal.text
        assert not ESCAPED.search(terminal.text)
    finally:
        terminal.kill()


def test_a_fleet_and_a_replay_say_what_they_are_on_a_terminal(tmp_path: Path) -> None:
    no_kafka = ("--kafka", "127.0.0.1:1")
    for arguments, said in (
        (("fleet", "--count", "2", *no_kafka), "2 charge points for Central at"),
        (("replay", "nowhere.csv", *no_kafka), "cannot be read"),
    ):
        terminal = Terminal(tmp_path, *arguments)
        try:
            terminal.saw(said)
            assert not ESCAPED.search(terminal.text)
        finally:
            terminal.kill()

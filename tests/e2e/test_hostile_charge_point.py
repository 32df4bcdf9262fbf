"""A charge point whose every text is made to fool who reads it, and all the places where somebody does."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness import World, eventually
from terminal import Terminal

MARKS = "\u202e\u2066\u200b\u2028\u2029\ufeff"
HOSTILE = f"Dock{MARKS}[bold]1[/bold]"
CONTROLS = "\x1b]0;yours\x07\x1b[2J\x9b"


def say(link: socket.socket, type_: str, **fields: Any) -> None:
    message = {"type": type_, "message_id": str(uuid4()), "timestamp": datetime.now(UTC).isoformat(), **fields}
    link.sendall(json.dumps(message, ensure_ascii=False).encode() + b"\n")


@contextmanager
def hostile_charge_point(port: int, cp_id: str = "CP001") -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", port)) as link:
        say(link, "auth_request", cp_id=cp_id)
        say(
            link,
            "register_request",
            cp_id=cp_id,
            location=HOSTILE,
            price_per_kwh="0.30",
            currency="EUR",
            max_power_w=22000,
        )
        fault = {"cp_id": cp_id, "fault_code": "cable"}
        say(link, "fault_notification", **fault, description=HOSTILE)
        say(link, "fault_notification", **fault, description=CONTROLS)  # refused, and so is the next
        say(link, f"nonsense{CONTROLS}{MARKS}")
        link.sendall(f"{CONTROLS}{MARKS}\n".encode())
        say(
            link,
            "status_update",
            cp_id=cp_id,
            status="FAULTY",
            engine_connected=True,
            reason=HOSTILE,
        )
        yield


def assert_harmless(text: str, of: str) -> None:
    found = {character for character in MARKS + "\x9b" if character in text}
    assert not found, f"{of}: {found} in {text!r}"
    assert "\x1b]0;yours" not in text, of


def test_every_reader_sees_what_it_is_and_nothing_happens_to_a_terminal(world: World, tmp_path: Path) -> None:
    port_file, http_file = world.folder / "seen.port", world.folder / "seen.http"
    terminal = Terminal(
        world.folder,
        *("central", "--host", "127.0.0.1", "--port", "0", "--port-file", port_file.name, "--open-registration"),
        *("--kafka", world.kafka, "--trace", "seen.trace"),
        *("--http", "127.0.0.1:0", "--http-port-file", http_file.name),
    )
    try:
        terminal.resize(200, 50)
        terminal.saw("kafka_joined")
        port = int(eventually(lambda: port_file.read_text(), "Central listens"))
        with hostile_charge_point(port):
            world.until_status("CP001", "FAULTY")
            terminal.type("show CP001\r")
            terminal.saw("Dock\\u202e\\u2066")
            terminal.type("faults\r")
            terminal.saw("cable")
            terminal.type("list\r")
            terminal.saw("unknown_type")
            driver = world.driver("ana", "list", "--all")
            assert driver.wait(60) == 0, driver.log
            scripted = world.driver("ana", "list", "--all", "--json")
            assert scripted.wait(60) == 0, scripted.log
            listed = world.start("listed", "cp", "list", "--db", "evcharge.db")
            assert listed.wait() == 0
            url = f"http://127.0.0.1:{int(http_file.read_text())}"
            token = {"EVCHARGE_TOKEN": world.token("maria")}
            told = world.start("told", "admin", "--url", url, "show", "CP001", env=token)
            assert told.wait() == 0, told.log
        terminal.type("quit\r")
        assert terminal.wait() == 0
    finally:
        terminal.kill()
    assert_harmless(terminal.raw, "AdminCLI")
    for program in (driver, scripted, listed, told):
        assert "[bold]1[/bold]" in program.output, program.name
        assert_harmless(program.output + program.log, program.name)
    assert json.loads(scripted.output)[0]["location"] == HOSTILE
    trace = (world.folder / "seen.trace").read_text()
    assert_harmless(trace, "trace")
    messages = [json.loads(line)["message"] for line in trace.splitlines()]
    assert HOSTILE in [message["location"] for message in messages if "location" in message]


def test_the_log_of_a_service_and_of_its_terminal_are_harmless(world: World) -> None:
    central = world.central()
    with hostile_charge_point(central.port):
        world.until_status("CP001", "FAULTY")
        eventually(lambda: "unknown_type" in central.log, "it is logged")
    assert_harmless(central.log, "the log as JSON")
    plain = Terminal(
        world.folder,
        *("central", "--headless", "--host", "127.0.0.1", "--port", "0", "--port-file", "plain.port"),
        *("--kafka", world.kafka, "--db", "plain.db", "--open-registration", "--http", "off"),
    )
    try:
        plain.saw("central_listening")
        path = world.folder / "plain.port"
        with hostile_charge_point(int(eventually(lambda: path.read_text(), "Central listens"))):
            plain.saw("unknown_type")
            plain.saw("bad_json")
    finally:
        plain.kill()
    assert_harmless(plain.raw, "the log for people")

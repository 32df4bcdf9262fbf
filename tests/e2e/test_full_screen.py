"""Consoles that fill a real terminal: how they begin, how they end, and what they leave behind."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import World, eventually
from terminal import SCREEN, Terminal

NO_KAFKA = ("--kafka", "127.0.0.1:1")
ENGINE = ("engine", *NO_KAFKA)

Open = Callable[..., Terminal]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    terminals: list[Terminal] = []

    def opened(*arguments: str, **settings: object) -> Terminal:
        terminals.append(Terminal(tmp_path, *arguments, **settings))  # type: ignore[arg-type]
        return terminals[-1]

    yield opened
    for terminal in terminals:
        terminal.kill()


def test_it_is_drawn_answers_and_ctrl_c_ends_it_in_order(opened: Open) -> None:
    terminal = opened(*ENGINE)
    terminal.saw("EngineCLI")
    terminal.saw("engine_listening")
    terminal.type("statsu\r")
    terminal.saw("error: there is no command 'statsu'; did you mean 'status'?")
    terminal.type("status\r")
    terminal.saw("charge point unknown yet; no Monitor; vehicle at 20.0 %; not charging;")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(("typed", "code"), [("quit\r", 0), ("exit\r", 0)])
def test_quit_ends_it_in_order(opened: Open, typed: str, code: int) -> None:
    terminal = opened(*ENGINE)
    terminal.saw("engine_listening")
    terminal.type(typed)
    assert terminal.wait() == code


def test_a_signal_ends_it_in_order(opened: Open) -> None:
    terminal = opened(*ENGINE)
    terminal.saw("engine_listening")
    terminal.process.terminate()
    assert terminal.wait() == 143


def test_a_terminal_that_is_closed_ends_it_in_order(opened: Open, tmp_path: Path) -> None:
    terminal = opened(*ENGINE, stderr=tmp_path / "log")
    terminal.saw("engine_listening")
    terminal.close()
    assert terminal.process.wait(30) == 129
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_so_it_does_when_its_log_went_there_too(opened: Open, term: str) -> None:
    terminal = opened(*ENGINE, term=term)
    terminal.saw("engine_listening")
    terminal.close()
    assert terminal.process.wait(30) == 129


def test_an_error_is_one_sentence_where_the_screen_was(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        terminal = opened(*ENGINE, "--port", port)
        assert terminal.wait() == 3
    last = terminal.raw.rpartition("\x1b[?1049l")[2]
    assert f"evcharge: error: cannot listen on 127.0.0.1:{port}" in last
    assert "Traceback" not in terminal.text


def test_a_log_that_goes_to_a_file_is_in_both_places(opened: Open, tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    terminal = opened(*ENGINE, stderr=log)
    terminal.saw("waiting_for_kafka")
    terminal.type("quit\r")
    assert terminal.wait() == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"engine_listening", "waiting_for_kafka"} <= {entry["event"] for entry in entries}


def test_it_can_be_suspended_and_comes_back_whole(opened: Open) -> None:
    terminal = opened(*ENGINE)
    terminal.saw("engine_listening")
    terminal.type("\x1a")
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
    eventually(lambda: terminal.is_restored, "the shell gets the terminal as it was")
    terminal.process.send_signal(signal.SIGCONT)
    eventually(lambda: "engine_listening" in terminal.raw.rpartition(SCREEN)[2], "all is drawn again")
    terminal.type("\x03")
    assert terminal.wait() == 130


def test_it_takes_another_size(opened: Open) -> None:
    terminal = opened(*ENGINE)
    terminal.saw("engine_listening")
    for width, height in ((120, 40), (40, 10), (3, 1), (100, 30)):
        terminal.resize(width, height)
    eventually(lambda: re.search("╰─{98}╯", terminal.text), "the panels are 100 wide")
    terminal.type("\x03")
    assert terminal.wait() == 130


def test_without_a_console_it_needs_no_terminal(opened: Open) -> None:
    terminal = opened(*ENGINE, "--headless")
    terminal.saw("engine listens on port")
    terminal.type("quit\r")
    terminal.type("\x03")
    assert terminal.process.wait(30) == 130
    assert SCREEN not in terminal.raw


def test_a_terminal_that_can_do_nothing_gets_a_prompt(opened: Open) -> None:
    terminal = opened(*ENGINE, term="dumb")
    terminal.saw("> ")
    terminal.type("repair\n")
    terminal.saw("error: nothing is faulty")
    terminal.type("quit\n")
    assert terminal.process.wait(30) == 0
    assert SCREEN not in terminal.raw


def test_a_terminal_that_is_not_read_does_not_hold_the_program_up(opened: Open, tmp_path: Path) -> None:
    """As on a connection that hangs: the program goes on, and ends when it is told to."""
    terminal = opened(*ENGINE, "--port-file", "port", stderr=tmp_path / "log")
    terminal.saw("engine_listening")
    terminal.hang()
    for _ in range(20):
        terminal.resize(100, 30)
        terminal.resize(80, 24)
    with socket.create_connection(("127.0.0.1", int((tmp_path / "port").read_text()))) as connection:
        connection.settimeout(20)
        connection.sendall(b"nonsense\n")
        assert b"bad_json" in connection.recv(1000)
    terminal.process.terminate()
    assert terminal.process.wait(30) == 143


def test_a_driver_sees_that_central_is_away_and_that_it_is_back(world: World, opened: Open) -> None:
    central = world.central()
    world.charge_point("CP001", central)
    terminal = opened("driver", "ana", "--kafka", world.kafka)
    terminal.saw("1 of 1 free")
    central.signal(signal.SIGSTOP)
    eventually(lambda: "! Central does not answer" in terminal.text, "it says that Central is away", 5)
    central.signal(signal.SIGCONT)
    terminal.type("list\r")
    terminal.saw("charge point  location  state   free  price/kWh  up to")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_a_driver_charges_in_a_terminal(world: World, opened: Open) -> None:
    central = world.central()
    world.charge_point("CP001", central, "--location", "Harbour, bay 1", engine=("--time-scale", "600"))
    terminal = opened("driver", "ana", "--kafka", world.kafka)
    terminal.saw("DriverCLI")
    terminal.saw("Harbour, bay 1")
    terminal.type("charge CP\t 0.5\r")
    terminal.saw("> charge CP001 0.5")
    terminal.saw("accepted: CP001 for 0.30 EUR/kWh")
    terminal.saw("CP001: completed (target_reached), 0.500 kWh x 0.30 = 0.15 EUR")
    terminal.saw("1 charge, 0.500 kWh, 0.15 EUR")
    terminal.type("\x04")
    assert terminal.wait() == 0

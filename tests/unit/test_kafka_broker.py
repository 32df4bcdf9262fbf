"""What scripts/kafka_broker.py does without a broker; that it can run one, every test in tests/e2e shows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kafka_broker import Broker, BrokerError, free_port, java_major, server_properties


@pytest.mark.parametrize(
    ("version_output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ('java version "1.8.0_441"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xss1m\nopenjdk version "11.0.2" 2019-01-15', 11),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", 0),
        ("", 0),
    ],
)
def test_java_major(version_output: str, major: int) -> None:
    assert java_major(version_output) == major


def settings_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_broker_listens_on_the_given_address_only() -> None:
    settings = settings_of(server_properties("127.0.0.1", 9092, 9093))
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:9093"


def test_a_way_in_tells_its_clients_the_address_of_the_proxy_before_it() -> None:
    settings = settings_of(server_properties("127.0.0.1", 9092, 9093, {"ENGINE": (9100, 9200)}))
    assert settings["listeners"].endswith(",ENGINE://127.0.0.1:9100")
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092,ENGINE://127.0.0.1:9200"
    assert "advertised.listeners" not in settings_of(server_properties("127.0.0.1", 9092, 9093))


def test_only_central_creates_topics() -> None:
    assert settings_of(server_properties("127.0.0.1", 9092, 9093))["auto.create.topics.enable"] == "false"


def test_a_folder_tells_where_its_broker_listens(tmp_path: Path) -> None:
    for ways in ({}, {"ENGINE": (9102, 9103)}):
        (tmp_path / "server.properties").write_text(server_properties("localhost", 9100, 9101, ways))
        broker = Broker.of(tmp_path)
        assert broker is not None
        assert broker.bootstrap == "localhost:9100"


@pytest.mark.parametrize("settings", [None, "", "listeners=nonsense"])
def test_a_folder_without_a_broker_is_told_apart(tmp_path: Path, settings: str | None) -> None:
    if settings is not None:
        (tmp_path / "server.properties").write_text(settings)
    assert Broker.of(tmp_path) is None


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    "content",
    [f"{os.getpid()}\n", f"{dead_process()}\n", "", "half a numb"],
    ids=["another program", "nobody", "nothing", "half a number"],
)
def test_a_stale_pid_file_is_no_broker(tmp_path: Path, content: str) -> None:
    (tmp_path / "broker.pid").write_text(content)
    assert Broker(tmp_path, 9092).pid is None


def test_to_stop_what_does_not_run_is_no_error_and_harms_no_other_process(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "broker.pid").write_text(f"{other.pid}\n")
    Broker(tmp_path, 9092).stop()
    Broker(tmp_path, 9092).kill()
    other.communicate(b"\n")
    assert other.returncode == 0


def test_a_port_of_another_program_is_named_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"Port {port} is used by another program"):
            Broker(tmp_path, port).start()


def test_whoever_does_not_speak_kafka_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    assert not Broker(tmp_path, port).is_ready()

    def refuse() -> None:
        with web_server.accept()[0] as connection:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", port)) as web_server:
        answer = threading.Thread(target=refuse)
        answer.start()
        assert not Broker(tmp_path, port).is_ready()
        answer.join()


def test_free_ports_differ_and_are_free() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()

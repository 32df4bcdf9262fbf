"""Central's door for Monitors, as it is attacked: real processes, real sockets, certificates made here."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from harness import World, eventually
from test_charging import FAST


class Caller:
    """Somebody at Central's port, line by line."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")

    def say(self, kind: str, **fields: Any) -> None:
        head = {"type": kind, "message_id": str(uuid.uuid4()), "timestamp": datetime.now(UTC).isoformat()}
        self._sock.sendall(json.dumps(head | fields).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """The next line; empty at the end of the connection."""
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            return {}
        return dict(json.loads(line)) if line else {}

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.say(kind, **fields)
        return self.hear()


@contextmanager
def calling(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Caller]:
    """From the address `host`, one of this machine's own."""
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(host, 0)) as sock:
        if tls is None:
            yield Caller(sock)
        else:
            with tls.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped:
                yield Caller(wrapped)


def key_of(world: World, name: str, kind: str = "cp") -> str:
    """That of a charge point, or a driver, added now."""
    program = world.start(f"add-{name}", kind, "add", name, "--db", "evcharge.db")
    assert program.wait() == 0, program.log
    return program.output.strip()


def errors_counted(world: World, central: Any, code: str) -> float:
    """What /metrics says of this code."""
    client = world.operator(central, f"prom-{uuid.uuid4().hex[:8]}")
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f'evcharge_errors_total{{code="{code}"}}'):
            return float(line.split()[-1])
    return 0.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(option_cert: tuple[Path, Path]) -> tuple[str, ...]:
    cert, key = option_cert
    return ("--tls-cert", str(cert), "--tls-key", str(key))


# TLS


def test_a_charge_over_tls_with_client_certificates(world: World, authority: Authority) -> None:
    """Keys and certificates on both sides, an id with `:` and `_`; who has another's certificate stays outside."""
    strict = ("--tls-client-ca", str(authority.pem))
    central = world.central(*files(authority.issue("central", "127.0.0.1")), *strict, open_registration=False)
    key = key_of(world, "BAY_1:2")
    engine = world.engine(*FAST)
    trusts = ("--tls-ca", str(authority.pem), "--key", key)
    own = files(authority.issue("own", common_name="BAY_1:2"))
    world.monitor("BAY_1:2", engine.port, central.port, *trusts, *own)
    world.until_status("BAY_1:2", "ACTIVE")
    as_ana = ("--key", key_of(world, "ana", "drivers"))
    assert world.ask("ana", "charge", "BAY_1:2", "--energy", "0.1", "--wait", *as_ana)["energy_wh"] == 100

    for name in ("monitor", "central"):
        traced = (world.folder / f"{name}.trace").read_text()
        assert '"type":"auth_request"' in traced
        assert '"key":"***"' in traced
        assert key not in traced

    other = files(authority.issue("other", common_name="BAY_1:3"))
    thief = world.monitor("BAY_1:2", world.engine(name="e2").port, central.port, *trusts, *other, name="thief")
    eventually(lambda: "the client certificate is not that of BAY_1:2" in thief.log, thief.log)
    nameless = world.monitor("BAY_1:2", world.engine(name="e3").port, central.port, *trusts, name="nameless")
    eventually(lambda: "it requires a certificate of ours" in nameless.log, nameless.log)
    assert world.status("BAY_1:2") == "ACTIVE"
    assert errors_counted(world, central, "authentication_failed") >= 1
    assert errors_counted(world, central, "tls_failed") >= 1


def test_a_monitor_without_tls_and_one_that_trusts_another_say_so_in_one_sentence(
    world: World, authority: Authority
) -> None:
    central = world.central(*files(authority.issue("central", "127.0.0.1")))
    engine = world.engine()
    plain = world.monitor("CP001", engine.port, central.port, name="plain")
    eventually(lambda: "this port speaks TLS; connect with TLS (a Monitor: --tls-ca)" in plain.log, plain.log)
    wrong = ("--tls-ca", str(Authority(world.folder, "wrong").pem))
    deceived = world.monitor("CP002", world.engine(name="e2").port, central.port, *wrong, name="deceived")
    eventually(lambda: "its certificate is refused: unable to get local issuer" in deceived.log, deceived.log)
    eventually(lambda: "tls_required" in central.log and "tls_failed" in central.log, central.log)
    good = world.monitor(
        "CP003", world.engine(name="e3").port, central.port, "--tls-ca", str(authority.pem), name="good"
    )
    world.until_status("CP003", "ACTIVE")
    assert plain.process.poll() is deceived.process.poll() is good.process.poll() is None
    for program in (plain, deceived, central):
        assert "Traceback" not in program.log


def test_a_monitor_with_tls_at_a_central_without_says_so(world: World, authority: Authority) -> None:
    central = world.central()
    monitor = world.monitor("CP001", world.engine().port, central.port, "--tls-ca", str(authority.pem))
    eventually(lambda: "it answers without TLS: this port speaks no TLS" in monitor.log, monitor.log)


def test_a_file_that_cannot_be_used_ends_the_program_with_a_sentence(world: World, authority: Authority) -> None:
    cert, key = authority.issue("central", "127.0.0.1")
    _, other = authority.issue("other", "127.0.0.1")
    cases = [
        (3, ("central", *files((cert, other))), f"--tls-key {other} is not the key of --tls-cert {cert}"),
        (2, ("central", "--tls-cert", str(cert)), "--tls-cert and --tls-key go together"),
        (3, ("fleet", "--count", "1", "--tls-ca", str(key)), f"--tls-ca {key} holds no certificate in PEM format"),
    ]
    for number, (code, arguments, sentence) in enumerate(cases):
        program = world.start(f"bad-{number}", *arguments)
        assert program.wait() == code
        assert sentence in program.log
        assert program.log.count("\n") == 1


# Keys


def test_who_has_not_authenticated_replaces_nobody(world: World) -> None:
    """A second connection takes the first one's place once it has shown the key, and not before."""
    central = world.central(open_registration=False)
    key = key_of(world, "CP001")
    registration = {"location": "A", "price_per_kwh": "0.30", "currency": "EUR", "max_power_w": 22000}
    with calling(central.port) as owner:
        assert owner.ask("auth_request", cp_id="CP001", key=key)["accepted"]
        assert owner.ask("register_request", cp_id="CP001", **registration)["accepted"]
        with calling(central.port) as thief:
            assert thief.ask("register_request", cp_id="CP001", **registration)["code"] == "not_authenticated"
            assert thief.ask("auth_request", cp_id="CP001", key="guess")["code"] == "authentication_failed"
            assert thief.hear()["code"] == "authentication_failed"
            assert thief.hear() == {}
        assert owner.ask("heartbeat_request", cp_id="CP001")["type"] == "heartbeat_response"
        with calling(central.port) as again:
            assert again.ask("auth_request", cp_id="CP001", key=key)["accepted"]
            assert owner.ask("heartbeat_request", cp_id="CP001")["type"] == "heartbeat_response"
            assert again.ask("register_request", cp_id="CP001", **registration)["accepted"]
            assert owner.hear()["code"] == "connection_replaced"


def test_wrong_keys_soon_wait_and_a_right_one_never_does(world: World) -> None:
    central = world.central(open_registration=False)
    keys = {cp_id: key_of(world, cp_id) for cp_id in ("CP001", "CP002")}

    def attempt(cp_id: str, key: str, host: str = "127.0.0.1") -> dict[str, Any]:
        with calling(central.port, host) as caller:
            return caller.ask("auth_request", cp_id=cp_id, key=key)

    codes = [attempt("CP001", f"guess {number}")["code"] for number in range(5)]
    assert codes == ["authentication_failed"] * 5
    held_back = attempt("CP001", "guess")
    assert held_back["code"] == "too_many_failures"
    assert "try again in 1 s" in held_back["reason"]
    assert attempt("CP002", keys["CP002"])["accepted"]
    assert attempt("CP001", keys["CP001"])["accepted"]
    assert errors_counted(world, central, "too_many_failures") >= 1
    assert central.log.count("authentication_held_back") == 1


def test_a_monitor_with_a_wrong_key_holds_back(world: World) -> None:
    central = world.central(open_registration=False)
    key_of(world, "CP001")
    monitor = world.monitor("CP001", world.engine().port, central.port, "--key", "wrong")
    eventually(lambda: "too many failures to authenticate" in monitor.log, monitor.log)
    told = [line for line in monitor.log.splitlines() if "central_refuses_charge_point" in line]
    assert any("there is no charge point CP001, or its key is another" in line for line in told)


# Crowds


def test_an_address_with_too_many_connections_holds_up_no_other(world: World) -> None:
    central = world.central("--max-connections-per-address", "3")
    with calling(central.port), calling(central.port), calling(central.port):
        with calling(central.port) as fourth:
            assert fourth.hear()["code"] == "too_many_connections"
            assert fourth.hear() == {}
        with calling(central.port, "127.0.0.2") as other:
            assert other.ask("auth_request", cp_id="CP001", key="")["accepted"]
    world.charge_point("CP002", central)
    assert errors_counted(world, central, "too_many_connections") >= 1


def test_an_engine_takes_no_crowd_and_warns_when_others_can_reach_it(world: World) -> None:
    engine = world.engine("--host", "0.0.0.0")
    assert "engine_exposed" in engine.log
    with ExitStack() as crowd:
        for _ in range(17):
            crowd.enter_context(calling(engine.port))
        with calling(engine.port) as late:
            assert late.hear()["code"] == "too_many_connections"
    silent = world.engine(name="local")
    assert "engine_exposed" not in silent.log
    with calling(silent.port) as nobody:
        assert nobody.hear()["code"] == "not_registered"
        assert nobody.hear() == {}

"""The operators' interface as a stranger at its port meets it, at the running Central."""

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import httpx
from certificates import Authority
from harness import World, eventually
from test_operators import ok, problem

from evcharge.central.http_access import STREAMS_EACH
from evcharge.central.http_door import REQUESTS_AT_ONCE


def counted(operator: httpx.Client, status: int) -> float:
    """How many answers had this status."""
    name = f'evcharge_http_answers_total{{status="{status}"}} '

    def page() -> str | None:
        answer = operator.get("/metrics")
        return answer.text if answer.status_code == 200 else None

    lines = eventually(page, "the rate admits us").splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_stranger_gets_little_and_every_refusal_is_counted(world: World) -> None:
    central = world.central()
    operator = world.operator(central)
    stranger = world.http(central, "guess")
    ok(operator.get("/v1/totals"))
    assert problem(world.http(central).get("/v1/totals"), 401) == "not_authenticated"
    answers = [stranger.get("/v1/totals").status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    # 127.0.0.1 is also where the operator asks from, who is at work already.
    ok(operator.get("/v1/totals"))
    large = operator.post("/v1/drivers", json={"driver_id": "a" * 20_000})
    assert problem(large, 413) == "too_large"
    headers = operator.get("/v1/totals").headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    eventually(lambda: [stranger.get("/").status_code for _ in range(50)][-1] == 429, "the rate is limited")
    assert operator.get("/healthz").status_code == 200
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as elsewhere:
        url = f"{operator.base_url}/v1/totals"
        ok(elsewhere.get(url, headers={"Authorization": operator.headers["Authorization"]}))
    eventually(lambda: operator.get("/v1/totals").status_code == 200, "and admits again")
    assert counted(operator, 401) >= 11
    assert counted(operator, 413) == 1
    assert counted(operator, 429) > 1
    assert central.log.count('"wrong_tokens"') == 1
    assert "guess" not in central.log
    assert REQUESTS_AT_ONCE > 50


def test_streams_are_few_for_one_token_and_a_place_comes_back(world: World) -> None:
    central = world.central()
    viewer, operator = world.http(central, world.token("eve", "viewer")), world.operator(central)
    with ExitStack() as streams:
        for _ in range(STREAMS_EACH):
            stream = streams.enter_context(viewer.stream("GET", "/v1/events"))
            assert stream.status_code == 200
        assert problem(viewer.get("/v1/events"), 429) == "too_many_requests"
        with operator.stream("GET", "/v1/events") as other:
            assert other.status_code == 200

    def there_is_room() -> bool:
        with viewer.stream("GET", "/v1/events") as stream:
            return stream.status_code == 200

    eventually(there_is_room, "a stream that ended has left its place")


def test_noise_at_the_port_harms_nobody_and_is_no_log(world: World) -> None:
    central = world.central()
    operator = world.operator(central)
    for noise in (
        b"\x16\x03\x01\x00\xff" * 100,
        b"\x00" * 5000,
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/1.1\r\n\x1b[2J: x\r\n",
    ):
        with socket.create_connection(("127.0.0.1", central.http_port)) as peer:
            peer.sendall(noise)
            assert b"400" in peer.recv(1000)
    ok(operator.get("/v1/totals"))
    assert counted(operator, 400) == 4
    assert all(line.startswith("{") for line in central.log.splitlines())


def test_operators_come_by_tls_and_trust_nobody_else(world: World, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    cert, key = authority.issue("central", "127.0.0.1")
    options = ("--http", "127.0.0.1:0", "--http-tls-cert", str(cert), "--http-tls-key", str(key))
    central = world.central(*options)
    url, token = f"https://127.0.0.1:{central.http_port}", world.token("maria")

    def admin(url: str, *arguments: str) -> tuple[int, str]:
        name = f"admin-{len(world.programs)}"
        program = world.start(name, "admin", "--url", url, *arguments, "totals", env={"EVCHARGE_TOKEN": token})
        return program.wait(), program.output + program.log

    code, said = admin(url, "--tls-ca", str(authority.pem))
    assert code == 0, said
    for arguments in ((), ("--tls-ca", str(stranger.pem))):
        code, said = admin(url, *arguments)
        assert (code, said.count("\n")) == (3, 1), said
        assert "certificate verify failed" in said
        assert said.endswith("give --tls-ca who has signed its certificate\n")
    code, said = admin(url.replace("https", "http"))
    assert (code, said.count("\n")) == (3, 1), said
    assert said.endswith("perhaps it speaks HTTPS\n")
    code, said = admin(url.replace("https", "http"), "--tls-ca", str(authority.pem))
    assert (code, said.count("\n")) == (2, 1), said
    context = ssl.create_default_context(cafile=authority.pem)
    with httpx.Client(base_url=url, verify=context) as client:
        health = client.get("/healthz")
        assert "max-age" in health.headers["strict-transport-security"]
    with socket.create_connection(("127.0.0.1", central.http_port)) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in plain.recv(1000)
    assert "http_not_encrypted" not in central.log
    assert all(line.startswith("{") for line in central.log.splitlines())


def test_files_that_are_none_are_one_sentence(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("central", "127.0.0.1")
    other = authority.issue("other", "127.0.0.1")[1]
    for number, (files, code, reason) in enumerate(
        [
            (("--http-tls-cert", str(cert)), 2, "--http-tls-cert and --http-tls-key go together"),
            (("--http-tls-cert", str(cert), "--http-tls-key", str(other)), 3, "is not the key of --http-tls-cert"),
            (
                ("--http-tls-cert", "no.pem", "--http-tls-key", str(key)),
                3,
                "--http-tls-cert no.pem cannot be read",
            ),
        ]
    ):
        program = world.start(f"central{number}", "central", "--port", "0", "--kafka", "127.0.0.1:1", *files)
        assert program.wait() == code
        assert reason in program.log
        assert program.log.count("\n") == 1


def test_without_tls_beyond_this_machine_the_log_warns(world: World) -> None:
    central = world.central("--http", "0.0.0.0:0")
    assert central.log.count('"http_not_encrypted"') == 1

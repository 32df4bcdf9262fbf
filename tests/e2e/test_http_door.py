"""The operators' interface as a stranger at its port meets it, at the running Central."""

import socket
from contextlib import ExitStack

import httpx
from harness import World, eventually
from test_operators import ok, problem

from evcharge.central.http_access import STREAMS_EACH
from evcharge.central.http_door import REQUESTS_AT_ONCE


def counted(operator: httpx.Client, status: int) -> float:
    """How many answers had this status."""
    name = f'evcharge_http_answers_total{{status="{status}"}} '
    lines = operator.get("/metrics").text.splitlines()
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

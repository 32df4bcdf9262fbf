"""The proxy does to connections what it says: a break that breaks nothing would prove nothing."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from proxy import Proxy, Shuffled, Twice

from kafka_broker import free_port

TIMEOUT_S = 5.0
UNHEARD_S = 0.3


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo(peer: socket.socket) -> None:
            with peer:
                try:
                    while data := peer.recv(65_536):
                        peer.sendall(data)
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        proxy = Proxy(server.getsockname()[1], free_port())
        yield proxy
        proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S)


def says(peer: socket.socket, data: bytes = b"hello\n") -> bytes:
    """What comes back."""
    peer.sendall(data)
    return peer.recv(65_536)


def is_deaf(peer: socket.socket) -> bool:
    peer.settimeout(UNHEARD_S)
    try:
        says(peer)
    except TimeoutError:
        return True
    finally:
        peer.settimeout(TIMEOUT_S)
    return False


def test_it_carries(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        assert says(peer) == b"hello\n"


def test_a_cut_resets_old_and_new_connections_until_it_is_healed(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        says(peer)
        proxy.reset()
        with pytest.raises(ConnectionError):
            says(peer)
    with pytest.raises(ConnectionError), connect(proxy) as peer:
        says(peer)
    proxy.heal()
    with connect(proxy) as peer:
        assert says(peer) == b"hello\n"


def test_half_open_nobody_hears_and_nobody_is_told_but_new_connections_work(proxy: Proxy) -> None:
    with connect(proxy) as old, connect(proxy) as new:
        says(old)
        proxy.open_half()
        assert is_deaf(old)
        new.close()
        with connect(proxy) as newer:
            assert says(newer) == b"hello\n"


def test_what_stalls_comes_late_and_whole(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        says(peer)
        proxy.stall()
        assert is_deaf(peer)
        proxy.heal()
        assert peer.recv(65_536) == b"hello\n"


def test_each_line_comes_twice_in_each_direction(proxy: Proxy) -> None:
    proxy.carry_as(Twice)
    with connect(proxy) as peer:
        peer.sendall(b"a\nb")
        peer.shutdown(socket.SHUT_WR)
        assert peer.makefile("rb").read() == b"a\n" * 4 + b"b"


def test_readings_change_places_and_all_else_keeps_its_order(proxy: Proxy) -> None:
    readings = [json.dumps({"type": "charging_data", "seq": seq}).encode() for seq in range(40)]
    others = [b'{"type": "status_update", "n": %d}' % n for n in range(40)]
    lines = [line for pair in zip(readings, others, strict=True) for line in pair]
    proxy.carry_as(Shuffled)
    with connect(proxy) as peer:
        peer.sendall(b"\n".join(lines) + b"\n")
        peer.shutdown(socket.SHUT_WR)
        back = peer.makefile("rb").read().splitlines()
    assert [line for line in back if line in others] == others
    came = [line for line in back if line in readings]
    assert set(came) == set(readings)
    assert came != sorted(came, key=readings.index)

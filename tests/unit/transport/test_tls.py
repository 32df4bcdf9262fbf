"""TLS on a link, over real sockets: who is let in, who is not and why, and what the files must be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from links import (
    HOST,
    LOOPS,
    Client,
    Recorder,
    Run,
    answer_beats,
    beat,
    on_the_programs_loop,
    raw_client,
    read_message,
    runner,
    serving,
)

from evcharge.errors import ConnectionReplaced, TlsFailed, TlsRequired, TlsUnusable, UsageError
from evcharge.protocol.messages import encode
from evcharge.transport import tcp, tls
from evcharge.transport.tls import TlsEnd, client_context, server_context


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return runner(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    return Authority(folder, "other-ca")


def must(context: ssl.SSLContext | None) -> ssl.SSLContext:
    assert context is not None
    return context


@pytest.fixture(scope="module")
def server(authority: Authority) -> ssl.SSLContext:
    return must(server_context(*authority.issue("central", HOST, "localhost"), None))


@pytest.fixture(scope="module")
def strict_server(authority: Authority) -> ssl.SSLContext:
    """One that admits only those whom the authority knows."""
    return must(server_context(*authority.issue("strict", HOST), authority.pem))


@pytest.fixture(scope="module")
def client(authority: Authority) -> ssl.SSLContext:
    return must(client_context(authority.pem, None, None))


# Those who agree


def test_messages_go_both_ways(run: Run[None], server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central, tls=server) as port, Client(port, tls=client).running() as monitor:
            await monitor.until(lambda: monitor.opened)
            batch = [beat(f"CP{number}") for number in range(1000)]
            assert monitor.manager.send(*batch)
            await monitor.until(lambda: len(monitor.received) == 1000)
            assert central.received == batch
            assert central.links[0].certified is None
            monitor.manager.drop(ConnectionReplaced("enough"))
            await central.until(lambda: central.closed)
            assert central.closed == ["the peer closed the connection"]
            await monitor.until(lambda: monitor.opened == 2)

    run(scenario())


def test_nothing_of_a_message_can_be_read_on_the_way(
    run: Run[None], server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    seen = bytearray()

    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central, tls=server) as port:

            async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(65536):
                    seen.extend(data)
                    writer.write(data)
                writer.close()

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                onward = await asyncio.open_connection(HOST, port)
                await asyncio.gather(copy(reader, onward[1]), copy(onward[0], writer))

            wire = await asyncio.start_server(between, HOST, 0)
            async with Client(wire.sockets[0].getsockname()[1], tls=client).running() as monitor:
                await monitor.until(lambda: monitor.opened)
                monitor.manager.send(beat("SECRET-CP"))
                await monitor.until(lambda: monitor.received)
            await central.until(lambda: central.closed)
            wire.close()

    run(scenario())
    assert len(seen) > 500
    assert b"SECRET-CP" not in seen
    assert b"heartbeat" not in seen


@pytest.mark.parametrize("name", ["CP001", "STATION_7:2", "a.b-c"])
def test_a_client_is_who_its_certificate_says(
    run: Run[None], strict_server: ssl.SSLContext, authority: Authority, name: str
) -> None:
    async def scenario() -> None:
        central = Recorder()
        shown = must(client_context(authority.pem, *authority.issue("cp", common_name=name)))
        async with serving(central, tls=strict_server) as port, Client(port, tls=shown).running():
            await central.until(lambda: central.links)
            assert central.links[0].certified == name

    run(scenario())


def test_a_certificate_without_a_cn_names_nobody(
    run: Run[None], strict_server: ssl.SSLContext, authority: Authority
) -> None:
    async def scenario() -> None:
        central = Recorder()
        shown = must(client_context(authority.pem, *authority.issue("cp", "cp.example")))
        async with serving(central, tls=strict_server) as port, Client(port, tls=shown).running():
            await central.until(lambda: central.links)
            assert central.links[0].certified == ""

    run(scenario())


def test_why_a_link_was_closed_reaches_the_peer(
    run: Run[None], server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central, tls=server) as port, Client(port, tls=client).running() as monitor:
            await central.until(lambda: central.links)
            central.links[0].close(ConnectionReplaced("CP001 has connected anew"))
            await monitor.until(lambda: monitor.closed)
            assert [getattr(message, "code", None) for message in monitor.received] == ["connection_replaced"]

    run(scenario())


# Those who do not


def test_who_speaks_no_tls_is_told_so_and_harms_nobody(
    run: Run[None], server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central, tls=server) as port:
            for line in (encode(beat()) + b"\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff"):
                async with raw_client(port) as (reader, writer):
                    writer.write(line)
                    error = await read_message(reader)
                    assert (error["code"], error["in_reply_to"]) == ("tls_required", None)
                    assert "this port speaks TLS" in error["reason"]
                    assert await reader.read() == b""
            await central.until(lambda: len(central.failed) == 3)
            assert {type(error) for error in central.failed} == {TlsRequired}
            assert not central.links
            assert not central.received
            async with Client(port, tls=client).running() as monitor:
                await monitor.until(lambda: monitor.opened)

    run(scenario())


def test_a_client_with_tls_at_a_port_without_says_so(run: Run[None], client: ssl.SSLContext) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, Client(port, tls=client).running() as monitor:
            await monitor.until(lambda: monitor.failed)
            assert "it answers without TLS: this port speaks no TLS" in monitor.failed[0]
            assert monitor.opened == 0
            assert isinstance(central.garbled[0], TlsFailed)
            await central.until(lambda: central.closed)

    run(scenario())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"{}\n", b"\xff\n"])
def test_a_server_that_speaks_something_else_is_no_peer(
    run: Run[None], client: ssl.SSLContext, answer: bytes
) -> None:
    async def scenario() -> None:
        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)

        other_server = await asyncio.start_server(other, HOST, 0)
        async with Client(other_server.sockets[0].getsockname()[1], tls=client).running() as monitor:
            await monitor.until(lambda: monitor.failed)
            assert monitor.failed[0].endswith(": it answers without TLS")
        other_server.close()

    run(scenario())


def test_a_server_that_somebody_else_has_signed_is_refused(
    run: Run[None], server: ssl.SSLContext, stranger: Authority
) -> None:
    async def scenario() -> None:
        central = Recorder()
        trusting_others = must(client_context(stranger.pem, None, None))
        async with serving(central, tls=server) as port, Client(port, tls=trusting_others).running() as monitor:
            await monitor.until(lambda: monitor.failed)
            assert "no TLS: its certificate is refused: unable to get local issuer" in monitor.failed[0]
            await central.until(lambda: central.failed)
            assert "it does not trust who has signed our certificate" in str(central.failed[0])
            assert central.links == []
            assert monitor.opened == 0

    run(scenario())


def test_a_server_under_another_name_is_refused(
    run: Run[None], authority: Authority, client: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        elsewhere = must(server_context(*authority.issue("elsewhere", "central.example"), None))
        async with (
            serving(Recorder(), tls=elsewhere) as port,
            Client(port, tls=client).running() as monitor,
        ):
            await monitor.until(lambda: monitor.failed)
            assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in monitor.failed[0]

    run(scenario())


def test_an_expired_certificate_is_refused(run: Run[None], authority: Authority, client: ssl.SSLContext) -> None:
    async def scenario() -> None:
        expired = must(server_context(*authority.issue("expired", HOST, not_after=datetime(2020, 1, 1)), None))
        async with serving(Recorder(), tls=expired) as port, Client(port, tls=client).running() as monitor:
            await monitor.until(lambda: monitor.failed)
            assert "certificate has expired" in monitor.failed[0]

    run(scenario())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_no_certificate_where_one_is_required_is_refused(
    run: Run[None], strict_server: ssl.SSLContext, authority: Authority, version: ssl.TLSVersion
) -> None:
    async def scenario() -> None:
        central = Recorder()
        nameless = must(client_context(authority.pem, None, None))
        nameless.maximum_version = version
        async with serving(central, tls=strict_server) as port, Client(port, tls=nameless).running() as monitor:
            await central.until(lambda: central.failed)
            assert str(central.failed[0]) == "no TLS: it showed no certificate"
            await monitor.until(lambda: monitor.closed or monitor.failed)
            assert "it requires a certificate" in (monitor.closed + monitor.failed)[0].replace("perhaps ", "")
            assert central.links == []

    run(scenario())


def test_a_client_that_somebody_else_has_signed_is_refused(
    run: Run[None], strict_server: ssl.SSLContext, authority: Authority, stranger: Authority
) -> None:
    async def scenario() -> None:
        central = Recorder()
        forged = must(client_context(authority.pem, *stranger.issue("forged", common_name="CP001")))
        async with serving(central, tls=strict_server) as port, Client(port, tls=forged).running() as monitor:
            await central.until(lambda: central.failed)
            assert "its certificate is refused" in str(central.failed[0])
            await monitor.until(lambda: monitor.closed)
            assert "it does not trust who has signed our certificate" in monitor.closed[0]
            assert not central.links
            assert not central.received

    run(scenario())


def test_older_versions_are_refused(run: Run[None], server: ssl.SSLContext) -> None:
    async def scenario() -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        central = Recorder()
        async with serving(central, tls=server) as port:
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection(HOST, port, ssl=old)
            await central.until(lambda: central.failed)
            assert "ours are 1.2 and 1.3" in str(central.failed[0])

    with pytest.warns(DeprecationWarning, match="TLSv1"):
        run(scenario())


@on_the_programs_loop
def test_a_handshake_that_never_ends_is_cut_off(
    run: Run[None], server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT_S", 0.1)

    async def scenario() -> None:
        central = Recorder()
        async with (
            serving(central, tls=server) as port,
            raw_client(port) as (silent, _),
            raw_client(port) as (half, writer),
        ):
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            await central.until(lambda: len(central.failed) == 2)
            assert all("no TLS handshake with" in str(error) for error in central.failed)
            assert await silent.read() == await half.read() == b""
            assert central.links == []

    run(scenario())


def test_a_peer_that_leaves_in_the_handshake_is_one_that_failed(run: Run[None], server: ssl.SSLContext) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central, tls=server) as port:
            async with raw_client(port) as (_, writer):
                writer.write(b"\x16\x03\x01\x02\x00\x01")
            await central.until(lambda: central.failed)
            assert str(central.failed[0]) == "no TLS: the peer closed the connection"

    run(scenario())


# The bytes


def handshaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[TlsEnd, TlsEnd]:
    one, other = TlsEnd(client, HOST), TlsEnd(server, None)
    while not (one.established and other.established):
        other.receive(one.to_send())
        one.receive(other.to_send())
    return one, other


def test_any_chunking_gives_the_same_bytes(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    @given(st.lists(st.binary(max_size=40_000), max_size=5), st.lists(st.integers(0, 10**6), max_size=8))
    def check(messages: list[bytes], cuts: list[int]) -> None:
        one, other = handshaken(server, client)
        wire = b"".join(one.encrypt(message) for message in messages) + one.end()
        edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
        assert b"".join(other.receive(wire[a:b]) for a, b in pairwise(edges)) == b"".join(messages)
        assert other.ended

    check()


def test_any_bytes_raise_nothing_but_the_two_errors(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    @given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=5), st.booleans(), st.booleans())
    def check(chunks: list[bytes], as_record: bool, established: bool) -> None:
        end = handshaken(server, client)[1] if established else TlsEnd(server, None)
        try:
            for chunk in chunks:
                end.receive(b"\x16\x03\x01" + chunk if as_record else chunk)
                end.to_send()
        except (TlsFailed, TlsRequired):
            pass

    check()


def test_what_was_changed_on_the_way_is_refused(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    one, other = handshaken(server, client)
    wire = bytearray(one.encrypt(b"pay 1 EUR"))
    wire[-20] ^= 1
    with pytest.raises(TlsFailed, match="TLS has failed: "):
        other.receive(bytes(wire))


# The files


def test_without_files_there_is_no_tls() -> None:
    assert server_context(None, None, None) is None
    assert client_context(None, None, None) is None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda cert, key: server_context(cert, None, None), "--tls-cert and --tls-key go together"),
        (lambda cert, key: server_context(None, key, None), "--tls-cert and --tls-key go together"),
        (lambda cert, key: server_context(None, None, cert), "--tls-client-ca needs --tls-cert and --tls-key"),
        (lambda cert, key: client_context(None, cert, key), "--tls-cert needs --tls-ca"),
        (lambda cert, key: client_context(cert, cert, None), "--tls-cert and --tls-key go together"),
    ],
)
def test_options_that_make_no_sense_alone_are_one_sentence(
    authority: Authority, make: Callable[[Path, Path], object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        make(*authority.issue("files", HOST))


def test_files_that_cannot_be_used_are_one_sentence(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("good", HOST)
    other_cert, other_key = authority.issue("other", HOST)
    missing, folder, empty, broken, locked = (tmp_path / name for name in ("missing", "folder", "empty", "x", "y"))
    folder.mkdir()
    empty.touch()
    broken.write_text("-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: server_context(missing, key, None), f"--tls-cert {missing} cannot be read: No such file"),
        (lambda: server_context(cert, folder, None), f"--tls-key {folder} cannot be read: Is a directory"),
        (lambda: server_context(empty, key, None), f"--tls-cert {empty} holds no certificate in PEM format"),
        (lambda: server_context(cert, empty, None), f"--tls-key {empty} holds no private key in PEM format"),
        (lambda: server_context(cert, cert, None), f"--tls-key {cert} holds no private key in PEM format"),
        (
            lambda: server_context(cert, other_key, None),
            f"--tls-key {other_key} is not the key of --tls-cert {cert}",
        ),
        (lambda: server_context(broken, key, None), f"--tls-cert {broken} and --tls-key {key} cannot be used: "),
        (lambda: server_context(cert, locked, None), f"--tls-key {locked} is encrypted"),
        (lambda: server_context(cert, key, missing), f"--tls-client-ca {missing} cannot be read: No such file"),
        (lambda: client_context(missing, None, None), f"--tls-ca {missing} cannot be read: No such file"),
        (lambda: client_context(empty, None, None), f"--tls-ca {empty} holds no certificate in PEM format"),
        (lambda: client_context(broken, None, None), f"--tls-ca {broken} holds no certificate that can be read"),
        (
            lambda: client_context(cert, other_cert, key),
            f"--tls-key {key} is not the key of --tls-cert {other_cert}",
        ),
    ]
    for make, sentence in cases:
        with pytest.raises(TlsUnusable) as caught:
            make()
        assert str(caught.value).startswith(sentence)
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_harm_no_pem_file(authority: Authority, folder: Path) -> None:
    edited = []
    for path in (authority.pem, *authority.issue("edited", HOST)):
        copy = folder / f"edited-{path.name}"
        copy.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip().replace(b"\n", b"\r\n"))
        edited.append(copy)
    ca, cert, key = edited
    assert server_context(cert, key, ca) is not None
    assert client_context(ca, cert, key) is not None


def test_every_reason_that_has_words_of_its_own_is_one_of_openssl() -> None:
    import _ssl

    assert set(tls._REASONS) <= {name for _, name in _ssl.err_codes_to_names.items()}

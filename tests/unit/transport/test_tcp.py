"""Links over real sockets: messages both ways, bad peers told why, connections that come back."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from links import (
    DEADLINE_S,
    HOST,
    LOOPS,
    QUICK,
    Client,
    Recorder,
    Run,
    answer_beats,
    beat,
    capturing_log,
    on_the_programs_loop,
    raw_client,
    read_message,
    runner,
    serving,
    silent_log,
)

from evcharge.errors import (
    AddressInUse,
    ConnectionReplaced,
    LineTooLong,
    PeerTooSlow,
    ReconnectRequested,
    WireError,
)
from evcharge.limits import Places
from evcharge.protocol import messages
from evcharge.protocol.messages import HeartbeatResponse, encode, new_id
from evcharge.transport.tcp import MAX_UNSENT_BYTES, Address, Backoff, serve
from evcharge.transport.trace import Trace


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return runner(request.param)


# Messages


def test_messages_go_both_ways(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened)
            first, second = beat(), beat("CP002")
            assert monitor.manager.send(first, second)
            await monitor.until(lambda: len(monitor.received) == 2)
            assert central.received == [first, second]
            assert [reply.in_reply_to for reply in replies(monitor)] == [first.message_id, second.message_id]

    run(scenario())


def replies(client: Client) -> list[HeartbeatResponse]:
    return [message for message in client.received if isinstance(message, HeartbeatResponse)]


def test_a_batch_of_hundreds_arrives_whole_and_in_order(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        batch = [beat(f"CP{number}") for number in range(500)]
        async with serving(central) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened)
            assert monitor.manager.send(*batch)
            await central.until(lambda: len(central.received) == 500)
            assert central.received == batch

    run(scenario())


def test_a_message_in_pieces_is_one_message(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central) as port, raw_client(port) as (reader, writer):
            message = beat()
            for byte in encode(message) + b"\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
            assert (await read_message(reader))["in_reply_to"] == str(message.message_id)
            assert central.received == [message]

    run(scenario())


def test_the_server_knows_its_peer(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (_, writer):
            await central.until(lambda: central.links)
            assert central.links[0].peer == f"{HOST}:{writer.get_extra_info('sockname')[1]}"
            assert central.links[0].is_open

    run(scenario())


def test_several_peers_do_not_mix(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central) as port, raw_client(port) as one, raw_client(port) as other:
            first, second = beat(), beat()
            one[1].write(encode(first)[:20])
            other[1].write(encode(second) + b"\n")
            assert (await read_message(other[0]))["in_reply_to"] == str(second.message_id)
            one[1].write(encode(first)[20:] + b"\n")
            assert (await read_message(one[0]))["in_reply_to"] == str(first.message_id)

    run(scenario())


def test_the_trace_has_each_frame_of_both_directions(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with (
            serving(central, trace=Trace(tmp_path / "t", silent_log())) as port,
            raw_client(port) as (reader, writer),
        ):
            writer.write(encode(beat()) + b"\nnonsense\n")
            await read_message(reader)
            await read_message(reader)

    run(scenario())
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert [line["direction"] for line in lines] == ["in", "out", "in", "out"]
    assert lines[2]["message"] == "nonsense"
    assert len({line["peer"] for line in lines}) == 1


# Bad peers


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", "bad_json"),
        (b"GET / HTTP/1.1", "bad_json"),
        (b"[]", "bad_json"),
        (b'{"type":"nonsense"}', "unknown_type"),
        (b'{"type":"heartbeat_request"}', "invalid_field"),
        pytest.param(b'{"type":"heartbeat_request","x":' + b"[" * 30_000, "bad_json", id="deep"),
    ],
)
def test_garbage_gets_an_error_and_the_link_lives_on(run: Run[None], line: bytes, code: str) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central) as port, raw_client(port) as (reader, writer):
            good = beat()
            writer.write(line + b"\n" + encode(good) + b"\n")
            error = await read_message(reader)
            assert (error["type"], error["code"], error["in_reply_to"]) == ("error_response", code, None)
            assert error["reason"]
            assert (await read_message(reader))["in_reply_to"] == str(good.message_id)
            assert [problem.code for problem in central.garbled] == [code]
            assert central.closed == []

    run(scenario())


def test_an_error_names_the_message_at_fault(run: Run[None]) -> None:
    async def scenario() -> None:
        at_fault = new_id()
        async with serving(Recorder()) as port, raw_client(port) as (reader, writer):
            writer.write(f'{{"type":"heartbeat_request","message_id":"{at_fault}"}}\n'.encode())
            assert (await read_message(reader))["in_reply_to"] == str(at_fault)

    run(scenario())


def test_a_line_of_a_megabyte_closes_the_connection_with_a_reason_that_the_peer_can_read(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            writer.write(b"x" * 2**20)
            error = await read_message(reader)
            assert error["code"] == "line_too_long"
            assert "65536 bytes" in error["reason"]
            assert await reader.read() == b""
            writer.close()
            await central.until(lambda: central.closed)
            assert isinstance(central.garbled[0], LineTooLong)
            assert central.closed == [error["reason"]]

    run(scenario())


@on_the_programs_loop
def test_a_peer_that_goes_on_sending_after_a_line_too_long_is_cut_off(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            writer.write(b"x" * 2**17)
            assert (await read_message(reader))["code"] == "line_too_long"

            async def go_on() -> None:
                while True:
                    writer.write(encode(beat()) + b"\n" + b"x" * 2**16)
                    await writer.drain()

            sender = asyncio.create_task(go_on())
            await central.until(lambda: central.closed)
            with pytest.raises(ConnectionError):
                await sender
            assert central.received == []
            assert len(central.garbled) == 1

    run(scenario())


def test_a_message_before_a_line_too_long_still_counts(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            message = beat()
            writer.write(encode(message) + b"\n" + b"x" * 70_000 + b"\n" + encode(beat()) + b"\n")
            assert (await read_message(reader))["code"] == "line_too_long"
            assert central.received == [message]

    run(scenario())


def test_a_peer_that_ends_in_mid_line_is_told(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            writer.write(b'{"type":')
            writer.write_eof()
            error = await read_message(reader)
            assert (error["code"], error["reason"]) == (
                "bad_json",
                "the connection was closed in the middle of a line",
            )
            assert await reader.read() == b""
            await central.until(lambda: central.closed == ["the peer closed the connection"])

    run(scenario())


def test_a_peer_that_sends_all_and_then_ends_gets_its_answers(run: Run[None]) -> None:
    """As `nc` does when its input ends."""

    async def scenario() -> None:
        async with serving(Recorder(answer_beats)) as port, raw_client(port) as (reader, writer):
            message = beat()
            writer.write(encode(message) + b"\n")
            writer.write_eof()
            assert (await read_message(reader))["in_reply_to"] == str(message.message_id)
            assert await reader.read() == b""

    run(scenario())


def test_a_peer_that_never_reads_is_dropped(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port:
            with socket.create_connection((HOST, port)):
                await central.until(lambda: central.links)
                (link,) = central.links
                batch = [beat("x" * 64)] * 1000
                size = sum(len(encode(message)) + 1 for message in batch)
                most = 20 * MAX_UNSENT_BYTES // size
                sent = 0
                while link.send(*batch):
                    sent += 1
                    assert link.is_open
                    assert sent < most, "it was never dropped"
                assert sent * size > MAX_UNSENT_BYTES / 2
                assert not link.is_open
                assert not link.send(beat())
                await central.until(lambda: central.closed)
                assert [type(error) for error in central.garbled] == [PeerTooSlow]
                assert central.closed == [str(central.garbled[0])]
                assert link.peer in central.closed[0]

    run(scenario())


def test_a_slow_reader_is_not_dropped_below_the_limit(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, _):
            await central.until(lambda: central.links)
            batch = [beat("x" * 64)] * 1000
            size = sum(len(encode(message)) + 1 for message in batch)
            for _ in range(MAX_UNSENT_BYTES // size):
                assert central.links[0].send(*batch)
            for _ in range(MAX_UNSENT_BYTES // size):
                await reader.readexactly(size)
            assert central.links[0].is_open

    run(scenario())


# Places


def test_one_connection_too_many_is_told_so_and_its_place_comes_back(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central, places=Places(2, 2)) as port, raw_client(port) as first:
            async with raw_client(port) as second:
                await central.until(lambda: len(central.links) == 2)
                async with raw_client(port) as (reader, writer):
                    writer.write(encode(beat()) + b"\n")
                    assert (await read_message(reader))["code"] == "too_many_connections"
                    assert await reader.read() == b""
                await central.until(lambda: central.failed)
                for reader, writer in (first, second):
                    writer.write(encode(beat()) + b"\n")
                    assert (await read_message(reader))["type"] == "heartbeat_response"
            await central.until(lambda: central.closed)
            async with raw_client(port) as (reader, writer):
                writer.write(encode(beat()) + b"\n")
                assert (await read_message(reader))["type"] == "heartbeat_response"

    run(scenario())


# Pausing


def test_a_paused_link_takes_nothing_until_it_is_resumed(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder(answer_beats)
        async with serving(central) as port, raw_client(port) as paused, raw_client(port) as witness:
            await central.until(lambda: len(central.links) == 2)
            (link,) = [link for link in central.links if link.peer.endswith(f":{port_of_writer(paused[1])}")]
            link.pause()
            link.pause()
            first, second = beat(), beat()
            paused[1].write(encode(first) + b"\n")
            await paused[1].drain()
            witness[1].write(encode(second) + b"\n")
            await read_message(witness[0])
            assert central.received == [second]
            link.resume()
            link.resume()
            assert (await read_message(paused[0]))["in_reply_to"] == str(first.message_id)
            assert central.received == [second, first]

    run(scenario())


def port_of_writer(writer: asyncio.StreamWriter) -> int:
    return int(writer.get_extra_info("sockname")[1])


def test_a_paused_link_still_sends(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, _):
            await central.until(lambda: central.links)
            central.links[0].pause()
            message = beat()
            assert central.links[0].send(message)
            assert (await read_message(reader))["message_id"] == str(message.message_id)

    run(scenario())


@pytest.mark.parametrize("error", [None, ConnectionReplaced("enough")], ids=["closed", "told why"])
def test_to_pause_and_resume_a_link_that_has_ended_does_nothing(run: Run[None], error: WireError | None) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            await central.until(lambda: central.links)
            (link,) = central.links
            link.close(error)
            for change in (link.pause, link.resume, link.resume):
                change()
            await reader.read()
            writer.close()
            await central.until(lambda: central.closed)
            for change in (link.pause, link.resume):
                change()

    run(scenario())


# Closing


def test_a_link_that_is_closed_tells_the_peer_why(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, writer):
            await central.until(lambda: central.links)
            central.links[0].close(ConnectionReplaced("CP001 has connected anew"))
            central.links[0].close(ConnectionReplaced("said twice"))
            error = await read_message(reader)
            assert (error["code"], error["reason"]) == ("connection_replaced", "CP001 has connected anew")
            assert await reader.read() == b""
            assert not central.links[0].send(beat())
            writer.close()
            await central.until(lambda: central.closed == ["CP001 has connected anew"])

    run(scenario())


@on_the_programs_loop
def test_a_link_that_is_closed_for_a_reason_ends_even_if_the_peer_does_not(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (_, writer):
            await central.until(lambda: central.links)
            central.links[0].close(ConnectionReplaced("enough"))
            await central.until(lambda: central.closed == ["enough"])
            assert not writer.is_closing()

    run(scenario())


def test_what_was_sent_before_a_close_arrives(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, raw_client(port) as (reader, _):
            await central.until(lambda: central.links)
            message = beat()
            central.links[0].send(message)
            central.links[0].close()
            assert (await read_message(reader))["message_id"] == str(message.message_id)
            assert await reader.read() == b""
            await central.until(lambda: central.closed == ["closed by this side"])

    run(scenario())


# Listening


def test_a_port_in_use_is_one_clear_sentence(run: Run[None]) -> None:
    async def scenario() -> None:
        with socket.create_server((HOST, 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(AddressInUse) as caught:
                await serve(Recorder(), HOST, port, None)
            assert str(caught.value).startswith(f"cannot listen on {HOST}:{port}: ")
            assert "address already in use" in str(caught.value).lower()
            assert "\n" not in str(caught.value)

    run(scenario())


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("192.0.2.1", 0),  # TEST-NET: nobody's address
        ("no-such-host.invalid", 0),
        pytest.param("a" * 64 + ".invalid", 0, id="label-too-long"),
    ],
)
def test_an_address_that_is_not_ours_is_one_clear_sentence(run: Run[None], host: str, port: int) -> None:
    async def scenario() -> None:
        with pytest.raises(AddressInUse, match=f"cannot listen on {host}:{port}: ."):
            await serve(Recorder(), host, port, None)

    run(scenario())


@pytest.mark.parametrize(
    ("address", "text"), [(Address("localhost", 5000), "localhost:5000"), (Address("::1", 5000), "[::1]:5000")]
)
def test_an_address_as_text(address: Address, text: str) -> None:
    assert str(address) == text


# The client that reconnects


def test_the_client_waits_for_a_server_that_is_not_there_yet(run: Run[None]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with Client(port).running() as monitor:
            await monitor.until(lambda: len(monitor.failed) >= 3)
            assert monitor.opened == 0
            assert not monitor.manager.send(beat())
            assert monitor.failed[0].startswith(f"Central cannot be reached at {HOST}:{port}: ")
            async with serving(Recorder(), port):
                await monitor.until(lambda: monitor.opened == 1)
                assert monitor.manager.send(beat())

    run(scenario())


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def test_the_client_comes_back_after_the_server_went_away(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
        # That server is gone; another comes, on the same port.
        async with Client(port).running() as monitor:
            first = Recorder(answer_beats)
            async with serving(first, port):
                await monitor.until(lambda: monitor.opened == 1)
            await monitor.until(lambda: monitor.closed and monitor.failed)
            assert monitor.closed == ["the peer closed the connection"]
            second = Recorder(answer_beats)
            async with serving(second, port):
                await monitor.until(lambda: monitor.opened == 2)
                message = beat()
                assert monitor.manager.send(message)
                await monitor.until(lambda: monitor.received)
                assert second.received == [message]

    run(scenario())


def test_a_link_that_is_dropped_is_told_why_and_replaced(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
            monitor.manager.drop(ConnectionReplaced("nothing was heard"))
            await monitor.until(lambda: monitor.opened == 2)
            assert monitor.closed == ["nothing was heard"]
            (error,) = central.received
            assert isinstance(error, messages.ErrorResponse)
            assert (error.code, error.reason) == ("connection_replaced", "nothing was heard")

    run(scenario())


def test_attempts_count_up_until_the_peer_has_accepted(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
            monitor.manager.drop()
            await monitor.until(lambda: monitor.opened == 2)
            monitor.manager.drop()
            await monitor.until(lambda: monitor.opened == 3)
            assert monitor.manager.attempts == 2
            monitor.manager.settled()
            assert monitor.manager.attempts == 0

    run(scenario())


def test_a_client_that_holds_back_waits_as_long_as_any_until_it_is_accepted_again(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
            monitor.manager.hold_back()
            assert monitor.manager.delay_s(0.999999) == pytest.approx(QUICK.longest_s)
            monitor.manager.drop()
            await monitor.until(lambda: monitor.opened == 2)
            assert monitor.manager.attempts == 1
            monitor.manager.settled()
            assert monitor.manager.attempts == 0
            assert monitor.manager.delay_s(0.999999) == pytest.approx(QUICK.first_s)

    run(scenario())


def test_a_client_that_stays_away_comes_back_when_the_time_is_over_and_not_before(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
            left_s = time.monotonic()
            monitor.manager.stay_away(0.5)
            await monitor.until(lambda: monitor.opened == 2)
            assert time.monotonic() - left_s >= 0.5
            assert monitor.closed == ["closed by this side"]

    run(scenario())


def test_a_client_that_stays_away_comes_back_when_somebody_wants_it_to(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port).running() as monitor:
            await monitor.until(lambda: monitor.opened == 1)
            monitor.manager.stay_away(3600.0)
            await monitor.until(lambda: monitor.closed)
            monitor.manager.reconnect(ReconnectRequested("somebody wants to"))
            await monitor.until(lambda: monitor.opened == 2)

    run(scenario())


NEVER = Backoff(3600.0, 3600.0)


def test_a_reconnect_replaces_the_link_at_once_and_tells_the_peer_why(run: Run[None]) -> None:
    async def scenario() -> None:
        central = Recorder()
        async with serving(central) as port, Client(port, backoff=NEVER).running() as monitor:
            for number in range(1, 4):
                await monitor.until(lambda: monitor.opened == number)  # noqa: B023
                assert monitor.manager.connected_since_s is not None
                monitor.manager.hold_back()
                monitor.manager.reconnect(ReconnectRequested("somebody wants to"))
            await monitor.until(lambda: monitor.opened == 4)
            assert monitor.closed == ["somebody wants to"] * 3
            assert [getattr(message, "code", None) for message in central.received] == ["reconnect_requested"] * 3

    run(scenario())


def test_a_reconnect_cuts_the_wait_for_the_next_attempt_short(run: Run[None]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with Client(port, backoff=NEVER).running() as monitor:
            await monitor.until(lambda: monitor.failed)
            assert monitor.manager.connected_since_s is None
            async with serving(Recorder(), port):
                monitor.manager.reconnect(ReconnectRequested("somebody wants to"))
                await monitor.until(lambda: monitor.opened == 1)
                assert monitor.manager.attempts == 1

    run(scenario())


def test_a_reconnect_during_an_attempt_hurries_no_later_one(run: Run[None]) -> None:
    async def scenario() -> None:
        async with serving(Recorder()) as port, Client(port, backoff=NEVER).running() as monitor:
            monitor.manager.reconnect(ReconnectRequested("somebody wants to"))
            await monitor.until(lambda: monitor.opened == 1)
            monitor.manager.drop()
            await monitor.until(lambda: monitor.closed)
            assert monitor.opened == 1
            assert monitor.manager.attempts <= 1

    run(scenario())


def test_that_a_peer_is_waited_for_is_said_once(run: Run[None]) -> None:
    async def scenario() -> None:
        log, said = capturing_log()
        async with Client(free_port(), log=log).running() as monitor:
            await monitor.until(lambda: len(monitor.failed) >= 4)
        assert said() == ["waiting_for_peer"]

    run(scenario())


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "a" * 64 + ".invalid"], ids=["unknown", "label-too-long"]
)
def test_a_name_that_leads_nowhere_ends_no_client(run: Run[None], host: str) -> None:
    async def scenario() -> None:
        monitor = Client(1)
        monitor.manager.address = Address(host, 1)
        trying = asyncio.create_task(monitor.manager.run())
        failed_twice = asyncio.create_task(monitor.until(lambda: len(monitor.failed) >= 2))
        await asyncio.wait({trying, failed_twice}, return_when=asyncio.FIRST_COMPLETED)
        failed_twice.cancel()
        if trying.done():
            trying.result()
        trying.cancel()
        assert len(monitor.failed) >= 2

    run(scenario())


def test_a_bad_message_of_the_server_is_answered_and_harms_no_later_one(run: Run[None]) -> None:
    async def scenario() -> None:
        got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def serve_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"nonsense\n" + encode(beat()) + b"\n")
            got.put_nowait(await read_message(reader))
            writer.close()

        server = await asyncio.start_server(serve_raw, HOST, 0)
        log, said = capturing_log()
        async with Client(server.sockets[0].getsockname()[1], log=log).running() as monitor:
            await monitor.until(lambda: monitor.received)
            async with asyncio.timeout(DEADLINE_S):
                assert (await got.get())["code"] == "bad_json"
            await monitor.until(lambda: monitor.closed)
        server.close()
        assert said()[:3] == ["connected", "bad_message", "disconnected"]

    run(scenario())

"""What many charge points say on sockets, in evcharge's words and in those of OCPP 1.6: encoded ahead."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from evcharge.domain.status import Status
from evcharge.protocol import messages
from evcharge.protocol.messages import AuthRequest, HeartbeatRequest, Message, RegisterRequest, StatusUpdate
from prepared import MAX_POWER_W, PRICE, charging, cp_ids
from readings import POWER_W, WH_A_READING, readings_of

What = Literal["readings", "heartbeats"]


class WrongAnswer(Exception):
    """What came back is not what it should be."""


@dataclass(frozen=True, slots=True)
class Round:
    """One message of each connection, and how many answers come to all of them together."""

    messages: list[bytes]
    answers: int


class Lines:
    """Finds evcharge's answers in what one connection receives: one a line; none may refuse."""

    def take(self, data: bytes) -> tuple[int, bytes]:
        """The number of answers that end in this data, and what is to be sent back at once."""
        if b'"error_response"' in data or b'"accepted":false' in data:
            raise WrongAnswer(data.decode())
        return data.count(b"\n"), b""


class Evcharge:
    """Each charge point has the session that `prepared` has put into the database."""

    parser = Lines

    def __init__(self, connections: int) -> None:
        self._since = datetime.now(UTC)
        self._sessions = [charging(cp_id, self._since) for cp_id in cp_ids(connections)]
        self._seq = 0

    def hello(self, number: int) -> tuple[bytes, int]:
        """What the charge point of this number sends first, and how many answers that gets."""
        session = self._sessions[number]
        now = datetime.now(UTC)
        said: list[Message] = [
            AuthRequest(message_id=messages.new_id(), timestamp=now, cp_id=session.cp_id),
            RegisterRequest(
                message_id=messages.new_id(),
                timestamp=now,
                cp_id=session.cp_id,
                location=session.cp_id,
                price_per_kwh=PRICE,
                currency="EUR",
                max_power_w=MAX_POWER_W,
            ),
            StatusUpdate(
                message_id=messages.new_id(),
                timestamp=now,
                cp_id=session.cp_id,
                status=Status.CHARGING,
                engine_connected=True,
                session_id=session.session_id,
            ),
        ]
        return b"".join(_line(message) for message in said) + _heartbeat(session.cp_id), 3

    def rounds(self, what: What, each: int) -> list[Round]:
        """Readings get no answer: a heartbeat behind a round tells how far Central is, one of each the end."""
        ids = [session.cp_id for session in self._sessions]
        if what == "heartbeats":
            return [Round([_heartbeat(cp_id) for cp_id in ids], len(ids)) for _ in range(each)]
        seqs = range(self._seq, self._seq + each)
        self._seq = seqs.stop
        readings = readings_of(self._sessions, seqs, self._since)
        rounds = [[_line(next(readings)) for _ in ids] for _ in seqs]
        for lines in rounds:
            lines[-1] += _heartbeat(ids[-1])
        return [Round(lines, 1) for lines in rounds] + self.rounds("heartbeats", 1)


def _line(message: Message) -> bytes:
    return messages.encode(message) + b"\n"


def _heartbeat(cp_id: str) -> bytes:
    return _line(HeartbeatRequest(message_id=messages.new_id(), timestamp=datetime.now(UTC), cp_id=cp_id))


TEXT, PING, PONG = 1, 9, 10


@dataclass
class Frames:
    """Finds OCPP's answers in what one connection receives: one a text frame; none may be a CALLERROR."""

    buffer: bytearray = field(default_factory=bytearray)
    upgraded: bool = False

    def take(self, data: bytes) -> tuple[int, bytes]:
        self.buffer += data
        if not self.upgraded and not self._take_head():
            return 0, b""
        answers, back = 0, b""
        for opcode, payload in self._frames():
            if opcode == TEXT and payload.startswith(b"[3,"):
                answers += 1
            elif opcode == PING:
                back += frame(payload, PONG)
            else:
                raise WrongAnswer(f"opcode {opcode}: {payload!r}")
        return answers, back

    def _take_head(self) -> bool:
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if end and b" 101 " not in head.partition(b"\r\n")[0]:
            raise WrongAnswer(head.decode())
        if end:
            self.buffer, self.upgraded = rest, True
        return self.upgraded

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload. A server's frames are not masked; these have less than 64 KiB."""
        at, end = 0, len(self.buffer)
        while end - at >= 2:
            opcode, size, begin = self.buffer[at] & 15, self.buffer[at + 1], at + 2
            if size == 126:
                if end - begin < 2:
                    break
                size, begin = int.from_bytes(self.buffer[begin : begin + 2], "big"), begin + 2
            if end - begin < size:
                break
            at = begin + size
            yield opcode, bytes(self.buffer[begin:at])
        del self.buffer[:at]


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """As a client sends it: masked, with a mask of zeros, which leaves the payload as it is."""
    size = len(payload)
    head = bytes([128 | opcode, 128 | size]) if size < 126 else struct.pack("!BBH", 128 | opcode, 254, size)
    return head + bytes(4) + payload


class Ocpp:
    """Each charge point boots and starts a transaction first."""

    parser = Frames

    def __init__(self, connections: int) -> None:
        self._cp_ids = cp_ids(connections)
        self._since = datetime.now(UTC)
        self._calls = 0
        self._seq = 0

    def hello(self, number: int) -> tuple[bytes, int]:
        cp_id = self._cp_ids[number]
        upgrade = (
            f"GET /{cp_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
        )
        boot = self._call("BootNotification", chargePointVendor="bench", chargePointModel="bench")
        start = self._call(
            "StartTransaction", connectorId=1, idTag=f"D-{cp_id}", meterStart=0, timestamp=self._since.isoformat()
        )
        return upgrade.encode() + boot + start, 2

    def rounds(self, what: What, each: int) -> list[Round]:
        count = len(self._cp_ids)
        if what == "heartbeats":
            return [Round([self._call("Heartbeat") for _ in range(count)], count) for _ in range(each)]
        seqs = range(self._seq, self._seq + each)
        self._seq = seqs.stop
        return [Round([self._reading(number + 1, seq) for number in range(count)], count) for seq in seqs]

    def _reading(self, transaction_id: int, seq: int) -> bytes:
        """What evcharge's has: energy, power, state of charge."""
        values = [
            {"value": f"{(seq + 1) * WH_A_READING}", "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
            {"value": f"{POWER_W}", "measurand": "Power.Active.Import", "unit": "W"},
            {"value": "50.0", "measurand": "SoC", "unit": "Percent"},
        ]
        meter_value = [{"timestamp": datetime.now(UTC).isoformat(), "sampledValue": values}]
        return self._call("MeterValues", connectorId=1, transactionId=transaction_id, meterValue=meter_value)

    def _call(self, action: str, **payload: object) -> bytes:
        self._calls += 1
        return frame(json.dumps([2, f"{self._calls:036d}", action, payload], separators=(",", ":")).encode())

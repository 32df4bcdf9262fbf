"""Many charge points in one process, as cheap as they can be: what they cost is not what is measured.

    python bench/crowd_process.py --port PORT --kafka HOST:PORT --count 1000 [--at-once]

To Central they are real: each has a TCP link of its own, comes back as a Monitor does, and says what Monitor and
Engine say (docs/protocol.md), readings and completions over the link and by Kafka. On a start command they charge

- until they are stopped, with a reading a second of `WH_A_READING` more; or
- `--at-once`: the readings and the completion follow in the same moment, with exactly the energy asked for.

With `--echo` there is no Central but an echo server: they send it heartbeats, and count as registered with the
first that comes back.

Ten times a second, if something has happened, a `Report` goes to stdout, as a line of JSON. A line on stdin is the
seconds between two heartbeats from now on; its end ends the crowd. `crowds.py` is the other side of both.
"""

import argparse
import asyncio
import gc
import os
import random
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import msgspec
import uvloop
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaRecord

from evcharge.domain.session import EndReason
from evcharge.domain.status import Status
from evcharge.errors import ChargePointBusy, UnknownSession, WireError
from evcharge.open_files import allow_open_files
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AuthResponse,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargingData,
    CommandResponse,
    ErrorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    RegisterRequest,
    RegisterResponse,
    StartChargingCommand,
    StatusUpdate,
    StopChargingCommand,
    derived_id,
    new_id,
)
from evcharge.protocol.topics import Topic
from evcharge.transport.tcp import CONNECT_TIMEOUT_S, Backoff
from prepared import MAX_POWER_W, PRICE, cp_ids

HOST = "127.0.0.1"
POWER_W = 10_800
WH_A_READING = 3
DEFAULT_ENERGY_WH = 1_000
"""What a charge at once delivers to whoever does not say how much."""
FIRST_CONNECTIONS_A_SECOND = 2_000
TICK_S = 0.002
REPORT_EVERY_S = 0.1
LOOK_EVERY_S = 1.0
READING_EVERY_S = 1.0
REPEAT_EVERY_S = 10.0
ANSWER_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 90.0
MAX_WAITING_READINGS = 10_000
LINGER_MS = 5  # as an Engine


class Report(msgspec.Struct):
    """What has come of the crowd so far; times are on the machine's monotonic clock."""

    count: int
    registered: int = 0
    """Now."""
    registrations: int = 0
    last_registered_ns: int = 0
    heartbeats: int = 0
    heartbeats_answered: int = 0
    readings: int = 0
    charging: int = 0
    """Now."""
    completions: int = 0
    receipts: int = 0
    """The first of each completion."""
    undelivered: int = 0
    """Records that Kafka has not taken."""
    errors: dict[str, int] = {}
    """What Central has refused, by code."""
    starts: list[tuple[UUID, int]] = []
    """Since the last report: the sessions whose start command has come, and when."""

    def count_error(self, code: str) -> None:
        self.errors[code] = self.errors.get(code, 0) + 1


@dataclass(slots=True)
class Charge:
    session_id: UUID
    driver_id: str
    started_at: datetime
    next_reading_s: float
    seq: int = 0
    energy_wh: int = 0


@dataclass(slots=True, eq=False)
class Unsettled:
    completion: ChargeCompletion
    repeat_at_s: float


class Crowd:
    """What the charge points share."""

    def __init__(
        self,
        port: int,
        kafka: str,
        count: int,
        heartbeat_s: float,
        readings_at_once: int | None,
        point: "type[Point]",
    ) -> None:
        self.port = port
        self.readings_at_once = readings_at_once
        """None: they charge until they are stopped."""
        self.report = Report(count)
        self.backoff = Backoff()
        self.points = [point(self, cp_id) for cp_id in cp_ids(count)]
        self.charging: deque[tuple[Point, Charge]] = deque()
        """In the order in which their next readings are due."""
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": LINGER_MS,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self.beat_every(heartbeat_s)

    def beat_every(self, interval_s: float) -> None:
        """One heartbeat of each in this time, evenly spread."""
        self._heartbeat_s = interval_s
        self._beating_since_s = time.monotonic()
        self._beats = 0

    def publish(self, topic: Topic, cp_id: str, value: bytes) -> None:
        self._producer.produce(topic, value, cp_id, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, _: KafkaRecord) -> None:
        if error is not None:
            self.report.undelivered += 1

    async def run(self) -> None:
        """Until it is cancelled."""
        tasks = [
            asyncio.create_task(point.keep_connected(number / FIRST_CONNECTIONS_A_SECOND))
            for number, point in enumerate(self.points)
        ]
        report_at_s = look_at_s = 0.0
        last = b""
        try:
            while True:
                now_s = time.monotonic()
                self._send_heartbeats(now_s)
                self._send_readings(now_s)
                self._producer.poll(0)
                if now_s >= look_at_s:
                    look_at_s = now_s + LOOK_EVERY_S
                    for point in self.points:
                        point.look(now_s)
                if now_s >= report_at_s:
                    report_at_s = now_s + REPORT_EVERY_S
                    line = msgspec.json.encode(self.report)
                    if line != last:
                        sys.stdout.buffer.write(line + b"\n")
                        sys.stdout.buffer.flush()
                        self.report.starts = []
                        last = line
                await asyncio.sleep(TICK_S)
        finally:
            for task in tasks:
                task.cancel()

    def _send_heartbeats(self, now_s: float) -> None:
        count = len(self.points)
        due = int((now_s - self._beating_since_s) / self._heartbeat_s * count)
        # After a pause of this process nobody beats twice.
        for number in range(max(self._beats, due - count), due):
            self.points[number % count].beat()
        self._beats = due

    def _send_readings(self, now_s: float) -> None:
        while self.charging:
            point, charge = self.charging[0]
            if charge.next_reading_s > now_s:
                return
            self.charging.popleft()
            if point.charge is charge:
                charge.next_reading_s += READING_EVERY_S
                point.read_meter(charge, charge.energy_wh + WH_A_READING)
                self.charging.append((point, charge))


@dataclass(slots=True, eq=False)
class Point(asyncio.Protocol):
    """Monitor and Engine of one charge point."""

    crowd: Crowd
    cp_id: str
    registered: bool = False
    charge: Charge | None = None
    unsettled: dict[UUID, Unsettled] = field(default_factory=dict)
    _waiting: deque[bytes] | None = None
    """Readings for when Central is back."""
    _transport: asyncio.Transport | None = None
    _closed: asyncio.Event | None = None
    _attempts: int = 0
    _rest: bytes = b""
    _heard_s: float = 0.0

    # The link

    async def keep_connected(self, first_wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(first_wait_s)
        while True:
            self._closed = asyncio.Event()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.create_connection(lambda: self, HOST, self.crowd.port)
                await self._closed.wait()
            self._attempts += 1
            await asyncio.sleep(self.crowd.backoff.delay_s(self._attempts, random.random()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""
        self._heard_s = time.monotonic()
        self._send(self._hello())

    def _hello(self) -> Message:
        return AuthRequest(message_id=new_id(), timestamp=datetime.now(UTC), cp_id=self.cp_id)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.registered:
            self.registered = False
            self.crowd.report.registered -= 1
        if self._closed is not None:
            self._closed.set()

    def data_received(self, data: bytes) -> None:
        came_ns = time.monotonic_ns()
        self._heard_s = came_ns / 1e9
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._receive(messages.decode(line), came_ns)

    def _send(self, *batch: Message) -> None:
        if self._transport is not None:
            self._transport.write(b"".join([messages.encode(message) + b"\n" for message in batch]))

    def look(self, now_s: float) -> None:
        """Once a second: give up a Central that says nothing; send again what has no receipt."""
        patience_s = SILENCE_TIMEOUT_S if self.registered else ANSWER_TIMEOUT_S
        if self._transport is not None and now_s > self._heard_s + patience_s:
            self.crowd.report.count_error("central_silent")
            self._transport.abort()
        for unsettled in self.unsettled.values():
            if now_s >= unsettled.repeat_at_s:
                unsettled.repeat_at_s = now_s + REPEAT_EVERY_S
                self._tell_meter(Topic.SESSION_COMPLETE, unsettled.completion)

    # What Central says

    def _receive(self, message: Message, came_ns: int) -> None:
        report = self.crowd.report
        match message:
            case HeartbeatResponse():
                report.heartbeats_answered += 1
            case AuthResponse(accepted=True):
                self._send(
                    RegisterRequest(
                        message_id=new_id(),
                        timestamp=datetime.now(UTC),
                        cp_id=self.cp_id,
                        location=self.cp_id,
                        price_per_kwh=PRICE,
                        currency="EUR",
                        max_power_w=MAX_POWER_W,
                    )
                )
            case RegisterResponse(accepted=True):
                self._registered(came_ns)
                self._settle()
            case StartChargingCommand():
                report.starts.append((message.session_id, came_ns))
                self._start(message)
            case StopChargingCommand():
                self._stop(message)
            case ChargeCompletionResponse():
                if self.unsettled.pop(message.session_id, None) is not None:
                    report.receipts += 1
                    self._send(self._account())
            case AuthResponse() | RegisterResponse() | ErrorResponse():
                report.count_error(message.code or "no code")
            case _:
                report.count_error(messages.type_name(message))

    def _registered(self, came_ns: int) -> None:
        report = self.crowd.report
        self._attempts = 0
        self.registered = True
        report.registered += 1
        report.registrations += 1
        report.last_registered_ns = came_ns

    def _settle(self) -> None:
        """What Central has missed."""
        self._send(self._account())
        if self._waiting is not None and self._transport is not None:
            self._transport.writelines(self._waiting)
            self._waiting = None
        for unsettled in self.unsettled.values():
            unsettled.repeat_at_s = 0.0

    def _account(self) -> StatusUpdate:
        return StatusUpdate(
            message_id=new_id(),
            timestamp=datetime.now(UTC),
            cp_id=self.cp_id,
            status=Status.ACTIVE if self.charge is None else Status.CHARGING,
            engine_connected=True,
            session_id=self.charge.session_id if self.charge is not None else None,
            unsettled_session_ids=list(self.unsettled),
        )

    # What it does

    def beat(self) -> None:
        if self.registered:
            self.crowd.report.heartbeats += 1
            self._send(self._heartbeat())

    def _heartbeat(self) -> HeartbeatRequest:
        return HeartbeatRequest(message_id=new_id(), timestamp=datetime.now(UTC), cp_id=self.cp_id)

    def _start(self, command: StartChargingCommand) -> None:
        again = self.charge is not None and self.charge.session_id == command.session_id
        if again or self.charge is not None or command.session_id in self.unsettled:
            busy = None if again else ChargePointBusy("it charges, or has charged, for another session")
            self._send(self._verdict(command, busy))
            return
        now_s = time.monotonic()
        self.charge = charge = Charge(
            command.session_id, command.driver_id, datetime.now(UTC), now_s + READING_EVERY_S
        )
        self.crowd.report.charging += 1
        self._send(self._verdict(command, None))
        self.read_meter(charge, 0)
        self._send(self._account())
        if self.crowd.readings_at_once is None:
            self.crowd.charging.append((self, charge))
            return
        energy_wh = command.energy_wh or DEFAULT_ENERGY_WH
        for number in range(1, self.crowd.readings_at_once):
            self.read_meter(charge, energy_wh * number // self.crowd.readings_at_once)
        self._end(charge, energy_wh, EndReason.TARGET_REACHED)

    def _stop(self, command: StopChargingCommand) -> None:
        charge = self.charge
        if charge is not None and charge.session_id == command.session_id:
            self._send(self._verdict(command, None))
            self._end(charge, charge.energy_wh, command.end_reason)
            return
        known = command.session_id in self.unsettled
        self._send(self._verdict(command, None if known else UnknownSession("that session does not run here")))

    def _verdict(self, command: StartChargingCommand | StopChargingCommand, error: WireError | None) -> Message:
        return CommandResponse(
            message_id=derived_id(command.message_id, "answer"),
            timestamp=datetime.now(UTC),
            in_reply_to=command.message_id,
            cp_id=self.cp_id,
            session_id=command.session_id,
            accepted=error is None,
            code=error.code if error is not None else None,
            reason=str(error) if error is not None else None,
        )

    def read_meter(self, charge: Charge, energy_wh: int) -> None:
        charge.energy_wh = energy_wh
        reading = ChargingData(
            message_id=new_id(),
            timestamp=datetime.now(UTC),
            cp_id=self.cp_id,
            session_id=charge.session_id,
            driver_id=charge.driver_id,
            seq=charge.seq,
            energy_wh=energy_wh,
            power_w=POWER_W,
            soc_percent=50.0,
        )
        charge.seq += 1
        self.crowd.report.readings += 1
        self._tell_meter(Topic.SESSION_DATA, reading)

    def _end(self, charge: Charge, energy_wh: int, reason: EndReason) -> None:
        now = datetime.now(UTC)
        completion = ChargeCompletion(
            message_id=derived_id(charge.session_id, "completion"),
            timestamp=now,
            cp_id=self.cp_id,
            session_id=charge.session_id,
            driver_id=charge.driver_id,
            seq=charge.seq,
            energy_wh=energy_wh,
            end_reason=reason,
            started_at=charge.started_at,
            ended_at=now,
            soc_percent=50.0,
        )
        self.charge = None
        self.crowd.report.charging -= 1
        self.crowd.report.completions += 1
        self.unsettled[charge.session_id] = Unsettled(completion, time.monotonic() + REPEAT_EVERY_S)
        self._tell_meter(Topic.SESSION_COMPLETE, completion)
        self._send(self._account())

    def _tell_meter(self, topic: Topic, message: ChargingData | ChargeCompletion) -> None:
        """By Kafka and, now or when Central is back, over the link; a completion is sent again anyhow."""
        value = messages.encode(message)
        self.crowd.publish(topic, self.cp_id, value)
        if self.registered and self._transport is not None:
            self._transport.write(value + b"\n")
        elif topic is Topic.SESSION_DATA:
            if self._waiting is None:
                self._waiting = deque(maxlen=MAX_WAITING_READINGS)
            self._waiting.append(value + b"\n")


class EchoPoint(Point):
    """One who sends heartbeats, and gets them back."""

    def _hello(self) -> Message:
        return self._heartbeat()

    def _receive(self, message: Message, came_ns: int) -> None:
        if self.registered:
            self.crowd.report.heartbeats_answered += 1
        else:
            self._registered(came_ns)


async def run(crowd: Crowd) -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def told() -> None:
        said = os.read(sys.stdin.fileno(), 4096)
        if not said:
            loop.remove_reader(sys.stdin.fileno())
            over.set()
            return
        crowd.beat_every(float(said.split()[-1]))

    loop.add_reader(sys.stdin.fileno(), told)
    work = asyncio.create_task(crowd.run())
    await asyncio.wait({work, asyncio.create_task(over.wait())}, return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


def main() -> None:
    parser = argparse.ArgumentParser(description="Many charge points in one process.")
    parser.add_argument("--port", type=int, required=True, help="Central's")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--heartbeat-s", type=float, default=30.0)
    parser.add_argument("--at-once", type=int, metavar="READINGS", help="charge at once, in so many readings")
    parser.add_argument("--echo", action="store_true", help="there is an echo server in place of Central")
    given = parser.parse_args()
    allow_open_files(given.count + 1000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        point = EchoPoint if given.echo else Point
        crowd = Crowd(given.port, given.kafka, given.count, given.heartbeat_s, given.at_once, point)
        # Collecting would hold them all up for a moment, and nothing here is in a cycle for long.
        gc.freeze()
        gc.disable()
        runner.run(run(crowd))


if __name__ == "__main__":
    main()

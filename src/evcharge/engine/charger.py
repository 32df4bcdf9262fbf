"""What an Engine does: one plug, at most one charge at a time, a meter, and completions that wait for receipts.

Pure: each method takes what happened and the time, and returns the messages that follow, in order; none of
them may be sent before `service.py` has put it in the journal.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from evcharge.domain.battery import Battery
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason
from evcharge.errors import (
    ChargePointBusy,
    ChargePointFaulty,
    InternalError,
    NotAuthenticated,
    NotRegistered,
    NotYours,
    UnknownSession,
    UsageError,
    VehicleMissing,
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargingData,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HealthCheckRequest,
    HealthCheckResponse,
    InitCpId,
    Message,
    RecoveryNotification,
    StartChargingCommand,
    StopChargingCommand,
    derived_id,
    new_id,
)

PLUG_TIMEOUT_S = 60.0
"""How long an accepted start waits for somebody to plug a vehicle in, with `manual_plug`."""
NO_VERDICT = frozenset({NotAuthenticated.code, NotRegistered.code, InternalError.code})
"""The codes that say nothing about a completion; with any other Central says that it will never take it."""
ROUNDING_WH = 1e-6
"""So that the meter does not show 35,999 Wh where floating point made 35,999.9999999 of 36,000."""


@dataclass(slots=True)
class Charge:
    """The charge that runs, or waits for its vehicle until `plug_by_s`; power flows `connecting_s` after that."""

    session_id: UUID
    driver_id: str
    target_wh: int | None
    started_at: datetime
    plug_by_s: float
    before: Battery | None = None
    connecting_s: float = 0.0
    advanced_to_s: float = 0.0
    next_reading_s: float = math.inf
    seq: int = 0
    energy_wh: int = 0


@dataclass(frozen=True, slots=True)
class ChargerConfig:
    """`time_scale` simulated seconds pass in a real one. With `manual_plug` a vehicle comes only by `plug_in`."""

    max_power_w: int
    vehicle: Battery
    time_scale: float = 1.0
    reading_interval_s: float = 1.0
    repeat_interval_s: float = 10.0
    manual_plug: bool = False
    plug_timeout_s: float = PLUG_TIMEOUT_S


class Charger:
    def __init__(self, config: ChargerConfig) -> None:
        self._config = config
        self._limit_w = float(config.max_power_w)
        self._next_repeat_s = math.inf
        self.cp_id: str | None = None
        self.charge: Charge | None = None
        self.vehicle: Battery | None = None if config.manual_plug else config.vehicle
        self.new_vehicle_each_time = not config.manual_plug
        self.fault_code: str | None = None
        self.unsettled: dict[UUID, ChargeCompletion] = {}

    # From the Monitor

    def bind(self, request: InitCpId, now: Instant) -> list[Message]:
        """The Monitor says whose Engine this is; it stays that for good."""
        if self.cp_id not in (None, request.cp_id):
            error = NotYours(f"this Engine belongs to {self.cp_id}")
            return [_verdict(request.message_id, request.cp_id, None, error, now)]
        self.cp_id = request.cp_id
        self._limit_w = float(min(self._config.max_power_w, request.max_power_w))
        return [_verdict(request.message_id, request.cp_id, None, None, now)]

    def receive(self, message: Message, now: Instant) -> list[Message]:
        """The answers to whatever else a Monitor may send, and what follows from it."""
        match message:
            case HealthCheckRequest():
                return [self.account(now, message.message_id)]
            case StartChargingCommand():
                return self._start(message, now)
            case StopChargingCommand():
                return self._stop(message, now)
            case ChargeCompletionResponse():
                return self._settle(message.session_id, now) if self.is_receipt(message) else []
            case ErrorResponse():
                return self._rejected(message, now)
            case _:
                error = messages.refusal(message, FROM_MONITOR)
                return [messages.error_response(error.code, str(error), message.message_id, now)]

    def account(self, now: Instant, in_reply_to: UUID | None = None) -> HealthCheckResponse:
        return HealthCheckResponse(
            message_id=new_id(),
            timestamp=now.utc,
            in_reply_to=in_reply_to,
            cp_id=self._cp_id(),
            healthy=self.fault_code is None,
            vehicle_connected=self.vehicle is not None,
            session_id=self.charge.session_id if self.charge is not None else None,
            unsettled_session_ids=list(self.unsettled),
            fault_code=self.fault_code,
        )

    def _start(self, command: StartChargingCommand, now: Instant) -> list[Message]:
        again = self.charge is not None and self.charge.session_id == command.session_id
        error = None if again else self._unable(command)
        verdict = _verdict(command.message_id, self._cp_id(), command.session_id, error, now)
        if error is not None or again:
            return [verdict]
        if self.new_vehicle_each_time:
            self.vehicle = self._config.vehicle
        self.charge = Charge(
            session_id=command.session_id,
            driver_id=command.driver_id,
            target_wh=command.energy_wh,
            started_at=now.utc,
            plug_by_s=now.monotonic_s + self._config.plug_timeout_s,
        )
        # The first reading opens the journal: so a power cut does not make us forget a charge that only waits.
        return [verdict, *self._begin(self.charge, now)]

    def _begin(self, charge: Charge, now: Instant) -> list[Message]:
        """Let power flow as soon as it is connected, if there is a vehicle to take it."""
        if self.vehicle is not None:
            charge.before = self.vehicle
            charge.connecting_s = self.vehicle.connect_s
            charge.advanced_to_s = now.monotonic_s
            charge.next_reading_s = now.monotonic_s + self._config.reading_interval_s
        return [self._reading(charge, now), self.account(now)]

    def waiting_for_vehicle(self, now: Instant) -> float | None:
        """The seconds that are left to plug a vehicle in for the charge that waits for one."""
        if self.charge is None or self.vehicle is not None:
            return None
        return max(0.0, self.charge.plug_by_s - now.monotonic_s)

    def _unable(self, command: StartChargingCommand) -> WireError | None:
        if command.cp_id != self.cp_id:
            return NotYours(f"this Engine belongs to {self.cp_id}")
        if self.fault_code is not None:
            return ChargePointFaulty(f"the Engine is faulty: {self.fault_code}")
        if self.charge is not None:
            return ChargePointBusy(f"the Engine charges for session {self.charge.session_id}")
        if command.session_id in self.unsettled:
            return ChargePointBusy(f"the session {command.session_id} has already been charged")
        if self.vehicle is None and not self._config.manual_plug:
            return VehicleMissing("no vehicle is plugged in")
        return None

    def _stop(self, command: StopChargingCommand, now: Instant) -> list[Message]:
        charge = self.charge
        if charge is not None and charge.session_id == command.session_id:
            verdict = _verdict(command.message_id, self._cp_id(), command.session_id, None, now)
            return [verdict, *self._end_after_advance(command.end_reason, now)]
        known = command.session_id in self.unsettled
        error = None if known else UnknownSession(f"the session {command.session_id} does not run here")
        return [_verdict(command.message_id, self._cp_id(), command.session_id, error, now)]

    def is_receipt(self, response: ChargeCompletionResponse) -> bool:
        """Whether it answers a completion of ours; not what Central says of a session that it closed itself."""
        completion = self.unsettled.get(response.session_id)
        return completion is not None and completion.message_id == response.in_reply_to

    def _settle(self, session_id: UUID, now: Instant) -> list[Message]:
        if self.unsettled.pop(session_id, None) is None:
            return []
        return [self.account(now)]

    def _rejected(self, error: ErrorResponse, now: Instant) -> list[Message]:
        """Central will never take this completion; the journal keeps it, set aside."""
        if error.code in NO_VERDICT:
            return []
        for session_id, completion in self.unsettled.items():
            if completion.message_id == error.in_reply_to:
                return self._settle(session_id, now)
        return []

    # At the plug

    def plug_in(self, vehicle: Battery, now: Instant) -> list[Message]:
        """This vehicle stays, charge after charge, until it is unplugged; a charge that waits for it begins."""
        if self.charge is not None and self.vehicle is not None:
            raise UsageError("a vehicle is charging; unplug it first")
        ended = self.advance(now)  # should this one come too late
        self.vehicle = vehicle
        self.new_vehicle_each_time = False
        if self.charge is not None:
            return self._begin(self.charge, now)
        return [*ended, self.account(now)] if self.cp_id is not None else ended

    def unplug(self, now: Instant) -> list[Message]:
        """Ends the charge of the vehicle that is plugged in; a charge that waits for one goes on waiting."""
        gone = self.vehicle is not None
        ended = self._end_after_advance(EndReason.UNPLUGGED, now) if gone else self.advance(now)
        self.vehicle = None
        self.new_vehicle_each_time = False
        return [*ended, self.account(now)] if self.cp_id is not None else ended

    def stop_here(self, now: Instant) -> list[Message]:
        """Somebody pressed the stop button."""
        return self._end_after_advance(EndReason.STOPPED, now)

    def shut_down(self, now: Instant) -> list[Message]:
        return self._end_after_advance(EndReason.ENGINE_RESTARTED, now)

    def fail(self, fault_code: str, description: str, now: Instant) -> list[Message]:
        cp_id = self._cp_id()
        ended = self._end_after_advance(EndReason.FAULT, now)
        self.fault_code = fault_code
        notification = FaultNotification(
            message_id=new_id(),
            timestamp=now.utc,
            cp_id=cp_id,
            fault_code=fault_code,
            description=description,
        )
        return [*ended, notification, self.account(now)]

    def repair(self, now: Instant) -> list[Message]:
        if self.fault_code is None:
            return []
        recovery = RecoveryNotification(
            message_id=new_id(),
            timestamp=now.utc,
            cp_id=self._cp_id(),
            fault_code=self.fault_code,
            description="repaired at the charge point",
        )
        self.fault_code = None
        return [recovery, self.account(now)]

    def ask(self, driver_id: str, energy_wh: int | None, now: Instant) -> ChargeRequest:
        """A driver asks for a charge at the charge point itself."""
        return ChargeRequest(
            message_id=new_id(),
            timestamp=now.utc,
            driver_id=driver_id,
            cp_id=self._cp_id(),
            energy_wh=energy_wh,
        )

    # After a restart, and time

    def resume(self, completions: Iterable[ChargeCompletion], now: Instant) -> None:
        """Take over what the journal knew of sessions without a receipt; they are sent with the next repeat."""
        for completion in completions:
            self.unsettled[completion.session_id] = completion
        self._next_repeat_s = now.monotonic_s

    def repeats(self, now: Instant) -> list[ChargeCompletion]:
        """The completions whose receipts are overdue."""
        if now.monotonic_s < self._next_repeat_s:
            return []
        self._next_repeat_s = now.monotonic_s + self._config.repeat_interval_s if self.unsettled else math.inf
        return list(self.unsettled.values())

    def repeat_now(self, now: Instant) -> None:
        """The Monitor is back: do not wait for the next repeat."""
        if self.unsettled:
            self._next_repeat_s = now.monotonic_s

    def next_due_s(self) -> float:
        if self.charge is None:
            return self._next_repeat_s
        if self.vehicle is None:
            return min(self.charge.plug_by_s, self._next_repeat_s)
        end_s = self.charge.advanced_to_s + self._seconds_left(self.charge, self.vehicle) / self._config.time_scale
        return min(end_s, self.charge.next_reading_s, self._next_repeat_s)

    def advance(self, now: Instant) -> list[Message]:
        """Let power flow until now: a reading if one is due, the completion if the charge has ended."""
        charge, vehicle = self.charge, self.vehicle
        if charge is None:
            return []
        if vehicle is None:
            return self._end(EndReason.NO_VEHICLE, now) if now.monotonic_s >= charge.plug_by_s else []
        passed_s = (now.monotonic_s - charge.advanced_to_s) * self._config.time_scale
        left_s = self._seconds_left(charge, vehicle)
        vehicle = vehicle.charged(self._limit_w, max(0.0, min(passed_s, left_s) - charge.connecting_s))
        self.vehicle = vehicle
        charge.connecting_s = max(0.0, charge.connecting_s - passed_s)
        charge.advanced_to_s = now.monotonic_s
        assert charge.before is not None
        delivered_wh = vehicle.taken_wh(charge.before)
        done = passed_s >= left_s
        charge.energy_wh = max(charge.energy_wh, int(delivered_wh + ROUNDING_WH))
        if done:
            if charge.target_wh is not None and round(delivered_wh) >= charge.target_wh:
                charge.energy_wh = charge.target_wh  # and not a rounding error less
                return self._end(EndReason.TARGET_REACHED, now)
            return self._end(EndReason.BATTERY_FULL, now)
        if now.monotonic_s < charge.next_reading_s:
            return []
        charge.next_reading_s = now.monotonic_s + self._config.reading_interval_s
        return [self._reading(charge, now)]

    @property
    def limit_w(self) -> float:
        """The most power that may be given here."""
        return self._limit_w

    def left_s(self, now: Instant) -> float | None:
        """Seconds until the charge that runs has reached its end, if nobody ends it before."""
        if self.charge is None or self.vehicle is None:
            return None
        whole_s = self._seconds_left(self.charge, self.vehicle) / self._config.time_scale
        return max(0.0, whole_s - (now.monotonic_s - self.charge.advanced_to_s))

    def _seconds_left(self, charge: Charge, vehicle: Battery) -> float:
        """Simulated seconds until the target is reached, or the battery full."""
        left_wh = vehicle.room_wh
        if charge.target_wh is not None and charge.before is not None:
            left_wh = min(left_wh, charge.target_wh - vehicle.taken_wh(charge.before))
        return charge.connecting_s + vehicle.seconds_to(self._limit_w, max(0.0, left_wh))

    def _end_after_advance(self, reason: EndReason, now: Instant) -> list[Message]:
        """End the charge now; by its own reason, should it have reached its end in this very moment."""
        moved = self.advance(now)
        return moved if self.charge is None else [*moved, *self._end(reason, now)]

    def _end(self, reason: EndReason, now: Instant) -> list[Message]:
        charge = self.charge
        assert charge is not None
        completion = ChargeCompletion(
            message_id=derived_id(charge.session_id, "completion"),
            timestamp=now.utc,
            cp_id=self._cp_id(),
            session_id=charge.session_id,
            driver_id=charge.driver_id,
            seq=charge.seq,
            energy_wh=charge.energy_wh,
            end_reason=reason,
            started_at=charge.started_at,
            ended_at=now.utc,
            soc_percent=self._soc_percent(),
        )
        self.charge = None
        self.unsettled[completion.session_id] = completion
        self._next_repeat_s = min(self._next_repeat_s, now.monotonic_s + self._config.repeat_interval_s)
        return [completion, self.account(now)]

    def _reading(self, charge: Charge, now: Instant) -> ChargingData:
        reading = ChargingData(
            message_id=new_id(),
            timestamp=now.utc,
            cp_id=self._cp_id(),
            session_id=charge.session_id,
            driver_id=charge.driver_id,
            seq=charge.seq,
            energy_wh=charge.energy_wh,
            power_w=round(self._power_w(charge)),
            soc_percent=self._soc_percent(),
        )
        charge.seq += 1
        return reading

    def _power_w(self, charge: Charge) -> float:
        if self.vehicle is None or charge.connecting_s > 0:
            return 0.0
        return self.vehicle.power_w(self._limit_w)

    def _soc_percent(self) -> float | None:
        return round(self.vehicle.soc_percent, 1) if self.vehicle is not None else None

    def _cp_id(self) -> str:
        if self.cp_id is None:
            raise UsageError("no Monitor has told this Engine yet which charge point it is")
        return self.cp_id


def _verdict(
    in_reply_to: UUID, cp_id: str, session_id: UUID | None, error: WireError | None, now: Instant
) -> CommandResponse:
    return CommandResponse(
        message_id=derived_id(in_reply_to, "answer"),
        timestamp=now.utc,
        in_reply_to=in_reply_to,
        cp_id=cp_id,
        session_id=session_id,
        accepted=error is None,
        code=error.code if error is not None else None,
        reason=str(error) if error is not None else None,
    )


FROM_MONITOR = (
    InitCpId,
    HealthCheckRequest,
    StartChargingCommand,
    StopChargingCommand,
    ChargeCompletionResponse,
    ErrorResponse,
)

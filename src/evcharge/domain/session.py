"""A charging session, from the request to the receipt: one transition table, metering, the bill.

The meter is authoritative for energy, Central for money. Energy never falls by a reading. A session that Central
had to close without the charge point's completion is still settled by that completion, once, on a receipt with a
higher revision (`SETTLED`). From then on only an operator changes it (`CORRECTED`).
"""

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from evcharge.domain import tariff
from evcharge.domain.times import believed
from evcharge.errors import IllegalTransition

WORD = re.compile(r"[a-z_]{1,32}")


class SessionStatus(StrEnum):
    AUTHORISED = "authorised"
    CHARGING = "charging"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class SessionEvent(StrEnum):
    STARTED = "started"
    START_FAILED = "start failed"
    ENDED = "ended"
    BROKE_OFF = "broke off"
    SETTLED = "settled"
    CORRECTED = "corrected"


TRANSITIONS: dict[SessionStatus, dict[SessionEvent, SessionStatus]] = {
    SessionStatus.AUTHORISED: {
        SessionEvent.STARTED: SessionStatus.CHARGING,
        SessionEvent.START_FAILED: SessionStatus.FAILED,
    },
    SessionStatus.CHARGING: {
        SessionEvent.ENDED: SessionStatus.COMPLETED,
        SessionEvent.BROKE_OFF: SessionStatus.INTERRUPTED,
        SessionEvent.START_FAILED: SessionStatus.FAILED,
    },
    SessionStatus.COMPLETED: {SessionEvent.CORRECTED: SessionStatus.COMPLETED},
    SessionStatus.FAILED: {
        SessionEvent.SETTLED: SessionStatus.INTERRUPTED,
        SessionEvent.CORRECTED: SessionStatus.INTERRUPTED,
    },
    SessionStatus.INTERRUPTED: {
        SessionEvent.SETTLED: SessionStatus.INTERRUPTED,
        SessionEvent.CORRECTED: SessionStatus.INTERRUPTED,
    },
}


class EndReason(StrEnum):
    """Why a session ended. One of a later version is taken as it is, so that a receipt with it is understood."""

    @classmethod
    def _missing_(cls, value: object) -> "EndReason | None":
        if not isinstance(value, str) or WORD.fullmatch(value) is None:
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word

    TARGET_REACHED = "target_reached"
    BATTERY_FULL = "battery_full"
    STOPPED = "stopped"
    UNPLUGGED = "unplugged"
    FAULT = "fault"
    CENTRAL_LOST = "central_lost"
    ENGINE_RESTARTED = "engine_restarted"
    NO_VEHICLE = "no_vehicle"
    START_REJECTED = "start_rejected"
    START_TIMEOUT = "start_timeout"
    ENGINE_LOST = "engine_lost"
    LOST_BY_CHARGE_POINT = "lost_by_charge_point"
    NO_SIGN_OF_LIFE = "no_sign_of_life"
    CLOSED_BY_OPERATOR = "closed_by_operator"


FROM_CHARGE_POINT = frozenset(
    {
        EndReason.TARGET_REACHED,
        EndReason.BATTERY_FULL,
        EndReason.STOPPED,
        EndReason.UNPLUGGED,
        EndReason.FAULT,
        EndReason.CENTRAL_LOST,
        EndReason.ENGINE_RESTARTED,
        EndReason.NO_VEHICLE,
    }
)
"""The reasons that a completion may give; the others are Central's, for want of a completion."""

CUT_SHORT = frozenset({EndReason.FAULT, EndReason.CENTRAL_LOST, EndReason.ENGINE_RESTARTED})
"""So ended, a meter may have lost its last second: what it had said before stands against a lower last word."""
OWED = frozenset(
    {EndReason.START_TIMEOUT, EndReason.ENGINE_LOST, EndReason.NO_SIGN_OF_LIFE, EndReason.CLOSED_BY_OPERATOR}
)
"""Those of Central's after which a charge point may still have an account to give."""

END_EVENTS: dict[EndReason, SessionEvent] = {
    EndReason.TARGET_REACHED: SessionEvent.ENDED,
    EndReason.BATTERY_FULL: SessionEvent.ENDED,
    EndReason.STOPPED: SessionEvent.ENDED,
    EndReason.UNPLUGGED: SessionEvent.ENDED,
    EndReason.FAULT: SessionEvent.BROKE_OFF,
    EndReason.CENTRAL_LOST: SessionEvent.BROKE_OFF,
    EndReason.ENGINE_RESTARTED: SessionEvent.BROKE_OFF,
    EndReason.NO_VEHICLE: SessionEvent.START_FAILED,
    EndReason.START_REJECTED: SessionEvent.START_FAILED,
    EndReason.START_TIMEOUT: SessionEvent.START_FAILED,
    EndReason.ENGINE_LOST: SessionEvent.BROKE_OFF,
    EndReason.LOST_BY_CHARGE_POINT: SessionEvent.BROKE_OFF,
    EndReason.NO_SIGN_OF_LIFE: SessionEvent.BROKE_OFF,
    EndReason.CLOSED_BY_OPERATOR: SessionEvent.BROKE_OFF,
}


def after(status: SessionStatus, event: SessionEvent) -> SessionStatus:
    """The status that `event` leads to; raises `IllegalTransition` where the table has none."""
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        raise IllegalTransition(f"a session that is {status} cannot take the event '{event}'") from None


def mermaid() -> str:
    """The state diagram of the table, as Mermaid source."""
    arrows = [
        f"    {before} --> {then}: {event}" for before, row in TRANSITIONS.items() for event, then in row.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {SessionStatus.AUTHORISED}: request accepted", *arrows])


@dataclass(slots=True)
class Session:
    number: int
    """From 1, in order of the requests. By it the database finds a session: those that are open lie together."""
    session_id: UUID
    request_id: UUID
    cp_id: str
    driver_id: str
    target_energy_wh: int | None
    price_per_kwh: Decimal
    currency: str
    requested_at: datetime
    status: SessionStatus = SessionStatus.AUTHORISED
    started_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    energy_wh: int = 0
    power_w: int = 0
    soc_percent: float | None = None
    last_seq: int = -1
    stop_requested: bool = False
    revision: int = 0
    completion_id: UUID | None = None
    """The `message_id` of the completion that counts: the charge point has had its word."""
    booked_at: datetime | None = None
    """When it was closed, by Central's clock, which decides the day of its money."""
    said_started_at: datetime | None = None
    said_ended_at: datetime | None = None
    """What the charge point's clock said, where that was not believable."""
    limit_w: int | None = None
    limit_since: datetime | None = None
    limit_before_wh: int = 0
    """The most that the charge point can give: `limit_w` since then, and before so much, by the limits of then."""
    max_hours: float | None = None
    stop_refused: str | None = None
    """Why the charge point would not stop, in its words."""
    # Only in memory, on the monotonic clock.
    last_heard_s: float = 0.0
    held_since_s: float = math.inf
    """Since when `limit_w` holds."""
    told_s: float = field(default=-math.inf, compare=False)
    """When its driver was last told how it stands."""
    # Only in memory: the highest limit since the last reading, and the energy that was possible at the last look.
    peak_w: int = field(default=0, compare=False)
    sure_wh: float = field(default=0.0, compare=False)
    # Only in memory: when the last reading was taken, and which one was the last to be stored, and from when, by
    # the charge point's clock; and up to when the stored ones tell, as Central believes it.
    measured_at: datetime | None = field(default=None, compare=False)
    stored_at: datetime | None = field(default=None, compare=False)
    stored_seq: int = field(default=-1, compare=False)
    told_until: datetime | None = field(default=None, compare=False)

    @property
    def is_open(self) -> bool:
        return self.status in (SessionStatus.AUTHORISED, SessionStatus.CHARGING)

    @property
    def cost(self) -> Decimal:
        return tariff.cost(self.energy_wh, self.price_per_kwh, self.currency)

    def start(self, said: datetime, now: datetime) -> None:
        """`said`: when, by the charge point's clock."""
        self.status = after(self.status, SessionEvent.STARTED)
        self._set_start(said, now)

    def _set_start(self, said: datetime, now: datetime) -> None:
        self.started_at, self.said_started_at = believed(said, self.requested_at, now)

    def _set_end(self, said: datetime, now: datetime) -> None:
        self.ended_at, self.said_ended_at = believed(said, self.started_at or self.requested_at, now)

    def believed_measured_at(self, said: datetime, now: datetime) -> datetime:
        """When a reading was taken; never before the one that was stored before it."""
        at, _ = believed(said, self.told_until or self.started_at or self.requested_at, now)
        return at

    def meter(self, seq: int, energy_wh: int, power_w: int, soc_percent: float | None) -> bool:
        """Take a reading; False, and nothing changes, when it is not newer than the last one taken."""
        if seq <= self.last_seq or energy_wh < self.energy_wh:
            return False
        self.last_seq = seq
        self.energy_wh = energy_wh
        self.power_w = power_w
        self.soc_percent = soc_percent
        return True

    def take_last_word(self, completion_id: UUID, seq: int, energy_wh: int, soc_percent: float | None) -> None:
        """Take the energy of the completion that ends the session, also one below what was metered before."""
        self.completion_id = completion_id
        self.last_seq = max(seq, self.last_seq + 1)
        self.energy_wh = energy_wh
        self.soc_percent = soc_percent

    @property
    def has_had_its_word(self) -> bool:
        """Whether the charge point has completed it. Older sessions do not know by which completion."""
        return (
            self.completion_id is not None
            or self.status is SessionStatus.COMPLETED
            or self.end_reason in FROM_CHARGE_POINT
        )

    def end(self, reason: EndReason, said: datetime, now: datetime, disputed: bool = False) -> None:
        """Close the session with the energy metered so far; the first receipt is revision 1.

        It is booked now, whenever it ended, and however often it is corrected. `disputed`: the charge point says
        it is another energy, which nobody believes.
        """
        event = SessionEvent.BROKE_OFF if disputed else END_EVENTS[reason]
        if self.status is SessionStatus.AUTHORISED:
            # Whatever ends a session that never began has made its start fail.
            event = SessionEvent.START_FAILED
        elif event is SessionEvent.START_FAILED and self.energy_wh > 0:
            # A start that delivered energy has not failed.
            event = SessionEvent.BROKE_OFF
        self.status = after(self.status, event)
        self.end_reason = reason
        self._set_end(said, now)
        self.booked_at = now
        self.power_w = 0
        self.revision = 1

    def settle(
        self,
        seq: int,
        energy_wh: int,
        reason: EndReason,
        started_at: datetime,
        ended_at: datetime,
        now: datetime,
    ) -> bool:
        """Bill what the completion says of a session that Central closed; False if that is what was billed."""
        if energy_wh == self.energy_wh:
            return False
        self.status = after(self.status, SessionEvent.SETTLED)
        self.last_seq = max(seq, self.last_seq + 1)
        self.energy_wh = energy_wh
        self.end_reason = reason
        self._set_start(started_at, now)
        self._set_end(ended_at, now)
        self.revision += 1
        return True

    def correct(self, energy_wh: int) -> bool:
        """Bill what an operator says; False if that is what was billed."""
        if energy_wh == self.energy_wh:
            return False
        self.status = after(self.status, SessionEvent.CORRECTED)
        self.energy_wh = energy_wh
        self.revision += 1
        return True

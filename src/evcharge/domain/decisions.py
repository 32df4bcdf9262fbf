"""What goes into Central's decider and what comes out of it, as plain data."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import Actor, AuditEntry, Command
from evcharge.domain.driver import KnownDriver
from evcharge.domain.session import Session, SessionStatus
from evcharge.domain.set_aside import SetAside, Settlement
from evcharge.errors import WireError
from evcharge.protocol.messages import ChargingHistoryRequest, Message
from evcharge.protocol.records import Received

BILLED_WH = "billed_wh"
"""What the energy of all receipts is counted as."""


def ended_as(status: SessionStatus) -> str:
    """What a session that ended so is counted as."""
    return f"session_{status}"


# In


@dataclass(frozen=True, slots=True)
class MonitorCame:
    """A connection has been opened from `origin`, an address or the network that stands for it.

    `certified`: whose certificate it has shown, None if there is none.
    """

    connection: int
    certified: str | None = None
    origin: str = ""


class FromMonitor(msgspec.Struct, frozen=True):
    """A message on a Monitor's connection."""

    connection: int
    message: Message


@dataclass(frozen=True, slots=True)
class MonitorGone:
    """A Monitor's connection has ended."""

    connection: int
    reason: str


class FromKafka(msgspec.Struct, frozen=True):
    """A record, and the message that it holds."""

    record: Received
    message: Message


@dataclass(frozen=True, slots=True)
class FromOperator:
    """A command of an operator, who waits for the `Outcome` of this `ticket`."""

    ticket: int
    actor: Actor
    command: Command


@dataclass(frozen=True, slots=True)
class EntriesChanged:
    """Another program has changed these charge points in the database."""

    cp_ids: frozenset[str]


Input = MonitorCame | FromMonitor | MonitorGone | FromKafka | FromOperator | EntriesChanged


@dataclass(slots=True)
class Wanted:
    """What a batch of inputs needs from the database before it can be decided."""

    answers: set[UUID] = field(default_factory=set)
    sessions: set[UUID] = field(default_factory=set)
    charge_points: set[str] = field(default_factory=set)
    drivers: set[str] = field(default_factory=set)
    set_aside: set[UUID] = field(default_factory=set)
    """By the ids of their sessions."""
    set_aside_as: set[int] = field(default_factory=set)
    """By their numbers, with their sessions."""
    orphans: set[str] = field(default_factory=set)
    """The charge points of which to know how many orphans wait."""


@dataclass(slots=True)
class Known:
    """What the database had of `Wanted`; what it had not is absent."""

    answers: dict[UUID, Message] = field(default_factory=dict)
    sessions: dict[UUID, Session] = field(default_factory=dict)
    charge_points: dict[str, ChargePoint] = field(default_factory=dict)
    owing: set[str] = field(default_factory=set)
    """Those removed charge points that owe the account of a session which Central has closed."""
    drivers: dict[str, KnownDriver] = field(default_factory=dict)
    set_aside: dict[UUID, list[SetAside]] = field(default_factory=dict)
    """Of a session all that was ever set aside."""
    set_aside_as: dict[int, SetAside] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)


# Out


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, kept so that the same request gets the same answer."""

    request_id: UUID
    message: Message


class MeterValue(msgspec.Struct, frozen=True):
    """A reading that is worth keeping, of the session with this number."""

    session_number: int
    seq: int
    energy_wh: int
    power_w: int
    soc_percent: float | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class FaultOpened:
    cp_id: str
    code: str
    description: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FaultCleared:
    cp_id: str
    code: str
    at: datetime


class Frame(msgspec.Struct, frozen=True):
    """A message for the Monitor at the other end of a connection."""

    connection: int
    message: Message


@dataclass(frozen=True, slots=True)
class Closing:
    """A connection to end, after telling the peer why."""

    connection: int
    error: WireError


class Record(msgspec.Struct, frozen=True):
    """A message for `driver_responses`."""

    driver_id: str
    message: Message
    droppable: bool = False
    """Whether the next one of its kind says more, so that the driver can do without this one."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record from Kafka that cannot be taken, and why: for a person to look at."""

    record: Received
    error: WireError


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, for the log and the operator's event list.

    What a stranger can make happen as often as he likes has a `kind`: of each kind it is said once a while.
    """

    event: str
    fields: dict[str, object]
    kind: object = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an operator's command, to be told once all is stored: a result, or a `WireError`."""

    ticket: int
    result: Any


@dataclass(slots=True)
class Decisions:
    """All that a batch has led to. First everything to be stored, in one transaction; then the rest."""

    charge_points: dict[str, ChargePoint] = field(default_factory=dict)
    drivers: set[str] = field(default_factory=set)
    sessions: dict[UUID, Session] = field(default_factory=dict)
    metered: list[Session] = field(default_factory=list)
    """Those whose meters have moved; of most of them nothing else has changed."""
    meter_values: list[MeterValue] = field(default_factory=list)
    faults: list[FaultOpened | FaultCleared] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    receipts_sent: list[tuple[UUID, int]] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)

    outcomes: list[Outcome] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    histories: list[ChargingHistoryRequest] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def nothing_to_store(self) -> bool:
        return not (
            self.charge_points
            or self.drivers
            or self.sessions
            or self.metered
            or self.meter_values
            or self.faults
            or self.answers
            or self.receipts_sent
            or self.set_aside
            or self.settlements
            or self.audit
        )

"""What an operator can ask of Central, as plain data; `from_operators.py` carries it out."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from evcharge.protocol.messages import ChargeRequest


class Role(StrEnum):
    """A viewer looks, an operator also changes."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, and by which way: `console`, `http` or `command line`."""

    name: str
    via: str


@dataclass(frozen=True, slots=True)
class StartCharge:
    """Start a charge for a driver; the same `message_id` again starts no second one."""

    request: ChargeRequest


@dataclass(frozen=True, slots=True)
class StopCharge:
    session_id: UUID


@dataclass(frozen=True, slots=True)
class SetService:
    """Take a charge point out of service, or back; all of them when `cp_id` is None."""

    cp_id: str | None
    out_of_service: bool


@dataclass(frozen=True, slots=True)
class SetPrice:
    """The operator's price, which holds whatever the charge point registers; None: its own holds again."""

    cp_id: str
    price_per_kwh: Decimal | None
    currency: str | None


Bill = int | Literal["all", "nothing"]
"""So many Wh in all, or all that is claimed, or nothing of it, which leaves what was billed before."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End an open session at once with what was metered: its charge point is gone."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class Settle:
    """The verdict on what was set aside under this number; `remark` says why."""

    number: int
    bill: Bill
    remark: str


@dataclass(frozen=True, slots=True)
class Correct:
    """The verdict on a session that has ended, and on all that was set aside of it."""

    session_id: UUID
    bill: Bill
    remark: str


@dataclass(frozen=True, slots=True)
class Reread:
    """The database's entry of this charge point has been added or removed: act on it."""

    cp_id: str


Command = StartCharge | StopCharge | CloseSession | Settle | Correct | SetService | SetPrice | Reread


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change that an operator has made: what `action` did to `target`, as it was before and after."""

    actor: Actor
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

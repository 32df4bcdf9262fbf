"""What crosses the operators' HTTP interface, as JSON; units and money as in `messages.py`.

Times are UTC; `zone` is Central's time zone, which its days are days of.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.set_aside import Kind
from evcharge.domain.status import Status
from evcharge.errors import BadJson, InvalidField
from evcharge.protocol.currencies import CODES, check_currency
from evcharge.protocol.messages import (
    A_CURRENCY,
    A_NEW_ID,
    AN_ID,
    ID_PATTERN,
    NEW_ID_PATTERN,
    Currency,
    Id,
    check_limit,
    check_price,
)
from evcharge.protocol.notation import NOT_PLAIN, Notation
from evcharge.protocol.wording import Wording

MAX_ROWS = 1000
"""Of one page."""


# As in the messages, in the words of JSON Schema: `$` alone would let Python's `re` pass a line end.
ID_REGEX = rf"^{ID_PATTERN}$(?!\n)"
HttpId = Annotated[str, Meta(pattern=ID_REGEX)]
NEW_ID_REGEX = rf"^{NEW_ID_PATTERN}$(?!\n)"
NewHttpId = Annotated[str, Meta(pattern=NEW_ID_REGEX)]
HttpCurrency = Annotated[str, Meta(extra_json_schema={"enum": CODES})]
PAGE_MARK_REGEX = r"^[0-9]{1,17}-[0-9]{1,18}$(?!\n)"
"""Where a page of sessions ended: microseconds since 1970, and the session's number."""
Remark = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$(?!\n)")]
"""Why an operator decides so: on one line."""
MAX_HOURS = 8760
COST_REGEX = r"^(1000000000(\.0{1,2})?|[0-9]{1,9}(\.[0-9]{1,2})?)$(?!\n)"
PRICE_REGEX = r"^(1000(\.0{1,6})?|[0-9]{1,3}(\.[0-9]{1,6})?)$(?!\n)"


HttpPrice = Annotated[Decimal, Meta(extra_json_schema={"pattern": PRICE_REGEX})]
HttpPower = Annotated[int, Meta(ge=1, le=10**8)]
HttpEnergy = Annotated[int, Meta(ge=1, le=10**9)]
HttpCost = Annotated[Decimal, Meta(extra_json_schema={"pattern": COST_REGEX})]
HttpHours = Annotated[float, Meta(gt=0, le=MAX_HOURS)]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What every part of an answer is."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every body of a request is. A field that nobody knows is a mistake: it is refused, not ignored."""


# What there is


class OpenSession(Shape, frozen=True, kw_only=True):
    """`stop_refused` says why the charge point has not stopped, though it was told to."""

    session_id: UUID
    driver_id: Id
    status: SessionStatus
    energy_wh: int
    power_w: int
    cost: Decimal
    currency: Currency
    requested_at: datetime
    started_at: datetime | None
    target_energy_wh: int | None
    soc_percent: float | None
    stop_requested: bool
    stop_refused: str | None = None


class CeilingsNow(Shape, frozen=True, kw_only=True):
    """The most that the charge point's Monitor may register; null: Central's default, of the currency: any."""

    max_price_per_kwh: Decimal | None
    currency: Currency | None
    max_power_w: int | None


class ChargePointNow(Shape, frozen=True, kw_only=True):
    """A charge point and the session that is open at it; `available` if a charge can start now.

    `price_per_kwh` is null if it has never registered, and no operator has set one; `own_price_per_kwh` is what
    its Monitor has registered last, whatever price holds. One that was `removed` is here until its session has
    ended.
    """

    cp_id: Id
    location: str
    status: Status
    connected: bool
    available: bool
    out_of_service: bool
    price_per_kwh: Decimal | None
    currency: Currency
    price_by_operator: bool
    own_price_per_kwh: Decimal | None = None
    own_currency: Currency | None = None
    max_power_w: int
    faults: list[str]
    last_heard_at: datetime | None
    session: OpenSession | None
    removed: bool = False
    ceilings: CeilingsNow | None = None


class ChargePointPage(Shape, frozen=True, kw_only=True):
    """In order of their ids. `next_after` is null on the last page; else ask again with it as `after`."""

    charge_points: list[ChargePointNow]
    next_after: str | None
    as_of: datetime


class Event(Shape, frozen=True, kw_only=True):
    """Something that happened: its name and what there is to say of it."""

    at: datetime
    event: str
    fields: dict[str, Any]


class Changes(Shape, frozen=True, kw_only=True):
    """One item of the event stream: the charge points that are otherwise than in the item before.

    The first item has them all.
    """

    as_of: datetime
    charge_points: list[ChargePointNow]
    removed_cp_ids: list[str]
    events: list[Event]


class SessionRow(Shape, frozen=True, kw_only=True):
    """It counts for the day of `booked_at`, when Central closed it; null while it is open.

    The `said_` times are the charge point's own, where they could not be believed; else null.
    """

    session_id: UUID
    cp_id: Id
    driver_id: Id
    status: SessionStatus
    end_reason: EndReason | None
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    energy_wh: int
    price_per_kwh: Decimal
    cost: Decimal
    currency: Currency
    revision: int
    stop_refused: str | None = None
    booked_at: datetime | None = None
    said_started_at: datetime | None = None
    said_ended_at: datetime | None = None


class SessionPage(Shape, frozen=True, kw_only=True):
    """Newest request first, or newest booking first where a period of bookings was asked for.

    `next_before` is null on the last page; else ask again with it as `before`.
    """

    sessions: list[SessionRow]
    next_before: str | None
    zone: str = "UTC"


class MeterValueRow(Shape, frozen=True, kw_only=True):
    seq: int
    measured_at: datetime
    energy_wh: int
    power_w: int
    soc_percent: float | None


class MeterValuePage(Shape, frozen=True, kw_only=True):
    """In order of `seq`. `next_after` is null on the last page; else ask again with it as `after`."""

    meter_values: list[MeterValueRow]
    next_after: int | None
    zone: str = "UTC"


class DriverRow(Shape, frozen=True, kw_only=True):
    """Without a key only an open registration serves the driver. A limit of null is Central's for all."""

    driver_id: Id
    added_at: datetime
    has_key: bool
    max_energy_wh: int | None = None
    max_cost: Decimal | None = None
    max_hours: float | None = None
    signed_only: bool = False


class DriverPage(Shape, frozen=True, kw_only=True):
    """In order of their ids. `next_after` is null on the last page; else ask again with it as `after`."""

    drivers: list[DriverRow]
    next_after: str | None
    zone: str = "UTC"


class FaultRow(Shape, frozen=True, kw_only=True):
    number: int
    cp_id: Id
    code: str
    description: str
    started_at: datetime
    cleared_at: datetime | None


class FaultPage(Shape, frozen=True, kw_only=True):
    """Newest first. `next_before` is null on the last page; else ask again with it as `before`."""

    faults: list[FaultRow]
    next_before: int | None
    zone: str = "UTC"


class AuditRow(Shape, frozen=True, kw_only=True):
    number: int
    at: datetime
    actor: str
    via: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Shape, frozen=True, kw_only=True):
    """Newest first. `next_before` is null on the last page; else ask again with it as `before`."""

    audit: list[AuditRow]
    next_before: int | None
    zone: str = "UTC"


class ToSettleRow(Shape, frozen=True, kw_only=True):
    """What was set aside for a person: `energy_wh` is claimed, by a message that is the evidence.

    `billed_wh` is what the whole session was billed when it was settled.
    """

    number: int
    kind: Kind
    session_id: UUID
    cp_id: Id
    energy_wh: int
    reason: str
    evidence: dict[str, Any]
    times: int
    set_aside_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    billed_wh: int | None
    remark: str | None


class ToSettlePage(Shape, frozen=True, kw_only=True):
    """Newest first. `next_before` is null on the last page; else ask again with it as `before`."""

    to_settle: list[ToSettleRow]
    next_before: int | None
    zone: str = "UTC"


class Waiting(Shape, frozen=True, kw_only=True):
    """How many of this kind wait to be settled, the oldest of them since then."""

    kind: Kind
    count: int
    since: datetime


class By(StrEnum):
    DAY = "day"
    CHARGE_POINT = "charge_point"


class RevenueRow(Shape, frozen=True, kw_only=True):
    """What the sessions that were booked on one day, or at one charge point, came to, in one currency."""

    of: str
    sessions: int
    energy_wh: int
    cost: Decimal
    currency: Currency


class Revenue(Shape, frozen=True, kw_only=True):
    """From the day `since` to the day `until`, both included; days of Central's `zone`."""

    since: date
    until: date
    by: By
    rows: list[RevenueRow]
    zone: str = "UTC"


class Totals(Shape, frozen=True, kw_only=True):
    """The network now, and what was booked today; a day of Central's `zone`."""

    as_of: datetime
    charge_points: int
    by_status: dict[Status, int]
    out_of_service: int
    open_sessions: int
    power_w: int
    today: list[RevenueRow]
    zone: str = "UTC"
    to_settle: list[Waiting] = []
    """What waits for a person."""


class Health(Shape, frozen=True, kw_only=True):
    """`ok` if nothing is wrong, else `degraded`, with a sentence for each thing that is.

    `kafka`: ok, unreachable, clock_differs, refuses_records, records_wait or group_shared;
    `database`: ok or unusable; `receipts_wait_s`: how long the first of them has waited.
    """

    status: str
    kafka: str
    database: str
    version: str
    reasons: list[str] = []
    receipts_waiting: int = 0
    receipts_wait_s: float = 0.0


class Problem(Shape, frozen=True, kw_only=True):
    """Every answer that is no success: a code for programs, a sentence for people."""

    code: str
    reason: str


# What can be done


class StartOrder(Order, frozen=True, kw_only=True):
    """Without `energy_wh` until the battery is full. The same `request_id` again starts no second charge."""

    driver_id: HttpId
    energy_wh: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    request_id: UUID | None = None


class Started(Shape, frozen=True, kw_only=True):
    session_id: UUID


class Stopping(Shape, frozen=True, kw_only=True):
    """`reason` says why it does not stop at once."""

    session_id: UUID
    reason: str | None


class SettleOrder(Order, frozen=True, kw_only=True):
    """`energy_wh`: of the whole session; or all that is claimed; or nothing of it, so that the bill stays."""

    energy_wh: Annotated[int, Meta(ge=0, le=10**9)] | Literal["all", "nothing"]
    remark: Remark


class ServiceOrder(Order, frozen=True, kw_only=True):
    out_of_service: bool


class ServiceChanged(Shape, frozen=True, kw_only=True):
    """The charge points for which it was otherwise before."""

    changed_cp_ids: list[str]


class CeilingsChanged(Shape, frozen=True, kw_only=True):
    """The charge points for which they were others before."""

    changed_cp_ids: list[str]


class PriceOrder(Order, frozen=True, kw_only=True):
    """Without `currency` in the one that the charge point has."""

    price_per_kwh: HttpPrice
    currency: HttpCurrency | None = None

    def __post_init__(self) -> None:
        check_price(self.price_per_kwh)
        if self.currency is not None:
            check_currency(self.currency)


class CeilingsOrder(Order, frozen=True, kw_only=True):
    """What is absent stays as it is; null takes Central's default back."""

    max_price_per_kwh: HttpPrice | UnsetType | None = UNSET
    currency: HttpCurrency | UnsetType | None = UNSET
    max_power_w: HttpPower | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.max_price_per_kwh, Decimal):
            check_price(self.max_price_per_kwh)


class LimitsOrder(Order, frozen=True, kw_only=True):
    """What is absent stays as it is; null takes Central's limit for all back."""

    max_energy_wh: HttpEnergy | UnsetType | None = UNSET
    max_cost: HttpCost | UnsetType | None = UNSET
    max_hours: HttpHours | UnsetType | None = UNSET
    signed_only: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.max_cost, Decimal):
            check_limit(self.max_cost)


CEILING_FIELDS = {"max_price_per_kwh": "price_per_kwh", "currency": "currency", "max_power_w": "power_w"}
LIMIT_FIELDS = {
    "max_energy_wh": "energy_wh",
    "max_cost": "cost",
    "max_hours": "hours",
    "signed_only": "signed_only",
}
"""As they are called on the wire, and inside."""


def changes_of(order: CeilingsOrder | LimitsOrder) -> dict[str, Any]:
    """What is to be changed, by the names inside."""
    names = CEILING_FIELDS if isinstance(order, CeilingsOrder) else LIMIT_FIELDS
    stated = ((inside, getattr(order, name)) for name, inside in names.items())
    return {inside: value for inside, value in stated if value is not UNSET}


NO_CHANGES: Mapping[str, Any] = MappingProxyType({})


def order_of(names: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the order that asks for these changes."""
    return {name: changes[inside] for name, inside in names.items() if inside in changes}


class NewChargePoint(CeilingsOrder, frozen=True, kw_only=True):
    cp_id: NewHttpId


class ChargePointKey(Shape, frozen=True, kw_only=True):
    """The key is not stored and cannot be had again."""

    cp_id: Id
    key: str


class NewDriver(LimitsOrder, frozen=True, kw_only=True):
    driver_id: NewHttpId


class DriverKey(Shape, frozen=True, kw_only=True):
    """What the driver signs with; it cannot be had again."""

    driver_id: Id
    key: str


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is None does not matter. A period is one of bookings: from `since` on, to the end of the day `until`,
    or before the moment `until`."""

    cp_id: str | None = None
    driver_id: str | None = None
    since: date | datetime | None = None
    until: date | datetime | None = None


ORDERS = [*Order.__subclasses__(), NewChargePoint, NewDriver]
BODIES = [*Shape.__subclasses__(), *ORDERS]

OrderT = TypeVar("OrderT")
_notation = Notation(ORDERS)
_wording = Wording(
    {
        HttpId: AN_ID,
        NewHttpId: A_NEW_ID,
        HttpCurrency: A_CURRENCY,
        Remark: "a text of 1 to 500 characters on one line",
    }
)


def read_body(kind: type[OrderT], body: bytes) -> OrderT:
    """The order in the body of a request; raises `InvalidField` or `BadJson`, with a sentence for people."""
    try:
        body.decode()  # msgspec does not look into names that it does not know
        order = msgspec.json.decode(body, type=kind)
        not_plain = _notation.not_plain(kind, body) if kind in _notation.kinds else None
    except UnicodeDecodeError as bad_text:
        raise BadJson(f"the body is not in UTF-8, at byte {bad_text.start}") from None
    except msgspec.ValidationError as problem:
        raise InvalidField(f"the body is not as it should be: {_wording.what_is_wrong(kind, problem)}") from None
    except msgspec.DecodeError as bad_json:
        raise BadJson(f"the body is not valid JSON: {bad_json}") from None
    except RecursionError:
        raise BadJson("the body is nested too deeply") from None
    if not_plain is not None:
        raise InvalidField(f"the body is not as it should be: `{not_plain}` {NOT_PLAIN}")
    return order

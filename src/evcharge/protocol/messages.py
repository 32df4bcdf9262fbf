"""One frozen struct a message; docs/protocol.md is the page for people.

A message is one JSON object. `type` names it, `message_id` (UUID) identifies it, `timestamp` (RFC 3339, UTC)
says when it was made. Whoever sends a request again sends the same `message_id`. A reply carries
`in_reply_to`. Units stand in the names: `_wh`, `_w`, `_percent`, `_s`; money is a decimal string beside a
`currency` (ISO 4217). Unknown fields are ignored.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, get_args
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec import Meta

from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.status import Status
from evcharge.errors import BadJson, BadMessage, InvalidField, UnexpectedType, UnknownType
from evcharge.protocol.currencies import MOST_DIGITS, check_currency
from evcharge.protocol.notation import NOT_PLAIN, Notation
from evcharge.protocol.plain_text import one_line
from evcharge.protocol.wording import Wording

ID_PATTERN = "[A-Za-z0-9._:-]{1,64}"
Id = Annotated[str, Meta(pattern=rf"\A{ID_PATTERN}\Z")]
NEW_ID_PATTERN = r"(?!\.+$)(?!-)" + ID_PATTERN
"""Of an id that nobody has yet: none that a path or a command line takes for something else. Older ones go on."""
NO_ID = "is no id; an id has 1 to 64 letters, digits or . _ : -, and neither begins with - nor is dots alone"
MAX_TEXT = 500
Text = Annotated[str, Meta(max_length=MAX_TEXT, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
Currency = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
EnergyWh = Annotated[int, Meta(ge=0, le=10**9)]
PowerW = Annotated[int, Meta(ge=0, le=10**8)]
SocPercent = Annotated[float, Meta(ge=0, le=100)]
Confirmation = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Utc = Annotated[datetime, Meta(tz=True)]

MAX_PRICE_PER_KWH = Decimal(1000)
PRICE_DECIMALS = 6
LIMIT_DECIMALS = 2
MAX_COST = Decimal(10**9)
WHOLE_CENTS = Decimal("0.01")
MAX_PAGE = 200


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message has."""

    message_id: UUID
    timestamp: Utc

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)


class Reply(Message, frozen=True, kw_only=True):
    """An answer; to nothing in particular when `in_reply_to` is null."""

    in_reply_to: UUID | None = None


class Verdict(Reply, frozen=True, kw_only=True):
    """An answer that accepts, or refuses with a code of `evcharge.errors` and a sentence."""

    accepted: bool
    code: Id | None = None
    reason: Text | None = None


class DriverRequest(Message, frozen=True, kw_only=True):
    """What a driver says, and signs."""

    driver_id: Id


# Monitor to Central, and back


class AuthRequest(Message, frozen=True, kw_only=True, tag="auth_request"):
    cp_id: Id
    key: Text = ""


class AuthResponse(Verdict, frozen=True, kw_only=True, tag="auth_response"):
    pass


class RegisterRequest(Message, frozen=True, kw_only=True, tag="register_request"):
    cp_id: Id
    location: Text
    price_per_kwh: Decimal
    currency: Currency
    max_power_w: PowerW

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)
        check_price(self.price_per_kwh)
        check_currency(self.currency)


class RegisterResponse(Verdict, frozen=True, kw_only=True, tag="register_response"):
    status: Status
    out_of_service: bool = False


class HeartbeatRequest(Message, frozen=True, kw_only=True, tag="heartbeat_request"):
    cp_id: Id


class HeartbeatResponse(Reply, frozen=True, kw_only=True, tag="heartbeat_response"):
    pass


class StatusUpdate(Message, frozen=True, kw_only=True, tag="status_update"):
    """What the charge point knows of itself. `session_id` is the charge that runs at it, `unsettled_session_ids`
    are those whose completion has no receipt yet; both mean something only while `engine_connected`."""

    cp_id: Id
    status: Status
    engine_connected: bool
    session_id: UUID | None = None
    unsettled_session_ids: list[UUID] = []
    reason: Text | None = None


class FaultNotification(Message, frozen=True, kw_only=True, tag="fault_notification"):
    cp_id: Id
    fault_code: Id
    description: Text


class RecoveryNotification(Message, frozen=True, kw_only=True, tag="recovery_notification"):
    cp_id: Id
    fault_code: Id
    description: Text


class StartChargingCommand(Message, frozen=True, kw_only=True, tag="start_charging_command"):
    """Start; without `energy_wh` until the battery is full or somebody stops it."""

    cp_id: Id
    session_id: UUID
    driver_id: Id
    energy_wh: Annotated[int, Meta(ge=1, le=10**9)] | None = None


class StopChargingCommand(Message, frozen=True, kw_only=True, tag="stop_charging_command"):
    cp_id: Id
    session_id: UUID
    end_reason: EndReason = EndReason.STOPPED


class CommandResponse(Verdict, frozen=True, kw_only=True, tag="command_response"):
    cp_id: Id
    session_id: UUID | None = None


class ChargingData(Message, frozen=True, kw_only=True, tag="charging_data"):
    """A meter value: the energy of this session so far. `seq` counts the session's readings from 0."""

    cp_id: Id
    session_id: UUID
    driver_id: Id
    seq: Seq
    energy_wh: EnergyWh
    power_w: PowerW
    soc_percent: SocPercent | None = None


class ChargeCompletion(Message, frozen=True, kw_only=True, tag="charge_completion"):
    """The last word of the meter; sent again until its `charge_completion_response` has come."""

    cp_id: Id
    session_id: UUID
    driver_id: Id
    seq: Seq
    energy_wh: EnergyWh
    end_reason: EndReason
    started_at: Utc
    ended_at: Utc
    soc_percent: SocPercent | None = None

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)
        check_time("started_at", self.started_at)
        check_time("ended_at", self.ended_at)


class ChargeCompletionResponse(Reply, frozen=True, kw_only=True, tag="charge_completion_response"):
    """The receipt. A higher `revision` replaces a lower one of the same session."""

    cp_id: Id
    session_id: UUID
    driver_id: Id
    status: SessionStatus
    end_reason: EndReason
    energy_wh: EnergyWh
    price_per_kwh: Decimal
    cost: Decimal
    currency: Currency
    requested_at: Utc
    ended_at: Utc
    revision: Annotated[int, Meta(ge=1)]
    started_at: Utc | None = None
    booked_at: Utc | None = None

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)
        check_price(self.price_per_kwh)
        check_cost(self.cost)


# Monitor to Engine, and back (beside the commands and the data above)


class InitCpId(Message, frozen=True, kw_only=True, tag="init_cp_id"):
    cp_id: Id
    max_power_w: PowerW


class HealthCheckRequest(Message, frozen=True, kw_only=True, tag="health_check_request"):
    cp_id: Id


class HealthCheckResponse(Reply, frozen=True, kw_only=True, tag="health_check_response"):
    """The Engine's own account. The Engine also sends it unasked whenever what it says has changed."""

    cp_id: Id
    healthy: bool
    vehicle_connected: bool
    session_id: UUID | None = None
    unsettled_session_ids: list[UUID] = []
    fault_code: Id | None = None


# Driver to Central, and back


class ChargeRequest(DriverRequest, frozen=True, kw_only=True, tag="charge_request"):
    """`confirmation` is the driver's word to the charge point that asks in its name: see `confirmation_of`."""

    cp_id: Id
    energy_wh: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    confirmation: Confirmation | None = None


class ChargeRequestResponse(Verdict, frozen=True, kw_only=True, tag="charge_request_response"):
    driver_id: Id
    cp_id: Id
    session_id: UUID | None = None
    price_per_kwh: Decimal | None = None
    currency: Currency | None = None
    target_energy_wh: EnergyWh | None = None

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)
        if self.price_per_kwh is not None:
            check_price(self.price_per_kwh)


class StopChargingRequest(DriverRequest, frozen=True, kw_only=True, tag="stop_charging_request"):
    cp_id: Id
    session_id: UUID


class StopChargingResponse(Verdict, frozen=True, kw_only=True, tag="stop_charging_response"):
    driver_id: Id
    cp_id: Id
    session_id: UUID


class AvailableCpsRequest(DriverRequest, frozen=True, kw_only=True, tag="available_cps_request"):
    """Charge points in order of their ids, those after `after`; only those one can charge at, unless `all`."""

    all: bool = False
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class CpInfo(msgspec.Struct, frozen=True, kw_only=True):
    cp_id: Id
    location: Text
    status: Status
    available: bool
    price_per_kwh: Decimal
    currency: Currency
    max_power_w: PowerW

    def __post_init__(self) -> None:
        check_price(self.price_per_kwh)


class AvailableCpsResponse(Reply, frozen=True, kw_only=True, tag="available_cps_response"):
    """`next_after` is null on the last page; else ask again with it as `after`."""

    driver_id: Id
    charge_points: list[CpInfo]
    next_after: str | None = None


class ChargingStatusRequest(DriverRequest, frozen=True, kw_only=True, tag="charging_status_request"):
    pass


class ChargingStatusUpdate(Reply, frozen=True, kw_only=True, tag="charging_status_update"):
    """How a driver's charge stands; sent at each change, and as the answer to `charging_status_request`.

    `notice` is for the driver to read: that the charge point does not stop, say.
    """

    driver_id: Id
    cp_id: Id
    session_id: UUID
    status: SessionStatus
    energy_wh: EnergyWh
    power_w: PowerW
    cost: Decimal
    currency: Currency
    target_energy_wh: EnergyWh | None = None
    soc_percent: SocPercent | None = None
    started_at: Utc | None = None
    notice: Text | None = None

    def __post_init__(self) -> None:
        check_time("timestamp", self.timestamp)
        check_cost(self.cost)


class ChargingHistoryRequest(DriverRequest, frozen=True, kw_only=True, tag="charging_history_request"):
    """The driver's ended sessions, newest first; those before the page mark `before`."""

    before: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 20


class PastSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: UUID
    cp_id: Id
    status: SessionStatus
    end_reason: EndReason
    energy_wh: EnergyWh
    price_per_kwh: Decimal
    cost: Decimal
    currency: Currency
    requested_at: Utc
    ended_at: Utc
    revision: Annotated[int, Meta(ge=1)]
    started_at: Utc | None = None
    booked_at: Utc | None = None

    def __post_init__(self) -> None:
        check_price(self.price_per_kwh)
        check_cost(self.cost)


class ChargingHistoryResponse(Reply, frozen=True, kw_only=True, tag="charging_history_response"):
    """`next_before` is null on the last page; else ask again with it as `before`."""

    driver_id: Id
    sessions: list[PastSession]
    next_before: int | None = None


# Anyone to anyone


class ErrorResponse(Reply, frozen=True, kw_only=True, tag="error_response"):
    """`in_reply_to` is the `message_id` of the message at fault, `driver_id` its driver, as far as legible."""

    code: Id
    reason: Text
    driver_id: Id | None = None


AnyMessage = (
    AuthRequest
    | AuthResponse
    | RegisterRequest
    | RegisterResponse
    | HeartbeatRequest
    | HeartbeatResponse
    | StatusUpdate
    | FaultNotification
    | RecoveryNotification
    | StartChargingCommand
    | StopChargingCommand
    | CommandResponse
    | ChargingData
    | ChargeCompletion
    | ChargeCompletionResponse
    | InitCpId
    | HealthCheckRequest
    | HealthCheckResponse
    | ChargeRequest
    | ChargeRequestResponse
    | StopChargingRequest
    | StopChargingResponse
    | AvailableCpsRequest
    | AvailableCpsResponse
    | ChargingStatusRequest
    | ChargingStatusUpdate
    | ChargingHistoryRequest
    | ChargingHistoryResponse
    | ErrorResponse
)

MESSAGE_TYPES: dict[str, type[Message]] = {str(cls.__struct_config__.tag): cls for cls in get_args(AnyMessage)}

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(AnyMessage)

AN_ID = "an id, of 1 to 64 of the characters A-Z a-z 0-9 . _ : -"
A_NEW_ID = f"{AN_ID}, which is not dots alone and does not begin with -"
A_CURRENCY = "a currency, three capital letters such as EUR"
_wording = Wording(
    {
        Id: AN_ID,
        Text: f"a text of at most {MAX_TEXT} characters, none of them a control character",
        Currency: A_CURRENCY,
    }
)
_notation = Notation(MESSAGE_TYPES.values())


class _Envelope(msgspec.Struct):
    """What is looked at in a message that could not be decoded."""

    type: Any = None
    message_id: Any = None
    driver_id: Any = None


_envelope_decoder = msgspec.json.Decoder(_Envelope)


class Undecodable(Exception):
    """Bytes that are no message: why, and what could be read of them all the same."""

    def __init__(self, error: BadMessage, message_id: UUID | None, driver_id: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.message_id = message_id
        self.driver_id = driver_id


def type_name(message: Message) -> str:
    return str(message.__struct_config__.tag)


def encode(message: Message) -> bytes:
    """The message as one JSON object in UTF-8, without a line end."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """The message in `data`; raises `Undecodable` with a `BadJson`, `UnknownType` or `InvalidField`."""
    try:
        message = _decoder.decode(data)
        if not data.isascii():
            data.decode()  # msgspec does not look into fields that it does not know
        kind = type(message)
        not_plain = _notation.not_plain(kind, data) if kind in _notation.kinds else None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise _undecodable(data, problem) from None
    except RecursionError:
        raise Undecodable(BadJson("nested too deeply"), None, None) from None
    if not_plain is not None:
        error = InvalidField(f"{type_name(message)}: `{not_plain}` {NOT_PLAIN}")
        raise Undecodable(error, message.message_id, getattr(message, "driver_id", None))
    return message


def _undecodable(data: bytes, problem: Exception) -> Undecodable:
    try:
        data.decode()
        envelope = _envelope_decoder.decode(data)
    except msgspec.ValidationError:
        return Undecodable(BadJson("a message must be a JSON object"), None, None)
    except UnicodeDecodeError as bad_text:
        return Undecodable(BadJson(f"not in UTF-8, at byte {bad_text.start}"), None, None)
    except msgspec.DecodeError as bad_json:
        return Undecodable(BadJson(f"not valid JSON: {bad_json}"), None, None)
    except RecursionError:
        return Undecodable(BadJson("nested too deeply"), None, None)
    error: BadMessage
    if not isinstance(envelope.type, str):
        error = InvalidField("the field `type` is missing or is no string")
    elif envelope.type not in MESSAGE_TYPES:
        error = UnknownType(f"there is no message of type {envelope.type[:60]!a}")
    elif not isinstance(problem, msgspec.ValidationError):
        error = BadJson(f"not valid JSON: {problem}")
    else:
        wrong = _wording.what_is_wrong(MESSAGE_TYPES[envelope.type], problem)
        error = InvalidField(shown(f"{envelope.type}: {wrong}"))
    driver_id = envelope.driver_id if is_id(envelope.driver_id) else None
    return Undecodable(error, _uuid_or_none(envelope.message_id), driver_id)


def fits(value: Any, field_type: Any) -> bool:
    """Whether `value` may cross the wire in a field of this type."""
    try:
        msgspec.convert(value, field_type)
    except msgspec.ValidationError:
        return False
    return True


def is_id(value: Any) -> bool:
    """Whether `value` is an identifier that may cross the wire."""
    return fits(value, Id)


def is_new_id(value: str) -> bool:
    """Whether a charge point, a driver or a token may be given this id."""
    return re.fullmatch(NEW_ID_PATTERN, value) is not None and is_id(value)


def _uuid_or_none(value: Any) -> UUID | None:
    try:
        return msgspec.convert(value, UUID)
    except msgspec.ValidationError:
        return None


def shown(text: str) -> str:
    """A text that may hold a peer's words, made fit for a message, a log and a terminal."""
    return one_line(text[:MAX_TEXT])[:MAX_TEXT]


def check_price(price: Decimal) -> None:
    """Raises `ValueError` for what is no price, or one that no column holds."""
    _check_money("price_per_kwh", price, MAX_PRICE_PER_KWH, PRICE_DECIMALS)


def check_cost(cost: Decimal) -> None:
    """Raises `ValueError` for what is no sum of money: NaN, say."""
    if cost.same_quantum(WHOLE_CENTS) and not cost.is_signed() and cost <= MAX_COST:
        return  # As Central writes most of them, so that no more need be looked at.
    _check_money("cost", cost, MAX_COST, MOST_DIGITS)


def check_limit(cost: Decimal) -> None:
    """Raises `ValueError` for what cannot be the most that a charge may cost."""
    _check_money("max_cost", cost, MAX_COST, LIMIT_DECIMALS)


def _check_money(name: str, money: Decimal, most: Decimal, most_decimals: int) -> None:
    exponent = money.as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) else most_decimals + 1
    if not 0 <= decimals <= most_decimals or money.is_signed() or money > most:
        raise ValueError(
            f"`{name}` must be a number from 0 to {most}, of at most {most_decimals} decimals, in plain notation"
        )


def check_time(name: str, time: datetime) -> None:
    """Raises `ValueError` for a time that could not be told in UTC."""
    if not 1 < time.year < 9999:
        raise ValueError(f"`{name}` must lie in the years 2 to 9998")


def new_id() -> UUID:
    """An id for a message that nobody has sent before."""
    return uuid4()


def derived_id(origin: UUID, name: str) -> UUID:
    """The id of the message called `name` that follows from `origin`: the same whenever it is made again."""
    return uuid5(origin, name)


def numbered_id(origin: UUID, number: int) -> UUID:
    """The id of one of very many messages that follow from `origin`, by its number among them, from 1."""
    return UUID(int=(origin.int + number) % 2**128)


def answering(request: Message, now: Instant) -> dict[str, Any]:
    """The head of the answer to `request`: the same whenever it is given again, but for the time."""
    return {
        "message_id": derived_id(request.message_id, "answer"),
        "timestamp": now.utc,
        "in_reply_to": request.message_id,
    }


def refusal(message: Message, allowed: Iterable[type[Message]]) -> UnexpectedType:
    """The error for a well-formed message that has no business here."""
    names = ", ".join(sorted(str(cls.__struct_config__.tag) for cls in allowed))
    return UnexpectedType(f"{type_name(message)} may not be sent here; expected one of: {names}")


def error_response(
    code: str, reason: str, in_reply_to: UUID | None, now: Instant, driver_id: str | None = None
) -> ErrorResponse:
    return ErrorResponse(
        message_id=new_id(),
        timestamp=now.utc,
        in_reply_to=in_reply_to,
        code=code,
        reason=shown(reason),
        driver_id=driver_id,
    )

"""Everything that evcharge raises on purpose, and the codes that cross the wire.

    EvchargeError
    ├── UsageError                 what the person typed, or set, is wrong          (exit code 2)
    │   ├── AlreadyThere
    │   └── NotThere
    ├── EnvironmentFault           the machine does not let us work                 (exit code 3)
    │   ├── AddressInUse
    │   ├── DatabaseUnusable
    │   ├── KafkaUnusable
    │   └── TlsUnusable
    ├── StillOpen                  what an operator wants to settle has not ended
    ├── NotDecided                 an operator's command waits for a worker that is held up
    ├── IllegalTransition          a bug of ours: raised, and nothing has changed
    └── WireError                  told to the peer as an `error_response`, or as the code of a refusal
        ├── BadMessage             the bytes are no message of ours
        │   ├── BadJson            bad_json
        │   ├── UnknownType        unknown_type
        │   ├── InvalidField       invalid_field
        │   └── UnexpectedType     unexpected_type
        ├── LineTooLong            line_too_long           (closes the connection)
        ├── TlsRequired            tls_required            (closes the connection)
        ├── TlsFailed              tls_failed              (closes the connection)
        ├── TooManyMessages        too_many_messages
        ├── TooManyConnections     too_many_connections    (closes the connection)
        ├── NotAuthenticated       not_authenticated
        ├── AuthenticationFailed   authentication_failed   (closes the connection)
        ├── TooManyFailures        too_many_failures       (closes the connection)
        ├── ConnectionReplaced     connection_replaced     (closes the connection)
        ├── PeerSilent             peer_silent             (closes the connection)
        ├── PeerTooSlow            peer_too_slow           (closes the connection)
        ├── ReconnectRequested     reconnect_requested     (closes the connection)
        ├── NotRegistered          not_registered
        ├── NotYours               not_yours
        ├── NotConfirmed           not_confirmed
        ├── AboveCeiling           above_ceiling
        ├── LimitTooLow            limit_too_low
        ├── RequestExpired         request_expired
        ├── UnknownChargePoint     unknown_charge_point
        ├── UnknownDriver          unknown_driver
        ├── UnknownSession         unknown_session
        ├── ImplausibleMeter       implausible_meter
        ├── NoOpenSession          no_open_session
        ├── ChargePointBusy        charge_point_busy
        ├── ChargePointUnavailable charge_point_unavailable
        ├── ChargePointFaulty      charge_point_faulty
        ├── OutOfService           out_of_service
        ├── DriverBusy             driver_busy
        ├── EngineUnavailable      engine_unavailable
        ├── VehicleMissing         vehicle_missing
        └── InternalError          internal_error

A code is written once, on its class; `WIRE_ERRORS` finds the class of a code that came in.
"""

from typing import ClassVar


class EvchargeError(Exception):
    """Base of all; its text is one sentence that a person can act on."""


class UsageError(EvchargeError):
    """A wrong argument, option, environment variable or input file."""


class AlreadyThere(UsageError):
    """What is to be added has been added before."""


class NotThere(UsageError):
    """What is named does not exist."""


class EnvironmentFault(EvchargeError):
    """The machine refuses something that the program cannot do without."""


class AddressInUse(EnvironmentFault):
    """The TCP address to listen on is taken or is not ours."""


class DatabaseUnusable(EnvironmentFault):
    """The database cannot be opened, is not ours, or is from a newer version."""


class KafkaUnusable(EnvironmentFault):
    """The broker answers, but will not do what we need of it."""


class TlsUnusable(EnvironmentFault):
    """A certificate or key file cannot be read, or is not what it should be."""


class StillOpen(EvchargeError):
    """A session that has not ended cannot be settled."""


class NotDecided(EvchargeError):
    """An operator's command has not been decided in time; it may still be carried out."""


class IllegalTransition(EvchargeError):
    """A state machine was given an event that its table does not allow in that state."""


class WireError(EvchargeError):
    """Something that the peer did, or asked for, and that it is told about by `code` and a sentence."""

    code: ClassVar[str]


class BadMessage(WireError):
    """The bytes are no message that may be sent here."""


class BadJson(BadMessage):
    code = "bad_json"


class UnknownType(BadMessage):
    code = "unknown_type"


class InvalidField(BadMessage):
    code = "invalid_field"


class UnexpectedType(BadMessage):
    code = "unexpected_type"


class LineTooLong(WireError):
    code = "line_too_long"


class TlsRequired(WireError):
    code = "tls_required"


class TlsFailed(WireError):
    code = "tls_failed"


class TooManyMessages(WireError):
    code = "too_many_messages"


class TooManyConnections(WireError):
    code = "too_many_connections"


class NotAuthenticated(WireError):
    code = "not_authenticated"


class AuthenticationFailed(WireError):
    code = "authentication_failed"


class TooManyFailures(WireError):
    code = "too_many_failures"


class ConnectionReplaced(WireError):
    code = "connection_replaced"


class PeerSilent(WireError):
    code = "peer_silent"


class PeerTooSlow(WireError):
    code = "peer_too_slow"


class ReconnectRequested(WireError):
    code = "reconnect_requested"


class NotRegistered(WireError):
    code = "not_registered"


class NotYours(WireError):
    code = "not_yours"


class NotConfirmed(WireError):
    code = "not_confirmed"


class AboveCeiling(WireError):
    code = "above_ceiling"


class LimitTooLow(WireError):
    code = "limit_too_low"


class RequestExpired(WireError):
    code = "request_expired"


class UnknownChargePoint(WireError):
    code = "unknown_charge_point"


class UnknownDriver(WireError):
    code = "unknown_driver"


class UnknownSession(WireError):
    code = "unknown_session"


class ImplausibleMeter(WireError):
    code = "implausible_meter"


class NoOpenSession(WireError):
    code = "no_open_session"


class ChargePointBusy(WireError):
    code = "charge_point_busy"


class ChargePointUnavailable(WireError):
    code = "charge_point_unavailable"


class ChargePointFaulty(WireError):
    code = "charge_point_faulty"


class OutOfService(WireError):
    code = "out_of_service"


class DriverBusy(WireError):
    code = "driver_busy"


class EngineUnavailable(WireError):
    code = "engine_unavailable"


class VehicleMissing(WireError):
    code = "vehicle_missing"


class InternalError(WireError):
    code = "internal_error"


def _leaves(error: type[WireError]) -> list[type[WireError]]:
    children = error.__subclasses__()
    return [leaf for child in children for leaf in _leaves(child)] if children else [error]


WIRE_ERRORS: dict[str, type[WireError]] = {error.code: error for error in _leaves(WireError)}

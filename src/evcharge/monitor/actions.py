"""What a `Relay` wants done; `service.py` does it."""

from dataclasses import dataclass, field

from evcharge.errors import WireError
from evcharge.protocol.messages import Message


@dataclass(frozen=True, slots=True)
class ToCentral:
    message: Message


@dataclass(frozen=True, slots=True)
class ToEngine:
    message: Message


@dataclass(frozen=True, slots=True)
class DropCentral:
    """Telling it why, if there is anything to tell."""

    error: WireError | None


@dataclass(frozen=True, slots=True)
class DropEngine:
    error: WireError


@dataclass(frozen=True, slots=True)
class CentralSettled:
    """Central has accepted us."""


@dataclass(frozen=True, slots=True)
class HoldBackCentral:
    """Do not connect again soon."""


@dataclass(frozen=True, slots=True)
class EngineSettled:
    """The Engine has accepted us."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Another Monitor has our place. Leave it both links: one each would be a charge point that nobody serves."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, for the log."""

    event: str
    fields: dict[str, object] = field(default_factory=dict)
    problem: bool = False


Action = (
    ToCentral
    | ToEngine
    | DropCentral
    | DropEngine
    | CentralSettled
    | HoldBackCentral
    | EngineSettled
    | GiveWay
    | Note
)

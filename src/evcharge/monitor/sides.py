"""The two links of a Monitor, to Central and to its Engine: how far each has come, and when something is due.

Times are seconds of the monotonic clock.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from evcharge.monitor.config import MonitorConfig
from evcharge.protocol.messages import ChargeCompletion, ChargingData, HealthCheckResponse, Message

MAX_WAITING_READINGS = 10_000
HEARTBEATS_MISSED = 3


@dataclass(slots=True)
class Exchange:
    """When something was last asked, and last answered."""

    asked_s: float | None = None
    answered_s: float | None = None


class ToCentralIs(IntEnum):
    """How far the link to Central has come."""

    CLOSED = 0
    OPEN = 1
    ADMITTED = 2
    REGISTERED = 3


class ToEngineIs(IntEnum):
    """How far the link to the Engine has come; it is ready once it has given an account of itself."""

    CLOSED = 0
    OPEN = 1
    READY = 2


class CentralSide:
    def __init__(self, now_s: float) -> None:
        self.link = ToCentralIs.CLOSED
        self.heard_s = now_s
        self.next_heartbeat_s = now_s
        self.heartbeat = Exchange()
        self.passed_up = 0
        self.waiting: deque[ChargingData] = deque(maxlen=MAX_WAITING_READINGS)
        """Readings for when Central is there again."""
        self.refusals: dict[type[Message], str | None] = {}
        """What Central has said no to, and why, so that each is said once."""

    @property
    def registered(self) -> bool:
        return self.link is ToCentralIs.REGISTERED

    def patience_s(self, config: MonitorConfig) -> float:
        """The silence after which the link is given up."""
        return HEARTBEATS_MISSED * config.heartbeat_interval_s if self.registered else config.answer_timeout_s

    def due_s(self, config: MonitorConfig) -> list[float]:
        due_s = []
        if self.link is not ToCentralIs.CLOSED:
            due_s.append(self.heard_s + self.patience_s(config))
        if self.registered:
            due_s.append(self.next_heartbeat_s)
        return due_s


class EngineSide:
    def __init__(self, now_s: float) -> None:
        self.link = ToEngineIs.CLOSED
        self.heard_s = now_s
        """Infinite while we do not listen, having given way: then nobody can say that the Engine is silent."""
        self.patience_from_s = now_s
        self.next_check_s = now_s
        self.health_check = Exchange()
        self.init_id: UUID | None = None
        self.passed_down = 0
        self.account: HealthCheckResponse | None = None
        self.reading: tuple[ChargingData, float] | None = None
        """The last one, and when it was heard."""
        self.completion: ChargeCompletion | None = None

    @property
    def ready(self) -> bool:
        return self.link is ToEngineIs.READY

    @property
    def session_id(self) -> UUID | None:
        """The charge that runs there, by its last account."""
        return self.account.session_id if self.account is not None else None

    def due_s(self, config: MonitorConfig, known_silent: bool) -> list[float]:
        due_s = []
        if not known_silent:
            due_s.append(self.heard_s + config.health_timeout_s)
        if self.link is not ToEngineIs.CLOSED:
            due_s.append(self.patience_from_s + config.health_timeout_s)
        if self.ready:
            due_s.append(self.next_check_s)
        return due_s

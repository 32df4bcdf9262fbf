"""What a Monitor is told at its start."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    cp_id: str
    key: str = field(repr=False)
    location: str
    price_per_kwh: Decimal
    currency: str
    max_power_w: int
    heartbeat_interval_s: float = 30.0
    health_interval_s: float = 30.0
    health_timeout_s: float = 90.0
    answer_timeout_s: float = 10.0
    stop_on_central_loss: bool = False

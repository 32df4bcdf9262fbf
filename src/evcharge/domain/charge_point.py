"""A charge point as Central knows it."""

import hashlib
import hmac
from dataclasses import dataclass, field
from decimal import Decimal

from evcharge.domain import status
from evcharge.domain.status import Event, Status

NO_HASH = "0" * 64


def hash_key(key: str) -> str:
    """What is stored of a key. Keys are 256 random bits, so one round of SHA-256 keeps them secret."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(slots=True)
class ChargePoint:
    cp_id: str
    key_hash: str | None = None
    location: str = ""
    price_per_kwh: Decimal = Decimal(0)
    currency: str = "EUR"
    max_power_w: int = 0
    price_by_operator: bool = False
    status: Status = status.INITIAL
    out_of_service: bool = False
    removed: bool = False
    own_price_per_kwh: Decimal | None = None
    own_currency: str | None = None
    """What the Monitor registered last, whatever price holds."""
    ceiling_price_per_kwh: Decimal | None = None
    ceiling_currency: str | None = None
    ceiling_power_w: int | None = None
    """The operator's, for what a Monitor may register; None: Central's defaults."""

    # Only in memory: what the present connection has told us.
    connection: int | None = None
    last_heard_s: float = 0.0  # on the monotonic clock; 0 if never
    faults: set[str] = field(default_factory=set)
    settling: bool = False
    """Whether the charge point still owes an account of the session that Central holds open at it."""

    @property
    def has_registered(self) -> bool:
        """Ever; of one from before a Monitor's own price was kept, by what else it has told."""
        return self.own_price_per_kwh is not None or self.max_power_w > 0 or self.location != ""

    @property
    def known_price_per_kwh(self) -> Decimal | None:
        """None: it has never registered, and no operator has set one."""
        return self.price_per_kwh if self.has_registered or self.price_by_operator else None

    def take(self, event: Event) -> None:
        self.status = status.after(self.status, event)

    def admits(self, key: str) -> bool:
        # Without a key of its own it takes as long to say no as with one.
        return hmac.compare_digest(self.key_hash or NO_HASH, hash_key(key)) and self.key_hash is not None

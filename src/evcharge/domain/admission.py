"""Who may try to authenticate: whoever has failed too often waits, by address and id, and by address alone."""

import hmac

from evcharge.domain.charge_point import hash_key
from evcharge.limits import Failures

FREE_FOR_ONE_ID = 5
FREE_FOR_ALL_IDS = 100
"""Many more, and forgiven: one charge point with a wrong key must not lock its neighbours out."""
FORGIVE_EVERY_S = 10.0


class Guesses:
    """Failures to authenticate. One that is refused because it has to wait is none."""

    def __init__(self) -> None:
        self._of_one = Failures(FREE_FOR_ONE_ID)
        self._of_all = Failures(FREE_FOR_ALL_IDS, forgive_every_s=FORGIVE_EVERY_S)
        self._right: dict[str, str] = {}
        """cp_id -> hash of the key that was right last: whoever guesses behind the same address delays it not."""

    def wait_s(self, origin: str, cp_id: str, key: str, now_s: float) -> float:
        """0 for who may try."""
        if hmac.compare_digest(self._right.get(cp_id, ""), hash_key(key)):
            return 0.0
        return max(self._of_one.wait_s((origin, cp_id), now_s), self._of_all.wait_s(origin, now_s))

    def failed(self, origin: str, cp_id: str, now_s: float) -> float:
        """How long it has to wait now."""
        return max(self._of_one.failed((origin, cp_id), now_s), self._of_all.failed(origin, now_s))

    def succeeded(self, origin: str, cp_id: str, key: str) -> None:
        self._right[cp_id] = hash_key(key)
        self._of_one.succeeded((origin, cp_id))

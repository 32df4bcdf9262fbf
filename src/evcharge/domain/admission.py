"""Who has failed to authenticate too often waits, by address and id, and by address alone.

A key has 256 random bits, so a right one is no guess: it is let in at once, whoever fails beside it.
"""

from evcharge.limits import Failures

FREE_FOR_ONE_ID = 5
FREE_FOR_ALL_IDS = 100
"""Many more, and forgiven: one Monitor with a wrong key is no reason to tell its neighbours that they wait."""
FORGIVE_EVERY_S = 10.0


class Guesses:
    """Failures to authenticate. One that comes while its sender has to wait is none."""

    def __init__(self) -> None:
        self._of_one = Failures(FREE_FOR_ONE_ID)
        self._of_all = Failures(FREE_FOR_ALL_IDS, forgive_every_s=FORGIVE_EVERY_S)

    def wait_s(self, origin: str, cp_id: str, now_s: float) -> float:
        """How long who has failed still has to wait; 0 for who may try again."""
        return max(self._of_one.wait_s((origin, cp_id), now_s), self._of_all.wait_s(origin, now_s))

    def failed(self, origin: str, cp_id: str, now_s: float) -> float:
        """How long it has to wait now."""
        return max(self._of_one.failed((origin, cp_id), now_s), self._of_all.failed(origin, now_s))

    def succeeded(self, origin: str, cp_id: str) -> None:
        self._of_one.succeeded((origin, cp_id))

"""Say a thing once a while, and then how often it happened."""

import threading

MAX_KINDS = 1000
OTHERS = "(others)"


class Throttle:
    """Lets the first of each kind through, then one a period; of too many kinds it makes one. For any thread."""

    def __init__(self, period_s: float = 60.0) -> None:
        self._period_s = period_s
        self._since: dict[object, tuple[float, int]] = {}
        self._next_clearing_s = 0.0
        self._lock = threading.Lock()

    def admit(self, kind: object, now_s: float) -> int | None:
        """None to keep silent; else how many of this kind have been kept silent before it."""
        with self._lock:
            return self._admit(kind, now_s)

    def _admit(self, kind: object, now_s: float) -> int | None:
        if kind not in self._since and len(self._since) >= MAX_KINDS:
            self._forget_quiet_kinds(now_s)
            if len(self._since) >= MAX_KINDS:
                kind = OTHERS
        last = self._since.get(kind)
        if last is not None and now_s - last[0] < self._period_s:
            self._since[kind] = (last[0], last[1] + 1)
            return None
        self._since[kind] = (now_s, 0)
        return last[1] if last is not None else 0

    def _forget_quiet_kinds(self, now_s: float) -> None:
        if now_s < self._next_clearing_s:
            return
        self._next_clearing_s = now_s + self._period_s
        self._since = {key: entry for key, entry in self._since.items() if now_s - entry[0] < self._period_s}

"""Say a thing once a while, and then how often it happened."""


class Throttle:
    """Lets the first of each kind through, then one a period; forgets kinds that have become quiet."""

    def __init__(self, period_s: float = 60.0) -> None:
        self._period_s = period_s
        self._since: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object, now_s: float) -> int | None:
        """None to keep silent; else how many of this kind have been kept silent before it."""
        last = self._since.get(kind)
        if last is not None and now_s - last[0] < self._period_s:
            self._since[kind] = (last[0], last[1] + 1)
            return None
        if len(self._since) > 1000:
            self._since = {key: entry for key, entry in self._since.items() if now_s - entry[0] < self._period_s}
        self._since[kind] = (now_s, 0)
        return last[1] if last is not None else 0

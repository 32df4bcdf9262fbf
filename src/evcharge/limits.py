"""How much one stranger may ask for. Pure, and bounded in memory: of too many the one not seen for longest is
forgotten. Times are seconds of one clock that never goes back."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

KEPT = 10_000
DOUBLINGS = 32
IPV6_HOST_BITS = 64

V = TypeVar("V")


class Rate:
    """A token bucket for each: `per_s` for as long as one likes, `burst` at once."""

    def __init__(self, per_s: float, burst: int, kept: int = KEPT) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._kept = kept
        self._left: dict[Hashable, tuple[float, float]] = {}

    def wait_s(self, who: Hashable, now_s: float) -> float:
        """0 if this one is admitted, which counts; else the time until one would be."""
        left, since_s = self._left.pop(who, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        admitted = left >= 1
        _remember(self._left, who, (left - 1 if admitted else left, now_s), self._kept)
        return 0.0 if admitted else (1 - left) / self._per_s


class Allowance:
    """A token bucket for one who is read first and held back after."""

    __slots__ = ("_burst", "_left", "_per_s", "_since_s")

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s = per_s
        self._burst = self._left = float(burst)
        self._since_s = now_s

    def spend(self, number: int, now_s: float) -> float:
        """0 while there is some left; else the time until there is enough again for a second."""
        self._left = min(self._burst, self._left + (now_s - self._since_s) * self._per_s) - number
        self._since_s = now_s
        return 0.0 if self._left >= 0 else (min(self._per_s, self._burst) - self._left) / self._per_s


class Failures:
    """Who has failed `free` times in a row waits a second, and twice as long after each further failure.

    One failure is forgiven for each `forgive_every_s` without another.
    """

    def __init__(
        self, free: int, longest_s: float = 300.0, kept: int = KEPT, forgive_every_s: float = math.inf
    ) -> None:
        self._free = free
        self._longest_s = longest_s
        self._kept = kept
        self._forgive_every_s = forgive_every_s
        self._failed: dict[Hashable, tuple[float, float]] = {}

    def wait_s(self, who: Hashable, now_s: float) -> float:
        """0 for who may try."""
        _, until_s = self._failed.get(who, (0, now_s))
        return max(0.0, until_s - now_s)

    def failed(self, who: Hashable, now_s: float) -> float:
        """How long it has to wait now."""
        times, until_s = self._failed.pop(who, (0.0, now_s))
        times = 1 + max(0.0, times - max(0.0, now_s - until_s) / self._forgive_every_s)
        beyond = times - self._free
        wait_s = min(self._longest_s, 2.0 ** min(beyond, DOUBLINGS)) if beyond >= 0 else 0.0
        _remember(self._failed, who, (times, now_s + wait_s), self._kept)
        return wait_s

    def succeeded(self, who: Hashable) -> None:
        self._failed.pop(who, None)


class Places:
    """So many in all, so many each."""

    def __init__(self, in_all: int, each: int) -> None:
        self._in_all = in_all
        self._each = each
        self._taken: Counter[Hashable] = Counter()
        self._all = 0

    def take(self, who: Hashable) -> bool:
        """Whether there was a place, which is this one's until it leaves."""
        if self._taken[who] >= self._each or self._all >= self._in_all:
            self._forget_if_gone(who)
            return False
        self._taken[who] += 1
        self._all += 1
        return True

    def leave(self, who: Hashable) -> None:
        self._taken[who] -= 1
        self._all -= 1
        self._forget_if_gone(who)

    def _forget_if_gone(self, who: Hashable) -> None:
        if not self._taken[who]:
            del self._taken[who]

    @contextmanager
    def taken(self, who: Hashable) -> Iterator[bool]:
        """The same until the end of the block."""
        there = self.take(who)
        try:
            yield there
        finally:
            if there:
                self.leave(who)


def network_of(host: str) -> str:
    """Who is behind an address, as far as that shows: of IPv6 one household has 2**64, so its prefix counts."""
    try:
        address = ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> IPV6_HOST_BITS << IPV6_HOST_BITS)}/{IPV6_HOST_BITS}"
    return str(address)


def _remember(known: dict[Hashable, V], who: Hashable, what: V, kept: int) -> None:
    known[who] = what  # at the end, as it was popped before
    if len(known) > kept:
        del known[next(iter(known))]

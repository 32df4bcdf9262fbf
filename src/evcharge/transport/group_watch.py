"""Whose offsets are they? Beside each offset in Kafka stands the mark of the one who wrote it.

A mark that is not ours, found at our start, is left over, or of another who still runs: we say so once, and put
our own in its place. One that appears after that is of another who runs now.
"""

from collections.abc import Mapping
from enum import Enum, auto

QUIET_LOOKS = 3
"""After so many without a mark of another's all is well again."""

Place = tuple[str, int]


class GroupNews(Enum):
    NONE = auto()
    OF_ANOTHER = auto()
    """Another has written offsets: before us, or beside us."""
    OURS_ALONE = auto()
    """Nobody else does any more."""


class GroupWatch:
    """`owner` says in a mark whose it is, `instance` tells two of the same owner apart. Belongs to one thread."""

    def __init__(self, owner: str, instance: str) -> None:
        self._owner = owner
        self.name = f"{owner} #{instance}"
        self._looks = 0
        self._left_over: dict[Place, str] | None = None
        """Marks that have been there since our first look; ours have not reached Kafka there yet."""
        self._told_of: set[str] = set()
        self._quiet = 0
        self.others: list[str] = []
        """Whose marks have been found of late."""
        self.shared = False
        """Whether another writes now."""

    @property
    def mark(self) -> str:
        """What to write now. It changes, so that one that was written again is not taken for one that is left."""
        return f"{self.name}.{self._looks}"

    def is_ours(self, mark: str) -> bool:
        return _name_of(mark) == self.name

    def see(self, marks: Mapping[Place, str]) -> GroupNews:
        """Take note of all marks, as they are now; whoever calls replaces those that are not ours after this."""
        self._looks += 1
        strange = {place: mark for place, mark in marks.items() if mark and not self.is_ours(mark)}
        if self._left_over is None:
            self._left_over = strange
            # One of our owner's is of our last run; so is one of an older version, without an instance.
            return self._found({mark for mark in strange.values() if _owner_of(mark) != self._owner})
        left_over = self._left_over
        fresh = {mark for place, mark in strange.items() if left_over.get(place) != mark}
        self._left_over = {place: mark for place, mark in left_over.items() if marks.get(place) == mark}
        self.shared = bool(fresh) or (self.shared and self._quiet < QUIET_LOOKS - 1)
        return self._found(fresh)

    def _found(self, marks: set[str]) -> GroupNews:
        if marks:
            others = {_name_of(mark) for mark in marks}
            self._quiet = 0
            self.others = sorted(others)
            told_before = self._told_of.issuperset(others)
            self._told_of |= others
            return GroupNews.NONE if told_before else GroupNews.OF_ANOTHER
        self._quiet += 1
        if self._quiet < QUIET_LOOKS or not self._told_of:
            return GroupNews.NONE
        self._told_of.clear()
        self.others = []
        return GroupNews.OURS_ALONE


def _name_of(mark: str) -> str:
    """Its owner and instance; the owner alone in a mark of an older version."""
    return mark.rpartition(".")[0] if " #" in mark else mark


def _owner_of(mark: str) -> str:
    return mark.partition(" #")[0]

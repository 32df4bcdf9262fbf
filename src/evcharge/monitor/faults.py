"""What is wrong with a charge point, and who may say that it is over."""

from evcharge.domain.faults import SEEN_FROM_OUTSIDE
from evcharge.errors import UsageError
from evcharge.protocol import messages


class Faults:
    """Code -> description, of two origins: what is found (the Engine says it, or the Monitor sees it), and what a
    technician reports at the Monitor. The same fault may be of both, and lasts until both say that it is over."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._reported: dict[str, str] = {}

    @property
    def all(self) -> dict[str, str]:
        return self._reported | self._found

    @property
    def found(self) -> list[str]:
        """The codes that the Engine has told, or that the Monitor has seen."""
        return list(self._found)

    @property
    def reported(self) -> list[str]:
        """The codes that can be cleared at the Monitor."""
        return list(self._reported)

    def find(self, code: str, description: str) -> bool:
        """Whether it is new."""
        is_new = code not in self.all
        self._found.setdefault(code, description)
        return is_new

    def no_longer_find(self, codes: list[str]) -> list[str]:
        """Those of them that are over now; one that a technician has reported as well lasts."""
        gone = [code for code in codes if self._found.pop(code, None) is not None]
        return [code for code in gone if code not in self._reported]

    def report(self, code: str, description: str) -> bool:
        """Whether it is new. Raises `UsageError` for a code that nobody can report."""
        if not messages.is_id(code):
            raise UsageError(f"{code!a} is no code; a code has 1 to 64 letters, digits or . _ : -")
        if code in SEEN_FROM_OUTSIDE:
            raise UsageError(f"the fault {code} is for evcharge itself to report")
        if code in self._reported:
            raise UsageError(f"the fault {code} is reported already")
        is_new = code not in self.all
        self._reported[code] = description
        return is_new

    def clear(self, code: str) -> bool:
        """Whether it is over. Raises `UsageError` for one that was not reported, which says who can clear it."""
        if code not in self._reported:
            if code not in self._found:
                raise UsageError(f"there is no fault {code!a}")
            if code in SEEN_FROM_OUTSIDE:
                raise UsageError(f"the fault {code} ends by itself when the Engine answers")
            raise UsageError(f"the fault {code} is the Engine's own: it ends when it is repaired there")
        del self._reported[code]
        return code not in self._found

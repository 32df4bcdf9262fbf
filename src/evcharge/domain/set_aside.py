"""What waits for a person to settle, as plain data; `settling.py` fills the list and empties it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    IMPLAUSIBLE_READING = "implausible_reading"
    """A meter beyond belief in mid-charge; a believable completion settles it."""
    IMPLAUSIBLE_COMPLETION = "implausible_completion"
    SECOND_COMPLETION = "second_completion"
    """Another energy for a session that has been settled."""
    COMPLETION_BELOW_READING = "completion_below_reading"
    """The lower one was billed."""
    ORPHAN = "orphan"
    """A completion of a session that nobody knows, as after the restoring of an older copy of the database."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A claim: once for each session and kind until it is settled, however many `times` it comes."""

    session_id: UUID
    cp_id: str
    kind: Kind
    energy_wh: int
    """That is claimed; of several the most."""
    reason: str
    evidence: dict[str, Any]
    """The message as it came."""
    set_aside_at: datetime
    times: int = 1
    number: int = 0
    """0 until the database has given one."""
    settled_at: datetime | None = None
    settled_by: str | None = None

    @property
    def waits(self) -> bool:
        return self.settled_at is None

    def came_as(self, message_id: UUID) -> bool:
        return bool(self.evidence.get("message_id") == str(message_id))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What has become of the claim of this session and kind; `billed_wh` is the bill of the whole session now."""

    session_id: UUID
    kind: Kind
    settled_by: str
    billed_wh: int
    remark: str

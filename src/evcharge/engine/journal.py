"""What a charge point must not forget in a power cut: each session without a receipt, one file a session.

A file has one message a line, as it was sent: the readings and, at the end, the completion. A line that was cut
off is ignored. The receipt deletes the file; a completion that Central refuses for good is set aside instead.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from evcharge.domain.session import EndReason
from evcharge.errors import EnvironmentFault
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargeCompletion, ChargingData, Message, Undecodable, derived_id

SUFFIX = ".jsonl"
SET_ASIDE = ".refused"
UNREADABLE = ".unreadable"


class Journal:
    """The journal of one charge point, in a folder of its own below `root`."""

    def __init__(self, root: Path, cp_id: str) -> None:
        # The prefix keeps an id like `..` inside of `root`.
        self._folder = root / f"cp-{cp_id}"
        try:
            with suppress(FileExistsError):
                root.mkdir(mode=0o700, parents=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as problem:
            raise EnvironmentFault(
                f"the journal {self._folder} cannot be written ({problem.strerror}); choose another with --journal"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise EnvironmentFault(
                f"another Engine keeps its journal in {self._folder}; choose another folder with --journal"
            ) from None
        self._open: dict[UUID, int] = {}
        self.unreadable: list[Path] = []
        """Files whose lines are whole, but not ours: kept, for a person to look at."""

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        os.close(self._lock)

    def write(self, message: ChargingData | ChargeCompletion) -> int:
        """Append to the session's file, so that it outlives this process; the descriptor, to be synced."""
        descriptor = self._open.get(message.session_id)
        if descriptor is None:
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
            descriptor = os.open(self._path(message.session_id), flags, 0o600)
            self._open[message.session_id] = descriptor
        line = messages.encode(message) + b"\n"
        if _is_cut_off(descriptor):
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return descriptor

    def sync_folder(self) -> None:
        """Make the names of new files outlive a power cut."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def settle(self, session_id: UUID) -> None:
        """The receipt has come."""
        self._close(session_id)
        self._path(session_id).unlink(missing_ok=True)

    def set_aside(self, session_id: UUID) -> Path:
        """Central refuses the session; keep it for a person to look at."""
        self._close(session_id)
        path = self._path(session_id)
        aside = path.with_suffix(SET_ASIDE)
        if path.exists():  # not if the disk was full when it should have been written
            path.rename(aside)
        return aside

    def unsettled(self) -> list[ChargeCompletion]:
        """The completion of each session that has no receipt; of one that broke off, from its last reading."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            entries = _entries(path)
            if not entries and b"\n" in path.read_bytes():
                self.unreadable.append(path.rename(path.with_suffix(UNREADABLE)))
            elif not entries:
                path.unlink()  # Nothing had been promised yet when the power went.
            elif isinstance(entries[-1], ChargeCompletion):
                found.append(entries[-1])
            else:
                readings = [entry for entry in entries if isinstance(entry, ChargingData)]
                completion = _broken_off(readings[0], readings[-1])
                os.fdatasync(self.write(completion))
                found.append(completion)
        return found

    def _path(self, session_id: UUID) -> Path:
        return self._folder / f"{session_id}{SUFFIX}"

    def _close(self, session_id: UUID) -> None:
        descriptor = self._open.pop(session_id, None)
        if descriptor is not None:
            os.close(descriptor)


def _is_cut_off(descriptor: int) -> bool:
    """Whether the last line of the file has no end: the power went, or the disk was full."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _entries(path: Path) -> list[Message]:
    entries = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entries.append(messages.decode(line))
        except Undecodable:
            continue  # cut off in mid-write, or the empty end
    return [entry for entry in entries if isinstance(entry, ChargingData | ChargeCompletion)]


def _broken_off(first: ChargingData, last: ChargingData) -> ChargeCompletion:
    return ChargeCompletion(
        message_id=derived_id(last.session_id, "completion"),
        timestamp=last.timestamp,
        cp_id=last.cp_id,
        session_id=last.session_id,
        driver_id=last.driver_id,
        seq=last.seq + 1,
        energy_wh=last.energy_wh,
        end_reason=EndReason.ENGINE_RESTARTED,
        started_at=first.timestamp,
        ended_at=last.timestamp,
        soc_percent=last.soc_percent,
    )

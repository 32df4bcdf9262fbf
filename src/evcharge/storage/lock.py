"""The lock that a Central holds on its database. A second Central would decide from a memory of its own.

It is on the file itself (device and inode), so that no other name leads past it: no symbolic or hard link, no new
name for it, no second mount. It lies on a byte that SQLite never looks at, and belongs to the open file
(`F_OFD_SETLK`), where SQLite's own locks belong to the process. Beside it one is on the name, in `….lock`: for a
Central that is older, or where the system has no such locks; and as SQLite's log goes by the name.
"""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from evcharge.errors import DatabaseUnusable
from evcharge.storage.database import check_names, check_place, make_private

OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
LOCKED_BYTE = 2**62
"""SQLite locks some bytes from 2**30 on."""
TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database for one Central; raises `DatabaseUnusable` if another does.

    Whatever opens the file in this process has to close it before: the end of any descriptor takes SQLite's locks
    along.
    """
    check_place(path)
    real_path = Path(os.path.realpath(path))
    make_private(real_path)
    with ExitStack() as held:
        lock_path = real_path.with_name(real_path.name + ".lock")
        by_name = _opened(lock_path, os.O_CREAT | os.O_RDWR, f"the lock {lock_path} cannot be written", held)
        itself = _opened(real_path, os.O_RDWR, f"the database {path} cannot be written", held)
        try:
            fcntl.flock(by_name, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock(itself)
        except OSError as problem:
            if problem.errno not in TAKEN:
                raise DatabaseUnusable(f"the database {path} cannot be locked: {problem.strerror}") from None
            raise DatabaseUnusable(
                f"another Central runs on {path}; stop it first, or choose another --db"
            ) from None
        check_names(path)
        yield


def _opened(path: Path, flags: int, problem: str, held: ExitStack) -> int:
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as cause:
        raise DatabaseUnusable(f"{problem}: {cause.strerror}") from None
    held.callback(os.close, descriptor)
    return descriptor


def _lock(descriptor: int) -> None:
    if OFD_SETLK is None:
        return
    if sys.platform == "darwin":  # The fields of `struct flock`, as each system orders them.
        wanted = struct.pack("qqihh", LOCKED_BYTE, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
    else:
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, LOCKED_BYTE, 1, 0)
    try:
        fcntl.fcntl(descriptor, OFD_SETLK, wanted)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOLCK):
            raise

"""A whole copy of the database while a Central works on it, and the way back. Nothing is written over."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp

from evcharge.domain.commands import Actor, AuditEntry
from evcharge.errors import AlreadyThere, DatabaseUnusable, NotThere, UsageError
from evcharge.storage.database import REVISIONS, changing, check_place, open_database
from evcharge.storage.lock import locked
from evcharge.storage.registry import write_audit

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite would take for a part of whatever file has the name before it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database has in it, all of it checked."""

    sessions: int
    open_sessions: int
    charge_points: int
    drivers: int
    revision: str
    size_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.sessions} sessions ({self.open_sessions} open), {self.charge_points} charge points,"
            f" {self.drivers} drivers, schema {self.revision}, {self.size_bytes} bytes"
        )


def back_up(path: Path, target: Path, actor: Actor, now: datetime) -> Contents:
    """Copy the database `path` to the new file `target`, for its owner alone. A Central may be at work on it.

    Raises `NotThere`, `AlreadyThere`, `UsageError` or `DatabaseUnusable`; then there is no new file.
    """
    _check_source(path, "database")
    if os.path.lexists(target):
        raise AlreadyThere(f"{target} is there already; choose another name")
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist; make it first")
    with _draft_of(target) as draft:
        contents = _copy(path, draft)
        if contents.revision == REVISIONS[-1]:
            _write_audit(path, AuditEntry(actor, "backup", target.name[:64], None, {}), now)
        _put_in_place(draft, target)
    return contents


def restore(source: Path, path: Path, actor: Actor, now: datetime) -> tuple[Contents, Path | None]:
    """Put a copy of `source` in the place of the database `path`: what it has, and where the one before is kept.

    Raises `NotThere` or `DatabaseUnusable`, if a Central runs on it, say; then all is as it was.
    """
    _check_source(source, "backup")
    check_place(path)
    real_path = Path(os.path.realpath(path))
    if os.path.realpath(source) == str(real_path):
        raise UsageError(f"{source} is the database itself")
    was_there = real_path.exists()
    with locked(path):
        try:
            with _draft_of(real_path) as draft:
                contents = _copy(source, draft)
                _write_audit(draft, AuditEntry(actor, "restore", source.name[:64], None, {}), now)
                aside = _move_aside(real_path, now)
                draft.replace(real_path)
                _sync(real_path.parent)
        except BaseException:
            if not was_there and real_path.exists() and not real_path.stat().st_size:
                real_path.unlink()  # The lock had made it.
            raise
    return contents, aside


def _check_source(path: Path, what: str) -> None:
    if not path.is_file():
        raise NotThere(f"there is no {what} {path}")


def _copy(source: Path, draft: Path) -> Contents:
    """Raises `DatabaseUnusable` if that is not a whole database of ours."""
    # Without a log nobody is at work on it, and it may lie where nothing can be written.
    mode = "mode=rw" if source.with_name(source.name + "-wal").exists() else "mode=ro"
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?{mode}", uri=True)) as original,
            closing(sqlite3.connect(draft)) as copy,
        ):
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # so that it is one file
            return _checked(copy, source, draft)
    except sqlite3.Error as problem:
        cause = "it is no SQLite database" if "not a database" in str(problem) else str(problem)
        raise DatabaseUnusable(f"{source} cannot be copied: {cause}") from None


def _checked(copy: sqlite3.Connection, source: Path, draft: Path) -> Contents:
    def one(query: str) -> str:
        return str(copy.execute(query).fetchone()[0])

    if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        raise DatabaseUnusable(f"{source} is no database of evcharge")
    revision = one("SELECT version_num FROM alembic_version")
    if revision not in REVISIONS:
        raise DatabaseUnusable(f"{source} was written by a newer evcharge (schema {revision}); use that one")
    found = one("PRAGMA integrity_check(1)")
    astray = copy.execute("PRAGMA foreign_key_check").fetchone()
    if found != "ok" or astray is not None:
        raise DatabaseUnusable(
            f"{source} is damaged: {found if found != 'ok' else f'a row astray in {astray[0]}'}"
        )
    return Contents(
        sessions=int(one("SELECT count(*) FROM sessions")),
        open_sessions=int(one("SELECT count(*) FROM sessions WHERE ended_at IS NULL")),
        charge_points=int(one("SELECT count(*) FROM charge_points WHERE NOT removed")),
        drivers=int(one("SELECT count(*) FROM drivers WHERE NOT removed")),
        revision=revision,
        size_bytes=draft.stat().st_size,
    )


def _write_audit(path: Path, entry: AuditEntry, now: datetime) -> None:
    """It brings the database up to date, too, if need be."""
    engine = open_database(path)
    try:
        with changing(engine) as connection:
            write_audit(connection, [entry], now)
    finally:
        engine.dispose()


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """A new file beside it, for its owner alone, which is gone at the end unless it has been moved."""
    try:
        descriptor, name = mkstemp(prefix=f".{target.name[:100]}-", dir=target.parent)
    except OSError as problem:
        raise DatabaseUnusable(f"{target} cannot be written: {problem.strerror}") from None
    os.close(descriptor)
    try:
        yield Path(name)
    except OSError as problem:
        raise DatabaseUnusable(f"{target} cannot be written: {problem.strerror}") from None
    finally:
        for suffix in ("", *SIDE_FILES):
            Path(name + suffix).unlink(missing_ok=True)


def _put_in_place(draft: Path, target: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(draft, target)  # which writes over nothing
        draft.unlink()
    except FileExistsError:
        raise AlreadyThere(f"{target} is there already; choose another name") from None
    except OSError:  # not every file system has links
        draft.rename(target)
    _sync(target.parent)


def _move_aside(path: Path, now: datetime) -> Path | None:
    files = [Path(f"{path}{suffix}") for suffix in (*SIDE_FILES, "")]
    if not any(file.exists() and file.stat().st_size for file in files):
        return None
    aside = path.with_name(f"{path.name}.before-{now:%Y%m%dT%H%M%SZ}")
    if os.path.lexists(aside):
        raise AlreadyThere(f"{aside} is there already; try again in a second")
    for file in files:
        with suppress(FileNotFoundError):
            file.rename(aside.with_name(file.name.replace(path.name, aside.name, 1)))
    return aside


def _sync(folder: Path) -> None:
    """Make new names outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Opening the database: its folder, its file, its schema; each problem is one clear sentence."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from evcharge.errors import DatabaseUnusable
from evcharge.storage.schema import SQLITE_PRAGMAS

BEGIN_WRITING = "BEGIN IMMEDIATE"
LOCK_PATIENCE_S = 10.0
NEVER = threading.Event()
MIGRATIONS = Path(__file__).parent / "migrations"
REVISIONS = sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v*_*.py"))
"""Oldest first. From the names of the files: importing Alembic would make a start a tenth longer."""


def open_database(path: Path, giving_up: threading.Event = NEVER) -> Engine:
    """The database in the file `path`, made or brought up to date if need be; raises `DatabaseUnusable`.

    Whoever wants to write waits for a lock of others no longer once `giving_up` is set.
    """
    check_place(path)
    check_names(path)
    make_private(Path(os.path.realpath(path)))
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False})
    try:
        up_to_date = _is_ours_and_up_to_date(engine, path)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", partial(_begin, giving_up=giving_up))
        engine.dispose()
        if up_to_date:
            engine.connect().close()  # Whether it can be used shows now.
        else:
            with writing(engine).begin() as connection:
                _migrate(connection)
    except DBAPIError as problem:
        engine.dispose()
        raise DatabaseUnusable(f"the database {path} cannot be used: {_cause(problem, path)}") from None
    except DatabaseUnusable:
        engine.dispose()
        raise
    return engine


def check_place(path: Path) -> None:
    """Raises `DatabaseUnusable` where no database can be."""
    try:
        if path.is_dir():
            raise DatabaseUnusable(f"{path} is a folder; --db takes the name of a file")
        if not path.parent.is_dir():
            raise DatabaseUnusable(f"the folder {path.parent} for the database does not exist; make it first")
    except PermissionError as problem:
        raise DatabaseUnusable(f"the database {path} cannot be used: {problem.strerror}") from None


def check_names(path: Path) -> None:
    """Raises `DatabaseUnusable` if the file has several."""
    names = path.stat().st_nlink if path.exists() else 1
    if names > 1:
        raise DatabaseUnusable(
            f"{path} is one of {names} names (hard links) of the same file; SQLite would keep a log under each,"
            " and destroy it: remove the other names, or make symbolic links of them"
        )


def make_private(path: Path) -> None:
    """A new file for its owner alone: it holds the drivers' keys. SQLite gives its side files the same mode."""
    with suppress(OSError):  # It is there already, or SQLite will say why it cannot be made.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write: each takes the write lock as it begins.

    One that began by reading could be refused the lock later, at once and for good, if another wrote meanwhile.
    """
    return engine.execution_options(begin=BEGIN_WRITING)


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; what the database has against it becomes a `DatabaseUnusable`."""
    with _in_words(engine, "written"), writing(engine).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """The same, for one that only reads."""
    with _in_words(engine, "read"), engine.connect() as connection:
        yield connection


@contextmanager
def _in_words(engine: Engine, what: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as problem:
        path = Path(engine.url.database or "")
        raise DatabaseUnusable(f"the database {path} could not be {what}: {_cause(problem, path)}") from None


def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # Python's driver would commit before each CREATE TABLE; so a migration that is cut off would stay by half.
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(str(pragma))


def _begin(connection: Connection, giving_up: threading.Event) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN")
    patiently(lambda: connection.exec_driver_sql(begin), giving_up)


def patiently(begin: Callable[[], object], giving_up: threading.Event) -> None:
    """Begin a transaction, as soon as nobody else writes; raises what the library says if that lasts too long.

    SQLite's own patience has no end before its time.
    """
    until_s = time.monotonic() + LOCK_PATIENCE_S
    while True:
        last_try = giving_up.is_set() or time.monotonic() > until_s
        try:
            begin()
        except (sqlite3.OperationalError, OperationalError) as problem:
            if last_try or "locked" not in str(problem):
                raise
        else:
            return


def _is_ours_and_up_to_date(engine: Engine, path: Path) -> bool:
    """Look before anything is changed, so that looking takes no lock; raises `DatabaseUnusable`."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return False
        if "alembic_version" not in tables:
            raise DatabaseUnusable(f"{path} is an SQLite database of something else; choose another with --db")
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if revision not in REVISIONS:
        raise DatabaseUnusable(
            f"{path} was written by a newer evcharge (schema {revision}); upgrade evcharge, or use a backup"
        )
    return bool(revision == REVISIONS[-1])


def _migrate(connection: Connection) -> None:
    # Here, as most starts find the schema up to date.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _cause(problem: DBAPIError, path: Path) -> str:
    text = str(problem.orig)
    if "unable to open" in text or "readonly" in text:
        return f"{text}; may this user write to {path} and to the folder {path.parent.resolve()}?"
    if "not a database" in text:
        return "the file is not an SQLite database; choose another with --db"
    if "locked" in text:
        return f"{text}; another program writes to it, try again when that has finished"
    return text

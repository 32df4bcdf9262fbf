"""Opening the database: its folder, its file, its schema, its lock; each problem is one clear sentence."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from evcharge.errors import DatabaseUnusable
from evcharge.storage.schema import SQLITE_PRAGMAS

MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(path: Path) -> Engine:
    """The database in the file `path`, made or brought up to date if need be; raises `DatabaseUnusable`."""
    if path.is_dir():
        raise DatabaseUnusable(f"{path} is a folder; --db takes the name of a file")
    if not path.parent.is_dir():
        raise DatabaseUnusable(f"the folder {path.parent} for the database does not exist; make it first")
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _set_pragmas)
    try:
        with engine.begin() as connection:
            _migrate(connection, path)
    except DBAPIError as problem:
        engine.dispose()
        raise DatabaseUnusable(f"the database {path} cannot be used: {_cause(problem, path)}") from None
    except DatabaseUnusable:
        engine.dispose()
        raise
    return engine


def _set_pragmas(connection: object, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a DB-API connection
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(str(pragma))
    cursor.close()


def _migrate(connection: Connection, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    tables = inspect(connection).get_table_names()
    if tables and "alembic_version" not in tables:
        raise DatabaseUnusable(f"{path} is an SQLite database of something else; choose another file with --db")
    if tables:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if revision not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
            raise DatabaseUnusable(
                f"{path} was written by a newer evcharge (schema {revision}); upgrade evcharge, or use a backup"
            )
    command.upgrade(config, "head")


def _cause(problem: DBAPIError, path: Path) -> str:
    text = str(problem.orig)
    if "unable to open" in text or "readonly" in text:
        return f"{text}; may this user write to {path} and to the folder {path.parent.resolve()}?"
    if "not a database" in text:
        return "the file is not an SQLite database; choose another with --db"
    return text


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database for one Central; a second would decide from a memory of its own."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as problem:
        raise DatabaseUnusable(f"the lock {lock_path} cannot be written: {problem.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DatabaseUnusable(f"another Central runs on {path}; stop it first, or choose another --db") from None
    try:
        yield
    finally:
        os.close(descriptor)

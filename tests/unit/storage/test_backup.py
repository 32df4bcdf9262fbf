"""A copy of the database that is whole and written over nothing, and the way back."""

import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_store import NOW, a_session, decisions, rows

from evcharge.domain.commands import Actor
from evcharge.errors import AlreadyThere, DatabaseUnusable, NotThere, UsageError
from evcharge.storage.backup import Contents, back_up, restore
from evcharge.storage.database import REVISIONS
from evcharge.storage.lock import locked
from evcharge.storage.store import Store

MARIA = Actor("maria", "command line")
LATER = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evcharge.db"


def filled(path: Path, *numbers: int) -> None:
    with closing(Store(path)) as store:
        store.commit(decisions(*(a_session(number, driver_id="D1") for number in numbers)), NOW)


def numbers_in(path: Path) -> list[int]:
    return [number for (number,) in rows(path, "SELECT number FROM sessions ORDER BY number")]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_a_copy_is_made_while_a_central_works_and_is_whole_and_private(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with locked(path), closing(Store(path)) as store:
        store.commit(decisions(a_session(1), a_session(2)), NOW)
        contents = back_up(path, target, MARIA, NOW)
        store.commit(decisions(a_session(3)), NOW)
    assert contents == Contents(2, 2, 1, 1, REVISIONS[-1], target.stat().st_size)
    assert numbers_in(target) == [1, 2]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names_in(tmp_path) == {"evcharge.db", "evcharge.db.lock", "backup.db"}
    assert rows(path, "SELECT actor, action, target FROM audit") == [("maria", "backup", "backup.db")]


def test_nothing_is_written_over(path: Path, tmp_path: Path) -> None:
    filled(path, 1)
    target, link = tmp_path / "backup.db", tmp_path / "link.db"
    target.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for taken in (target, link, path):
        with pytest.raises(AlreadyThere, match="is there already; choose another name"):
            back_up(path, taken, MARIA, NOW)
    assert target.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_copied_is_one_sentence_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with pytest.raises(NotThere, match="there is no database"):
        back_up(path, target, MARIA, NOW)
    assert names_in(tmp_path) == set(), "none is made by the way"
    filled(path, 1)
    with pytest.raises(UsageError, match=r"the folder .*no does not exist; make it first"):
        back_up(path, tmp_path / "no" / "backup.db", MARIA, NOW)
    text, other = tmp_path / "text", tmp_path / "other.db"
    text.write_text("no database" * 1000)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    with pytest.raises(DatabaseUnusable, match="it is no SQLite database"):
        back_up(text, target, MARIA, NOW)
    with pytest.raises(DatabaseUnusable, match=r"other\.db is no database of evcharge"):
        back_up(other, target, MARIA, NOW)
    damaged = damaged_copy(path)
    with pytest.raises(DatabaseUnusable, match=r"damaged|malformed"):
        back_up(damaged, target, MARIA, NOW)
    with pytest.raises(DatabaseUnusable, match=r"damaged|malformed"):
        restore(damaged, tmp_path / "new.db", MARIA, NOW)
    assert names_in(tmp_path) == {"evcharge.db", "text", "other.db", "damaged.db", "new.db.lock"}


def damaged_copy(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_sessions_requested_at'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = bytes(size)
    damaged = path.with_name("damaged.db")
    damaged.write_bytes(content)
    return damaged


def test_what_was_there_is_kept_with_its_log_when_a_backup_is_restored(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    filled(path, 1)
    back_up(path, backup, MARIA, NOW)
    with closing(Store(path)) as store:  # a Central that is killed: what it has committed is in the log
        store.commit(decisions(a_session(2)), NOW)
        log = path.with_name("evcharge.db-wal").read_bytes()
    path.with_name("evcharge.db-wal").write_bytes(log)
    contents, aside = restore(backup, path, MARIA, LATER)
    assert (contents.sessions, aside) == (1, tmp_path / "evcharge.db.before-20260304T050607Z")
    assert numbers_in(path) == [1]
    assert aside is not None
    assert numbers_in(aside) == [1, 2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(path, "SELECT action, target FROM audit")[-1] == ("restore", "backup.db")
    Store(path).close()


def test_a_log_without_its_database_is_not_taken_for_a_part_of_the_restored_one(
    path: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    filled(path, 1)
    back_up(path, backup, MARIA, NOW)
    with closing(Store(path)) as store:
        store.commit(decisions(a_session(2)), NOW)
        log = path.with_name("evcharge.db-wal").read_bytes()
    path.unlink()
    path.with_name("evcharge.db-wal").write_bytes(log)
    _, aside = restore(backup, path, MARIA, LATER)
    assert aside is not None
    assert numbers_in(path) == [1]


def test_nothing_is_restored_while_a_central_runs(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    filled(path, 1)
    back_up(path, backup, MARIA, NOW)
    filled(path, 1, 2)
    with locked(path), pytest.raises(DatabaseUnusable, match="another Central runs on"):
        restore(backup, path, MARIA, NOW)
    assert numbers_in(path) == [1, 2]


def test_a_backup_is_restored_where_there_is_no_database_and_stays_what_it_was(tmp_path: Path) -> None:
    path, backup, new = tmp_path / "evcharge.db", tmp_path / "backup.db", tmp_path / "new.db"
    filled(path, 1)
    back_up(path, backup, MARIA, NOW)
    before = backup.read_bytes()
    backup.chmod(0o400)
    contents, aside = restore(backup, new, MARIA, NOW)
    assert (contents.sessions, aside) == (1, None)
    assert numbers_in(new) == [1]
    assert backup.read_bytes() == before
    with pytest.raises(UsageError, match="is the database itself"):
        restore(new, new, MARIA, NOW)


def test_a_backup_of_a_newer_evcharge_is_refused(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    filled(path, 1)
    back_up(path, backup, MARIA, NOW)
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnusable, match=r"was written by a newer evcharge \(schema 9999\)"):
        restore(backup, path, MARIA, NOW)
    with pytest.raises(NotThere, match="there is no backup"):
        restore(tmp_path / "nothing.db", path, MARIA, NOW)
    assert numbers_in(path) == [1]


def test_a_file_system_without_links_takes_a_backup_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    filled(path, 1)
    back_up(path, tmp_path / "backup.db", MARIA, NOW)
    assert numbers_in(tmp_path / "backup.db") == [1]

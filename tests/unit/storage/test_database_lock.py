"""One Central to a database, by whatever name it is called; and no row of another's is written over."""

import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from test_store import NOW, a_session, decisions

from evcharge.domain.decisions import Decisions
from evcharge.errors import DatabaseUnusable
from evcharge.storage.database import open_database
from evcharge.storage.lock import OFD_SETLK, locked
from evcharge.storage.store import Store

BY_FILE = pytest.mark.skipif(OFD_SETLK is None, reason="this system has no locks on open files")


def refuses(path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="another Central runs on"), locked(path):
        pass


def test_a_symbolic_link_leads_to_the_same_lock(tmp_path: Path) -> None:
    path, link, folder = tmp_path / "evcharge.db", tmp_path / "link.db", tmp_path / "folder"
    link.symlink_to(path)
    folder.symlink_to(tmp_path, target_is_directory=True)
    for first, second in ((path, link), (link, path), (path, folder / "evcharge.db"), (link, link)):
        with locked(first):
            refuses(second)


@BY_FILE
def test_a_hard_link_or_a_new_name_leads_to_the_same_lock(tmp_path: Path) -> None:
    path, other = tmp_path / "evcharge.db", tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    with locked(path):
        os.link(path, other)
        refuses(other)
        other.unlink()
        path.rename(other)
        refuses(other)
    with locked(other):
        pass


@BY_FILE
def test_the_lock_is_none_of_sqlites_and_outlives_them(tmp_path: Path) -> None:
    """Those of SQLite end whenever its process closes any descriptor of the file."""
    path = tmp_path / "evcharge.db"
    with locked(path):
        with closing(Store(path)) as store:
            store.commit(decisions(a_session()), NOW)
            with closing(sqlite3.connect(path)) as beside:
                assert beside.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
            by_another_process(path, "Store(path).close()")
        refuses(path)
        by_another_process(path, "refuses(path)")


def by_another_process(path: Path, what: str) -> None:
    program = f"from pathlib import Path; from test_database_lock import *; path = Path({str(path)!r}); {what}"
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": folders})


def test_a_file_of_two_names_is_refused_under_both(tmp_path: Path) -> None:
    path, other = tmp_path / "evcharge.db", tmp_path / "other.db"
    Store(path).close()
    os.link(path, other)
    for name in (path, other):
        with pytest.raises(DatabaseUnusable, match=r"is one of 2 names \(hard links\) of the same file"):
            open_database(name)
        with pytest.raises(DatabaseUnusable, match=r"is one of 2 names \(hard links\)"), locked(name):
            pass
    other.unlink()
    Store(path).close()


def test_behind_a_symbolic_link_a_new_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    path, link = tmp_path / "evcharge.db", tmp_path / "link.db"
    link.symlink_to(path)
    Store(link).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_a_system_has_no_such_locks_the_name_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evcharge.storage.lock.OFD_SETLK", None)
    path, link = tmp_path / "evcharge.db", tmp_path / "link.db"
    link.symlink_to(path)
    with locked(path):
        refuses(link)


def test_an_older_central_holds_the_database_too(tmp_path: Path) -> None:
    path = tmp_path / "evcharge.db"
    with (tmp_path / "evcharge.db.lock").open("w") as by_name:
        fcntl.flock(by_name, fcntl.LOCK_EX)
        refuses(path)


@pytest.mark.parametrize("what", ["sessions", "metered"])
def test_a_session_of_another_with_the_same_number_is_not_written_over(tmp_path: Path, what: str) -> None:
    path = tmp_path / "evcharge.db"
    ours, theirs = a_session(), a_session(session_id=UUID(int=99), energy_wh=5000)
    with closing(Store(path)) as store:
        store.commit(decisions(theirs), NOW)
        of_ours = Decisions(sessions={ours.session_id: ours}) if what == "sessions" else Decisions(metered=[ours])
        with pytest.raises(DatabaseUnusable, match="of the sessions 1 to 1 the database holds others than"):
            store.commit(of_ours, NOW)
        (kept,) = store.open_sessions()
        assert (kept.session_id, kept.energy_wh) == (theirs.session_id, 5000)


def test_a_session_that_is_there_under_another_number_is_told_in_a_sentence(tmp_path: Path) -> None:
    session = a_session()
    with closing(Store(tmp_path / "evcharge.db")) as store:
        store.commit(decisions(session), NOW)
        session.number = 2
        with pytest.raises(DatabaseUnusable, match="the database holds otherwise than this Central"):
            store.commit(Decisions(sessions={session.session_id: session}), NOW)

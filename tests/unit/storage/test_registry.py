"""Who is admitted, in a real SQLite file: tokens and drivers; each change with its line in the audit; and what a
database of the first version becomes."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from alembic.config import Config
from test_store import NOW, rows

from evcharge.domain.commands import Actor, Role
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.errors import AlreadyThere, NotThere, UsageError
from evcharge.protocol.operators import AuditRow, By, SessionFilter
from evcharge.storage.books import Books
from evcharge.storage.database import MIGRATIONS, open_database
from evcharge.storage.registry import Driver, Registry, Token
from evcharge.storage.store import Store

MARIA = Actor("maria", "http")
PAUL = Actor("paul", "command line")
LATER = NOW + timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evcharge.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store.engine)


def audit_of(store: Store) -> list[AuditRow]:
    """Oldest first."""
    return Books(store.engine, ZoneInfo("UTC")).audit(None, 100).audit[::-1]


def written(store: Store) -> list[tuple[str, str]]:
    return [(row.action, row.target) for row in audit_of(store)]


# Tokens


def test_a_token_is_found_by_its_hash_until_it_is_removed(registry: Registry) -> None:
    registry.add_token("wall", Role.VIEWER, "hash 1", MARIA, NOW)
    registry.add_token("maria", Role.OPERATOR, "hash 2", MARIA, LATER)
    wall, maria = Token("wall", Role.VIEWER, NOW), Token("maria", Role.OPERATOR, LATER)
    assert registry.tokens_with(["hash 1", "hash 2", "hash 3"]) == {"hash 1": wall, "hash 2": maria}
    assert [token.name for token in registry.tokens()] == ["maria", "wall"]
    registry.remove_token("wall", MARIA, NOW)
    assert registry.tokens_with(["hash 1"]) == {}
    assert [token.name for token in registry.tokens()] == ["maria"]


def test_a_token_is_not_added_twice_and_can_be_renewed(registry: Registry) -> None:
    registry.add_token("wall", Role.VIEWER, "hash 1", MARIA, NOW)
    with pytest.raises(AlreadyThere, match="the token wall is there already; remove it first to renew it"):
        registry.add_token("wall", Role.OPERATOR, "hash 2", MARIA, NOW)
    assert registry.tokens() == [Token("wall", Role.VIEWER, NOW)]
    registry.remove_token("wall", MARIA, NOW)
    registry.add_token("wall", Role.OPERATOR, "hash 2", MARIA, LATER)
    assert registry.tokens() == [Token("wall", Role.OPERATOR, LATER)]


def test_a_token_that_was_never_added_cannot_be_removed(registry: Registry) -> None:
    with pytest.raises(NotThere, match="there is no token wall"):
        registry.remove_token("wall", MARIA, NOW)


# Drivers


@pytest.mark.parametrize("limit", [1, 2, 3, 4, None])
def test_drivers_come_in_pages_in_order_of_their_ids(registry: Registry, limit: int | None) -> None:
    for driver_id in ("c", "a", "b", "d", "B"):
        registry.add_driver(driver_id, "key", MARIA, NOW)
    registry.remove_driver("b", MARIA, NOW)
    found: list[str] = []
    while page := registry.drivers(found[-1] if found else "", limit):
        found += [row.driver_id for row in page]
    assert found == ["B", "a", "c", "d"]


# The audit


def test_each_change_is_in_the_audit_with_who_made_it_and_which_way(store: Store, registry: Registry) -> None:
    registry.add_charge_point("CP1", "hash", PAUL, NOW)
    registry.remove_charge_point("CP1", MARIA, LATER)
    registry.add_driver("D1", "key", MARIA, NOW)
    registry.remove_driver("D1", MARIA, NOW)
    registry.add_token("wall", Role.VIEWER, "hash", MARIA, NOW)
    registry.remove_token("wall", MARIA, NOW)
    assert written(store) == [
        ("add charge point", "CP1"),
        ("remove charge point", "CP1"),
        ("add driver", "D1"),
        ("remove driver", "D1"),
        ("add token", "wall"),
        ("remove token", "wall"),
    ]
    first, second, *_ = found = audit_of(store)
    assert (first.actor, first.via, first.at) == ("paul", "command line", NOW)
    assert (second.actor, second.via, second.at) == ("maria", "http", LATER)
    for added, removed in zip(found[::2], found[1::2], strict=True):
        assert added.before is None
        assert added.after is not None
        assert removed.before is not None
        assert removed.after is None
    assert found[4].after == {"role": "viewer"}
    assert found[5].before == {"role": "viewer"}
    told = "".join(f"{row.before} {row.after}" for row in found)
    assert "hash" not in told
    assert "key" not in told


def test_what_is_refused_is_not_in_the_audit(store: Store, registry: Registry) -> None:
    registry.add_charge_point("CP1", "hash", PAUL, NOW)
    registry.add_driver("D1", "key", MARIA, NOW)
    registry.add_token("wall", Role.VIEWER, "hash", MARIA, NOW)
    before = written(store)
    with pytest.raises(AlreadyThere):
        registry.add_charge_point("CP1", "other", PAUL, NOW)
    with pytest.raises(AlreadyThere):
        registry.add_driver("D1", "key", MARIA, NOW)
    with pytest.raises(AlreadyThere):
        registry.add_token("wall", Role.VIEWER, "other", MARIA, NOW)
    with pytest.raises(NotThere):
        registry.remove_charge_point("CP9", PAUL, NOW)
    with pytest.raises(NotThere):
        registry.remove_driver("D9", MARIA, NOW)
    with pytest.raises(NotThere):
        registry.remove_token("nobody", MARIA, NOW)
    assert written(store) == before


# A database of the first version


OF_THE_FIRST_VERSION = """
INSERT INTO charge_points VALUES
    ('CP1', 'hash', 'Harbour', '0.30', 'EUR', 22000, 'CHARGING', 0, 0),
    ('CP2', NULL, 'Market', '0.45', 'CHF', 11000, 'DISCONNECTED', 1, 1);
INSERT INTO drivers VALUES ('D1', '2026-01-01 12:00:00.000000', 0), ('D2', '2026-01-01 12:00:00.000000', 1);
INSERT INTO sessions VALUES
    (1, '00000000000000000000000000000001', '00000000000000000000000000000011', 'CP1', 'D1', 'completed',
     'stopped', 5000, '0.30', 'EUR', 4321, '1.30', 0, 55.5, 7, '2026-01-01 12:00:00.000000',
     '2026-01-01 12:00:01.000000', '2026-01-01 13:00:00.000000', 1, 1, 1),
    (2, '00000000000000000000000000000002', '00000000000000000000000000000012', 'CP1', 'D1', 'charging', NULL,
     NULL, '0.30', 'EUR', 100, '0.03', 7000, NULL, 1, '2026-01-01 14:00:00.000000', '2026-01-01 14:00:01.000000',
     NULL, 0, 0, 0);
INSERT INTO meter_values VALUES
    ('00000000000000000000000000000001', 7, 4321, 0, 55.5, '2026-01-01 13:00:00.000000');
INSERT INTO faults VALUES (1, 'CP2', 'connection_lost', 'x', '2026-01-01 12:00:00.000000', NULL);
"""


@pytest.fixture
def of_the_first_version(path: Path) -> Path:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = open_database(path)
    engine.dispose()
    path.unlink()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(OF_THE_FIRST_VERSION)
    return path


def test_a_database_of_the_first_version_keeps_all_that_it_has(of_the_first_version: Path) -> None:
    store = Store(of_the_first_version)
    first, second = store.charge_points()
    assert (first.cp_id, first.key_hash, first.location, first.price_per_kwh) == (
        "CP1",
        "hash",
        "Harbour",
        Decimal("0.30"),
    )
    assert not first.price_by_operator
    assert (second.removed, second.out_of_service, second.price_by_operator) == (True, True, False)
    (running,) = store.open_sessions()
    assert (running.session_id, running.status, running.energy_wh) == (UUID(int=2), SessionStatus.CHARGING, 100)
    registry, books = Registry(store.engine), Books(store.engine, ZoneInfo("UTC"))
    assert registry.drivers() == [Driver("D1", NOW, False)]
    assert registry.tokens() == []
    page = books.sessions(SessionFilter(cp_id="CP1"), None, 10)
    assert [(row.session_id.int, row.end_reason) for row in page.sessions] == [(2, None), (1, EndReason.STOPPED)]
    (value,) = books.meter_values(UUID(int=1), -1, 10).meter_values
    assert value.energy_wh == 4321
    (fault,) = books.faults(None, True, None, 10).faults
    assert fault.cp_id == "CP2"
    (total,) = books.revenue(NOW.date(), NOW.date(), By.DAY).rows
    assert (total.sessions, total.energy_wh, total.cost) == (1, 4321, Decimal("1.30"))
    assert books.audit(None, 10).audit == []
    registry.add_token("wall", Role.VIEWER, "hash", MARIA, NOW)
    assert written(store) == [("add token", "wall")]
    store.close()


def test_a_database_that_is_brought_up_to_date_is_as_a_new_one(of_the_first_version: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for path in (new, of_the_first_version):
        open_database(path).dispose()
    names = "SELECT type, name FROM sqlite_master ORDER BY type, name"
    assert rows(of_the_first_version, names) == rows(new, names)
    columns = "SELECT name FROM pragma_table_info('charge_points') ORDER BY name"
    assert rows(of_the_first_version, columns) == rows(new, columns)
    assert rows(of_the_first_version, "PRAGMA integrity_check") == [("ok",)]
    assert rows(of_the_first_version, "PRAGMA foreign_key_check") == []


# A database that cannot be used

COMMANDS = [
    "cp add CP2",
    "cp list",
    "cp remove CP1",
    "drivers add D2",
    "drivers list",
    "drivers remove D1",
    "token add wall --role viewer",
    "token list",
    "token remove maria",
]

AS_NOBODY = """
import os
from evcharge import cli
import alembic.command, evcharge.storage.registry, evcharge.storage.store
if os.geteuid() == 0:  # root may write anywhere
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
cli.main()
"""
AS_I_AM = "from evcharge import cli; cli.main()"


@pytest.fixture
def in_use(path: Path) -> Path:
    registry = Registry(open_database(path))
    registry.add_charge_point("CP1", "hash", MARIA, NOW)
    registry.add_driver("D1", "key", MARIA, NOW)
    registry.add_token("maria", Role.OPERATOR, "hash", MARIA, NOW)
    return path


@pytest.fixture
def read_only(in_use: Path) -> Iterator[Path]:
    in_use.chmod(0o444)
    in_use.parent.chmod(0o555)
    yield in_use
    in_use.parent.chmod(stat.S_IRWXU)


def run(folder: Path, words: str, program: str = AS_I_AM) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", program, *words.split()]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_database_that_is_read_only_is_one_clear_sentence_and_exit_code_3(read_only: Path, words: str) -> None:
    done = run(read_only.parent, words, AS_NOBODY)
    folder = re.escape(str(read_only.parent))
    assert done.returncode == 3, done
    assert done.stdout == ""
    assert re.fullmatch(
        r"evcharge: error: the database evcharge\.db (cannot be used|could not be \w+): [\w ]+;"
        rf" may this user write to evcharge\.db and to the folder {folder}\?\n",
        done.stderr,
    ), done.stderr


def test_a_folder_that_may_not_be_entered_is_one_clear_sentence(in_use: Path) -> None:
    in_use.parent.chmod(0)
    done = run(in_use.parent, "cp list", AS_NOBODY)
    in_use.parent.chmod(stat.S_IRWXU)
    assert done.returncode == 3
    assert done.stderr == "evcharge: error: the database evcharge.db cannot be used: Permission denied\n"


@pytest.mark.parametrize("look", ["cp list", "drivers list", "token list"])
def test_who_is_admitted_can_be_seen_while_another_program_writes(in_use: Path, look: str) -> None:
    with closing(sqlite3.connect(in_use, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = run(in_use.parent, look)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1" in done.stdout or "maria" in done.stdout


@pytest.mark.parametrize("name", ["..", "-x"])
def test_a_name_that_a_path_or_an_option_could_be_is_given_to_nothing(registry: Registry, name: str) -> None:
    refused = f"'{name}' is no id; an id has 1 to 64 letters"
    with pytest.raises(UsageError, match=refused):
        registry.add_charge_point(name, "hash", MARIA, NOW)
    with pytest.raises(UsageError, match=refused):
        registry.add_driver(name, "key", MARIA, NOW)
    with pytest.raises(UsageError, match=refused):
        registry.add_token(name, Role.VIEWER, "hash", MARIA, NOW)

"""Databases with a history of any length, by SQL: years of finished sessions, as Central leaves them."""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Actor, Role
from evcharge.domain.decisions import Decisions
from evcharge.storage.registry import Registry
from evcharge.storage.store import Store
from prepared import charge_point

CHARGE_POINTS = 2_000
DRIVERS = 5_000
YEARS = 5
TOKEN = "a token of the benchmark, and of no other database"
"""An operator's."""
FREQUENT_DRIVER = "H-D-FREQUENT"
SHARE_OF_FREQUENT = 100
"""One in so many sessions is of this driver: a company with many cars, say."""

# Arithmetic in place of chance, so that each run has the same history. Of a hundred sessions 3 never began, and 4
# were broken off. Each column is computed once, as the CTE is materialised.
SESSIONS = """
WITH RECURSIVE
numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < :count),
made AS MATERIALIZED (
  SELECT
    i,
    CASE WHEN i % 100 < 3 THEN 'failed' WHEN i % 100 < 7 THEN 'interrupted' ELSE 'completed' END AS status,
    CASE WHEN i % 100 < 3 THEN 0 ELSE 500 + i * 48271 % 39989 END AS energy_wh,
    CASE WHEN i % 100 < 3 THEN 10 ELSE 900 + i * 69621 % 13007 END AS seconds,
    CAST(:since_s + CAST(i AS REAL) / :count * :span_s AS INTEGER) AS requested_s
  FROM numbers
)
INSERT INTO sessions (
  number, session_id, request_id, cp_id, driver_id, status, end_reason, price_per_kwh, currency, energy_wh, cost,
  power_w, soc_percent, last_seq, requested_at, started_at, ended_at, stop_requested, revision, receipt_sent
)
SELECT
  i, lower(hex(randomblob(16))), lower(hex(randomblob(16))),
  printf('H-CP%05d', i * 69621 % :charge_points),
  CASE WHEN i % :frequent = 0 THEN :frequent_driver ELSE printf('H-D%05d', i * 48271 % :drivers) END,
  status,
  CASE status WHEN 'failed' THEN 'start_timeout' WHEN 'interrupted' THEN 'engine_lost' ELSE 'target_reached' END,
  '0.30', 'EUR', energy_wh,
  printf('%d.%02d', (energy_wh * 30 + 500) / 100000, (energy_wh * 30 + 500) / 1000 % 100),
  0, CASE status WHEN 'failed' THEN NULL ELSE 80.0 END, CASE status WHEN 'failed' THEN -1 ELSE seconds END,
  strftime('%Y-%m-%d %H:%M:%S.000000', requested_s, 'unixepoch'),
  CASE status WHEN 'failed' THEN NULL ELSE strftime('%Y-%m-%d %H:%M:%S.000000', requested_s + 1, 'unixepoch') END,
  strftime('%Y-%m-%d %H:%M:%S.000000', requested_s + 1 + seconds, 'unixepoch'),
  0, 1, 1
FROM made
"""
INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sessions' AND sql IS NOT NULL"
METER_VALUES = """
INSERT INTO meter_values (session_number, seq, energy_wh, power_w, soc_percent, measured_at)
SELECT number, last_seq, energy_wh, 11000, 80.0, ended_at
FROM sessions WHERE last_seq >= 0 ORDER BY number
"""


def make(database: Path, count: int) -> None:
    """A database with `count` finished sessions of thousands of charge points and drivers, a reading of each."""
    _with_everybody(database)
    if not count:
        return
    span_s = YEARS * 365 * 86_400
    values = {
        "count": count,
        "since_s": int(datetime.now(UTC).timestamp()) - span_s - 86_400,
        "span_s": span_s,
        "charge_points": CHARGE_POINTS,
        "drivers": DRIVERS,
        "frequent": SHARE_OF_FREQUENT,
        "frequent_driver": FREQUENT_DRIVER,
    }
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -2000000",
            "temp_store = MEMORY",
            "threads = 2",
        ):
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute(INDEXES).fetchall()
        connection.execute("BEGIN")
        for name, _ in indexes:  # An index of rows that are there is faster made than one kept while they come.
            connection.execute(f"DROP INDEX {name}")
        connection.execute(SESSIONS, values)
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute(METER_VALUES)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def copy(database: Path, to: Path) -> None:
    """All of it on disk, so that no one who is measured waits for it."""
    shutil.copyfile(database, to)
    with to.open("rb+") as file:
        os.fsync(file.fileno())


def _with_everybody(database: Path) -> None:
    cp_ids = [f"H-CP{number:05d}" for number in range(CHARGE_POINTS)]
    store = Store(database)
    try:
        store.commit(
            Decisions(
                charge_points={cp_id: charge_point(cp_id) for cp_id in cp_ids},
                drivers={FREQUENT_DRIVER, *(f"H-D{number:05d}" for number in range(DRIVERS))},
            ),
            datetime.now(UTC),
        )
        Registry(store.engine).add_token(
            "bench", Role.OPERATOR, hash_key(TOKEN), Actor("bench", "bench"), datetime.now(UTC)
        )
    finally:
        store.close()

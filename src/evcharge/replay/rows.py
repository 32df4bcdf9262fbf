"""The file of a replay: which of its lines are sessions that can have been, and why the others are not.

One line is judged at a time, so that none that makes no sense costs more than itself.
"""

import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path

from evcharge.errors import UsageError
from evcharge.protocol.messages import is_id

COLUMNS = ("session_id", "charge_point_id", "driver_id", "plugged_in_at", "charging_seconds", "energy_kwh")
YEARS = range(2000, 2100)
MAX_SECONDS = 366 * 86_400
MAX_KWH = 1_000_000
"""What a message can hold."""
MAX_KW = 1_000
"""More than any charge point gives; and what a Central takes from one, unless it is told otherwise."""
MAX_LINES_OF_A_ROW = 10
SHOWN = 40

WHOLE = re.compile(r"-?[0-9]{1,20}")
PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class Row:
    """One session of the file; `line` is where it begins."""

    line: int
    session_id: str
    cp_id: str
    driver_id: str
    plugged_in_at: datetime
    charging_seconds: int
    energy_wh: int

    @property
    def power_w(self) -> float:
        return self.energy_wh * 3600 / self.charging_seconds


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that makes no sense."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a file holds, in order of time; `out_of_order` is the first line that was not where it belongs."""

    rows: list[Row]
    skipped: list[Skipped]
    out_of_order: int | None


def read_sessions(path: Path, limit: int | None) -> Sessions:
    """The first `limit` rows of a file. Raises `UsageError` if it cannot be read, or is no file of sessions."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror}") from None
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise UsageError(f"{path} cannot be read: it is UTF-16; save it as UTF-8")
    # What is no UTF-8 is a matter of the row, and of no matter in a column that is not used.
    text = content.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    try:
        return sessions_of(text.split("\n"), limit)
    except ValueError as problem:
        raise UsageError(f"{path} {problem}") from None


def sessions_of(lines: list[str], limit: int | None) -> Sessions:
    """Raises `ValueError` if the first of the lines names other columns."""
    first, header, body = _header(lines)
    rows: list[Row] = []
    skipped: list[Skipped] = []
    lines_of_ids: dict[str, int] = {}
    for line, cells in islice(_records(body, first + 1, len(header)), limit):
        try:
            row = _row(line, _by_name(header, cells))
            if row.session_id in lines_of_ids:
                before = lines_of_ids[row.session_id]
                raise ValueError(f"the session {row.session_id} is in the file before, in line {before}")
        except ValueError as problem:
            skipped.append(Skipped(line, str(problem)))
        else:
            lines_of_ids[row.session_id] = line
            rows.append(row)
    times = [row.plugged_in_at for row in rows]
    early = (row.line for before, row in zip(times, rows[1:], strict=False) if row.plugged_in_at < before)
    return Sessions(sorted(rows, key=lambda row: row.plugged_in_at), skipped, next(early, None))


def _header(lines: list[str]) -> tuple[int, list[str], list[str]]:
    """Number and columns of the first line that is not empty, and the lines after it."""
    first = next((number for number, line in enumerate(lines, 1) if line.strip()), None)
    if first is None:
        raise ValueError("is empty; the first line must name the columns")
    names = [name.strip() for name in next(csv.reader(lines[first - 1 : first]))]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        separated = "; columns are separated by commas" if len(names) == 1 else ""
        raise ValueError(f"has no column {', '.join(missing)}; is it a file of charging sessions?{separated}")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise ValueError(f"has more than one column {', '.join(twice)}")
    return first, names, lines[first:]


Cells = list[str] | str
"""The cells of a row, or why there are none."""


def _records(lines: list[str], number: int, width: int) -> Iterator[tuple[int, Cells]]:
    """Each row with the number of its line; empty lines are none. `number` is that of the first line."""
    at = 0
    while at < len(lines):
        taken, cells = 1, _cells(lines[at : at + 1])
        if cells is None:
            taken, cells = _over_lines(lines[at : at + MAX_LINES_OF_A_ROW], width)
        if cells:
            yield number + at, cells
        at += taken


def _over_lines(lines: list[str], width: int) -> tuple[int, Cells]:
    """A cell in quotes may hold line ends; but one whose quotes never end must not swallow the rows after it."""
    for count in range(2, len(lines) + 1):
        cells = _cells(lines[:count])
        if cells is not None and len(cells) == width:
            return count, cells
    return 1, "a quote is opened and not closed"


def _cells(lines: list[str]) -> Cells | None:
    """None if a quote is still open at the end."""
    try:
        cells = next(csv.reader(["\n".join(lines) + "\n"], skipinitialspace=True))
    except csv.Error as problem:
        return f"it is no line of CSV: {problem}"
    return None if cells and cells[-1].endswith("\n") else cells


def _by_name(header: list[str], cells: Cells) -> Callable[[str], str]:
    """Gives the cell of a column; raises `ValueError` if it is empty."""
    if isinstance(cells, str):
        raise ValueError(cells)
    if any(cell.strip() for cell in cells[len(header) :]):
        raise ValueError(f"it has {len(cells)} cells for {len(header)} columns; is there a comma in a number?")

    def cell(name: str) -> str:
        at = header.index(name)
        text = cells[at].strip() if at < len(cells) else ""
        if not text:
            raise ValueError(f"{name} is empty")
        return text

    return cell


def _row(line: int, cell: Callable[[str], str]) -> Row:
    """Raises `ValueError` with what makes no sense."""
    session_id, cp_id, driver_id = (_id(name, cell(name)) for name in COLUMNS[:3])
    plugged_in_at = _time(cell("plugged_in_at"))
    seconds = _seconds(cell("charging_seconds"))
    kwh = _kwh(cell("energy_kwh"))
    kw = kwh * 3600 / seconds
    if kw > MAX_KW:
        raise ValueError(f"{kwh} kWh in {seconds} s are {kw:,.0f} kW; is energy_kwh in Wh?")
    return Row(line, session_id, cp_id, driver_id, plugged_in_at, seconds, round(kwh * 1000))


def _id(name: str, text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{name} is no id: {_shown(text)}")
    return text


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"plugged_in_at is no time: {_shown(text)}") from None
    if time.tzinfo is None:
        raise ValueError(f"plugged_in_at has no offset from UTC: {_shown(text)}")
    if time.year not in YEARS:
        raise ValueError(
            f"plugged_in_at is in the year {time.year}; a session must be of {YEARS[0]} to {YEARS[-1]}"
        )
    return time.astimezone(UTC)


def _seconds(text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise ValueError(f"charging_seconds must be a whole number, not {_shown(text)}")
    seconds = int(text)
    if seconds <= 0:
        raise ValueError(f"charging_seconds is {seconds}, so the row implies no power")
    if seconds > MAX_SECONDS:
        raise ValueError(f"charging_seconds is {seconds}, which is more than a year")
    return seconds


def _kwh(text: str) -> Decimal:
    if not PLAIN.fullmatch(text):
        raise ValueError(f"energy_kwh must be a plain number such as 7.25, not {_shown(text)}")
    kwh = Decimal(text)
    if kwh > MAX_KWH:
        raise ValueError(
            f"energy_kwh is {kwh}, more than the {MAX_KWH:,} kWh that a session can have; is it in Wh?"
        )
    if round(kwh * 1000) <= 0:
        raise ValueError(f"energy_kwh is {kwh}, so there is nothing to charge")
    return kwh


def _shown(text: str) -> str:
    return (
        ascii(text) if len(text) <= SHOWN else ascii(text[:SHOWN]) + f" and {len(text) - SHOWN:,} characters more"
    )

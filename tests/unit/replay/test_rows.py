"""A line of the file that makes no sense costs itself alone, and is told with a sentence."""

import csv
import io
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.errors import UsageError
from evcharge.replay.rows import COLUMNS, read_sessions, sessions_of

HEADER = ",".join(COLUMNS)
GOOD = "S-{n},CP001,ana,2026-11-20T08:{n:02}:00+01:00,3600,7.4"


def good(n: int) -> str:
    return GOOD.format(n=n)


def row(**changes: str) -> str:
    cells = dict(zip(COLUMNS, good(2).split(","), strict=True)) | changes
    return ",".join(cells[name] for name in COLUMNS)


def reason_for(line: str) -> str:
    """Why the middle one of three lines is skipped, while the others are not."""
    found = sessions_of([HEADER, good(1), line, good(3)], None)
    assert [taken.session_id for taken in found.rows] == ["S-1", "S-3"]
    (skipped,) = found.skipped
    assert skipped.line == 3
    return skipped.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"charging_seconds": "1", "energy_kwh": "28"},
            "28 kWh in 1 s are 100,800 kW; is energy_kwh in Wh?",
        ),
        ({"energy_kwh": "7400"}, "7400 kWh in 3600 s are 7,400 kW; is energy_kwh in Wh?"),
        (
            {"energy_kwh": "1000000.001"},
            "energy_kwh is 1000000.001, more than the 1,000,000 kWh that a session can have; is it in Wh?",
        ),
        ({"energy_kwh": "1E+400"}, "energy_kwh must be a plain number such as 7.25, not '1E+400'"),
        ({"energy_kwh": "1E+999999"}, "energy_kwh must be a plain number such as 7.25, not '1E+999999'"),
        ({"energy_kwh": "NaN"}, "energy_kwh must be a plain number such as 7.25, not 'NaN'"),
        ({"energy_kwh": "1_0"}, "energy_kwh must be a plain number such as 7.25, not '1_0'"),
        ({"energy_kwh": "٧.٤"}, "energy_kwh must be a plain number such as 7.25, not '\\u0667.\\u0664'"),
        ({"energy_kwh": ""}, "energy_kwh is empty"),
        ({"energy_kwh": "  "}, "energy_kwh is empty"),
        ({"energy_kwh": "0.0001"}, "energy_kwh is 0.0001, so there is nothing to charge"),
        ({"energy_kwh": "-7.4"}, "energy_kwh is -7.4, so there is nothing to charge"),
        ({"energy_kwh": "7,4"}, "it has 7 cells for 6 columns; is there a comma in a number?"),
        ({"charging_seconds": "4086.0"}, "charging_seconds must be a whole number, not '4086.0'"),
        ({"charging_seconds": "1E+999999"}, "charging_seconds must be a whole number, not '1E+999999'"),
        ({"charging_seconds": "0"}, "charging_seconds is 0, so the row implies no power"),
        ({"charging_seconds": "99999999"}, "charging_seconds is 99999999, which is more than a year"),
        ({"charging_seconds": ""}, "charging_seconds is empty"),
        ({"session_id": ""}, "session_id is empty"),
        ({"session_id": "S-1"}, "the session S-1 is in the file before, in line 2"),
        ({"charge_point_id": "CP 1"}, "charge_point_id is no id: 'CP 1'"),
        ({"driver_id": "ana\x1b[2J"}, "driver_id is no id: 'ana\\x1b[2J'"),
        ({"plugged_in_at": "yesterday"}, "plugged_in_at is no time: 'yesterday'"),
        ({"plugged_in_at": "2026-11-20T08:00:00"}, "plugged_in_at has no offset from UTC: '2026-11-20T08:00:00'"),
        (
            {"plugged_in_at": "1970-01-01T00:00:00Z"},
            "plugged_in_at is in the year 1970; a session must be of 2000 to 2099",
        ),
        (
            {"plugged_in_at": "9999-12-31T23:59:59-12:00"},
            "plugged_in_at is in the year 9999; a session must be of 2000 to 2099",
        ),
        ({"driver_id": '"ana'}, "a quote is opened and not closed"),
        ({"driver_id": "\udcff"}, "driver_id is no id: '\\udcff'"),
    ],
)
def test_a_row_that_makes_no_sense_is_skipped_with_its_reason_and_the_others_are_not(
    changes: dict[str, str], reason: str
) -> None:
    assert reason_for(row(**changes)) == reason


@pytest.mark.parametrize("cells", [1, 3, 5])
def test_a_row_that_is_cut_off_lacks_the_next_column(cells: int) -> None:
    assert reason_for(",".join(good(2).split(",")[:cells])) == f"{COLUMNS[cells]} is empty"


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_kwh": "9" * 1_000_000},
        {"energy_kwh": "1E+999999999"},
        {"charging_seconds": "9" * 1_000_000},
        {"session_id": "x" * 1_000_000},
    ],
)
def test_a_huge_number_costs_no_time_and_floods_no_screen(changes: dict[str, str]) -> None:
    begun_s = time.process_time()
    assert len(reason_for(row(**changes))) < 200
    assert time.process_time() - begun_s < 2


@pytest.mark.parametrize(
    ("kwh", "wh"), [("7.4", 7400), ("0.0005", None), ("0.001", 1), ("1.234567", 1235), ("28", 28_000)]
)
def test_energy_is_rounded_to_the_wh(kwh: str, wh: int | None) -> None:
    found = sessions_of([HEADER, row(energy_kwh=kwh)], None)
    assert [taken.energy_wh for taken in found.rows] == ([wh] if wh is not None else [])


def test_a_file_that_is_not_in_order_is_sorted_and_the_line_is_told() -> None:
    found = sessions_of([HEADER, good(2), good(1), good(3)], None)
    assert [taken.session_id for taken in found.rows] == ["S-1", "S-2", "S-3"]
    assert found.out_of_order == 3
    assert sessions_of([HEADER, good(1), good(2)], None).out_of_order is None


def test_order_is_that_of_time_and_not_of_the_clock_on_the_wall() -> None:
    east, west = "2026-11-20T10:00:00+02:00", "2026-11-20T09:30:00+00:00"
    found = sessions_of(
        [HEADER, row(session_id="A", plugged_in_at=east), row(session_id="B", plugged_in_at=west)], None
    )
    assert found.out_of_order is None
    assert found.rows[0].plugged_in_at == datetime(2026, 11, 20, 8, tzinfo=UTC)


def test_a_file_from_an_editor_of_windows_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "sessions.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, good(1), "", good(2)]).encode())
    found = read_sessions(path, None)
    assert [(taken.line, taken.session_id) for taken in found.rows] == [(2, "S-1"), (4, "S-2")]
    assert found.skipped == []


def test_what_is_no_utf_8_in_a_column_that_is_not_used_matters_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "sessions.csv"
    path.write_bytes(f"{HEADER},place\n{good(1)},Z".encode() + b"\xfcrich\n")
    assert [taken.session_id for taken in read_sessions(path, None).rows] == ["S-1"]


def test_a_cell_in_quotes_may_hold_line_ends_and_commas() -> None:
    lines = f'{HEADER},place\n{good(1)},"Market\nsquare, left"\n{good(2)},\n'.split("\n")
    found = sessions_of(lines, None)
    assert [(taken.line, taken.session_id) for taken in found.rows] == [(2, "S-1"), (4, "S-2")]


def test_quotes_that_are_never_closed_swallow_no_other_row() -> None:
    lines = [HEADER, good(1), *(f'"S-{n},CP001' for n in range(10, 30)), good(2)]
    found = sessions_of(lines, None)
    assert [taken.session_id for taken in found.rows] == ["S-1", "S-2"]
    assert [skip.line for skip in found.skipped] == list(range(3, 23))


def test_columns_come_in_any_order_and_others_are_left_out() -> None:
    lines = ["x, energy_kwh ,charging_seconds,plugged_in_at,driver_id,charge_point_id,session_id,"]
    lines.append("1, 7.4 ,3600,2026-11-20T08:00:00Z,ana,CP001, S-1 ,,")
    (taken,) = sessions_of(lines, None).rows
    assert (taken.session_id, taken.driver_id, taken.energy_wh) == ("S-1", "ana", 7400)


def test_the_limit_counts_rows_that_are_skipped_and_no_empty_lines() -> None:
    found = sessions_of([HEADER, "", good(1), row(energy_kwh=""), good(3)], 2)
    assert [taken.session_id for taken in found.rows] == ["S-1"]
    assert [skip.line for skip in found.skipped] == [4]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; the first line must name the columns"),
        (b"a,b\n1,2\n", "has no column session_id, charge_point_id"),
        (HEADER.replace(",", ";").encode(), "columns are separated by commas"),
        (f"{HEADER},energy_kwh\n".encode(), "has more than one column energy_kwh"),
        (HEADER.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_file_of_sessions_is_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "sessions.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as raised:
        read_sessions(path, None)
    assert "\n" not in str(raised.value)


@given(st.lists(st.text(max_size=60), max_size=8))
def test_whatever_stands_in_other_lines_good_ones_are_taken(others: list[str]) -> None:
    lines = [line for text in others for line in text.split("\n")]
    found = sessions_of([HEADER, good(1), *lines, good(2)], None)
    assert {"S-1"} <= {taken.session_id for taken in found.rows}
    assert all(skip.reason for skip in found.skipped)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**6)), max_size=10))
def test_what_a_program_has_written_is_read_as_it_was(energies: list[tuple[int, int]]) -> None:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    for n, (wh, seconds) in enumerate(energies):
        writer.writerow([f"S-{n}", "CP001", "ana", "2026-11-20T08:00:00Z", seconds, f"{wh / 1000:.3f}"])
    found = sessions_of(written.getvalue().splitlines(), None)
    assert len(found.rows) + len(found.skipped) == len(energies)
    for taken in found.rows:
        wh, seconds = energies[int(taken.session_id[2:])]
        assert (taken.energy_wh, taken.charging_seconds) == (wh, seconds)
        assert taken.power_w <= 10**6

"""Where a day begins and ends, in zones whose days are not all of 24 hours."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from evcharge.zones import FIRST_MOMENT, LAST_MOMENT, day_begins, day_ends, machine_zone, zone_called


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", date(2026, 11, 28), "2026-11-28T00:00", 24),
        ("Europe/Berlin", date(2026, 3, 29), "2026-03-28T23:00", 23),
        ("Europe/Berlin", date(2026, 10, 25), "2026-10-24T22:00", 25),
        ("Asia/Kathmandu", date(2026, 11, 28), "2026-11-27T18:15", 24),
        ("America/St_Johns", date(2026, 11, 1), "2026-11-01T02:30", 25),
        ("Australia/Lord_Howe", date(2026, 10, 4), "2026-10-03T13:30", 23.5),
        ("America/Santiago", date(2026, 9, 6), "2026-09-06T04:00", 23),  # begins at one o'clock
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00", 25),  # has its first hour twice
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00", 0),  # there was none
    ],
)
def test_a_day_begins_at_its_first_moment_and_ends_where_the_next_begins(
    zone: str, day: date, begins: str, hours: float
) -> None:
    found = day_begins(day, ZoneInfo(zone))
    assert found == datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert day_ends(day, ZoneInfo(zone)) - found == timedelta(hours=hours)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
def test_the_first_day_and_the_last_there_are_have_an_end_too(zone: str) -> None:
    assert day_begins(date.min, ZoneInfo(zone)) - FIRST_MOMENT < timedelta(days=1)
    assert day_ends(date.max, ZoneInfo(zone)) == LAST_MOMENT
    assert FIRST_MOMENT < day_begins(date.max, ZoneInfo(zone)) <= LAST_MOMENT


@pytest.mark.parametrize("name", ["Europe/Atlantis", "Europe", "", "../UTC", "/etc/localtime", "CEST", "a\0b"])
def test_there_is_no_zone_of_a_name_that_is_none(name: str) -> None:
    assert zone_called(name) is None


def test_the_zone_of_the_machine_is_the_one_that_it_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzlocal.unix._cache_tz_name", None)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert machine_zone() == ZoneInfo("Asia/Kathmandu")

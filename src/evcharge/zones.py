"""Time zones by their names (IANA), and where a day begins and ends in one."""

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def zone_called(name: str) -> ZoneInfo | None:
    """None if there is no zone of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last for what is a folder of the list
        return None


def machine_zone() -> ZoneInfo | None:
    """The one that this machine is set to; None if that has no name of IANA."""
    try:
        name = tzlocal.get_localzone_name()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    if not name and set(time.tzname) != {"UTC"}:  # the zone's data are there, but not which ones they are
        return None
    return zone_called(name or "UTC")


def day_begins(day: date, zone: ZoneInfo) -> datetime:
    """Its first moment, in UTC. A day may have 23 or 25 hours, and begin at one o'clock."""
    try:
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return FIRST_MOMENT if day.year == 1 else LAST_MOMENT


def day_ends(day: date, zone: ZoneInfo) -> datetime:
    """The first moment that is not in it any more, in UTC."""
    return day_begins(day + ONE_DAY, zone) if day < date.max else LAST_MOMENT

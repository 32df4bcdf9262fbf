"""Times as the clocks of Central's zone have them, wherever somebody looks."""

from datetime import datetime
from zoneinfo import ZoneInfo

from evcharge.zones import zone_called


def known(zone: str) -> ZoneInfo:
    """Of one that this machine does not know, times are shown in UTC."""
    return zone_called(zone) or ZoneInfo("UTC")


def time_text(at: datetime | None, zone: str) -> str:
    return f"{at.astimezone(known(zone)):%Y-%m-%d %H:%M:%S}" if at is not None else ""


def time_in(zone: str, at: datetime | None, said: datetime | None = None) -> str:
    """A time that stands alone, with its zone, and what the charge point's clock said, if that differs."""
    if at is None:
        return ""
    beside = f"; the charge point's clock says {time_text(said, zone)}" if said is not None else ""
    return f"{time_text(at, zone)} ({known(zone)}){beside}"

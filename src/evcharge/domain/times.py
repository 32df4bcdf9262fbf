"""What a peer's clock says, held against what Central knows: it is data, and no date of Central's books."""

from datetime import UTC, datetime, timedelta

CLOCKS_DIFFER = timedelta(minutes=5)
"""Honest clocks; by more, what they say is kept beside what is believed."""


def believed(said: datetime, first: datetime, last: datetime) -> tuple[datetime, datetime | None]:
    """The moment from `first` to `last` that is nearest to what was said; what was said, if that is far from it.

    Whatever `last` is, nothing is before `first`: Central's own clock may have been set back.
    """
    said = said.astimezone(UTC)
    at = max(first, min(said, last))
    return at, said if abs(said - at) > CLOCKS_DIFFER and said != last else None

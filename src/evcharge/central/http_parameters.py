"""What the operators' interface takes in paths and queries."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, SkipValidation

from evcharge.central.desk import Desk
from evcharge.protocol.operators import ID_REGEX, MAX_ROWS, PAGE_MARK_REGEX, SessionFilter

LARGEST_NUMBER = 2**53  # a float has it exactly, and JSON's numbers may be read as such

TheDesk = NamedDependency[Desk]
Wanted = NamedDependency[SkipValidation[SessionFilter]]
IdInPath = Annotated[str, PathParameter(pattern=ID_REGEX)]
NumberInPath = Annotated[int, PathParameter(ge=1, le=LARGEST_NUMBER)]
MaybeId = Annotated[str | None, QueryParameter(pattern=ID_REGEX)]
Mark = Annotated[str, QueryParameter(max_length=64, description="The `next_after` of the page before.")]
PageMark = Annotated[
    str | None, QueryParameter(pattern=PAGE_MARK_REGEX, description="The `next_before` of the page before.")
]
Number = Annotated[
    int | None, QueryParameter(ge=1, le=LARGEST_NUMBER, description="The `next_before` of the page before.")
]
DAY_OR_MOMENT = {"anyOf": [{"type": "string", "format": kind} for kind in ("date", "date-time")]}
Since = Annotated[
    str | None,
    QueryParameter(
        description="Booked on this day of Central's zone, or at this moment, or later.",
        schema_extra=DAY_OR_MOMENT,
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        description="Booked on this day of Central's zone, or before this moment, or earlier.",
        schema_extra=DAY_OR_MOMENT,
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ROWS, description="The most rows of this page.")]

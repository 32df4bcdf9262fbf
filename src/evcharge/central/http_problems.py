"""What goes wrong with a request, as an answer: a status code, a code for programs and a sentence for people."""

import re
import traceback
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec

from evcharge.errors import (
    AlreadyThere,
    BadMessage,
    EnvironmentFault,
    EvchargeError,
    InternalError,
    InvalidField,
    NotDecided,
    NotThere,
    StillOpen,
    UnknownChargePoint,
    UnknownDriver,
    UsageError,
    WireError,
)
from evcharge.protocol.messages import AN_ID, shown
from evcharge.protocol.operators import ID_REGEX, PAGE_MARK_REGEX, Problem

STATUS_CODES: dict[type[EvchargeError], tuple[int, str]] = {
    NotThere: (404, "not_there"),
    UnknownChargePoint: (404, UnknownChargePoint.code),
    UnknownDriver: (404, UnknownDriver.code),
    AlreadyThere: (409, "already_there"),
    StillOpen: (409, "session_open"),
    BadMessage: (400, InvalidField.code),
    UsageError: (400, InvalidField.code),
    InternalError: (500, InternalError.code),
    NotDecided: (503, "not_decided"),
    EnvironmentFault: (503, "unavailable"),
}
IN_WORDS = {
    "data: 'data'": "there is no body",
    re.escape(f"Expected `str` matching regex {ID_REGEX!r}"): f"must be {AN_ID}",
    re.escape(f"Expected `str` matching regex {PAGE_MARK_REGEX!r}"): "must be the `next_before` of a page",
    r"Expected `str` of length <= (\d+)": r"must have at most \1 characters",
    r"Expected `int` >= (-?\d+)": r"must be an integer of at least \1",
    r"Expected `int` <= (-?\d+)": r"must be an integer of at most \1",
    r"Expected `int[^`]*`, got .*": "must be an integer",
    r"Expected `bool[^`]*`, got .*": "must be true or false",
    r"Expected `str[^`]*`, got .*": "must be a text",
    r"Invalid enum value (.*)": r"there is no \1 to choose",
    r"Invalid RFC3339 encoded date": "must be a day such as 2026-11-30",
    r"Invalid UUID": "must be a UUID such as 6fa459ea-ee8a-4ca4-894e-db77e160355e",
}
"""What msgspec says of a parameter of the path or the query, which tells of Python's types, and what we say."""
HTTP_CODES = {
    400: InvalidField.code,
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_there",
    405: "method_not_allowed",
    413: "too_large",
    429: "too_many_requests",
}


def _problem(status_code: int, code: str, reason: str, headers: dict[str, str] | None = None) -> Response[Problem]:
    return Response(Problem(code=code, reason=shown(reason)), status_code=status_code, headers=headers)


def on_refusal(_: Request[Any, Any, Any], error: EvchargeError) -> Response[Problem]:
    for kind in type(error).__mro__:
        if kind in STATUS_CODES:
            return _problem(*STATUS_CODES[kind], str(error))
    code = error.code if isinstance(error, WireError) else "refused"
    return _problem(409, code, str(error))


def on_http_problem(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    parts = [error.detail]
    for more in error.extra if isinstance(error.extra, list) else []:
        if isinstance(more, dict):
            parts.append(_in_words(f"{more.get('key', 'body')}: {more.get('message', '')}"))
    code = HTTP_CODES.get(error.status_code, "refused")
    return _problem(error.status_code, code, "; ".join(parts), dict(error.headers or {}))


def _in_words(reason: str) -> str:
    for theirs, ours in IN_WORDS.items():
        reason = re.sub(theirs, ours, reason)
    return reason


def on_bug(request: Request[Any, Any, Any], bug: Exception) -> Response[Problem]:
    """What should not be; it harms this request alone."""
    lines = "".join(traceback.format_exception(bug))
    request.app.state["log"].error("bug", message=f"{request.method} {request.url.path}", traceback=lines)
    return _problem(500, InternalError.code, f"Central failed at this request: {bug!r}")


def problems(*also: int) -> dict[int, ResponseSpec]:
    texts = {
        400: "The request is not as this page says.",
        401: "There is no valid token.",
        403: "The token is a viewer's.",
        404: "What is named does not exist.",
        409: "It cannot be done as things stand; the code says why.",
        429: "Too many requests, wrong tokens or streams; `Retry-After` says when to ask again.",
        503: "The database or the worker is held up.",
    }
    return {
        code: ResponseSpec(Problem, description=texts[code], generate_examples=False)
        for code in (400, 401, 429, 503, *also)
    }

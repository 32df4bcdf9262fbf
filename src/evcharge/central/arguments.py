"""What operators type after a command: ids, days, prices, filters. Each raises `UsageError`."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import msgspec

from evcharge.console.shell import whole_number
from evcharge.errors import UsageError
from evcharge.protocol.messages import NO_ID, check_price, fits, is_id
from evcharge.protocol.notation import is_plain
from evcharge.protocol.operators import MAX_ROWS, SessionFilter

ROWS = 20
FILTERS = ("cp=", "driver=", "since=", "until=", "limit=", "before=")


def at_most_one(words: list[str], usage: str) -> str:
    if len(words) > 1:
        raise UsageError(f"say: {usage}")
    return words[0] if words else ""


def an_id(words: list[str], usage: str) -> str:
    if len(words) != 1:
        raise UsageError(f"say: {usage}")
    if not is_id(words[0]):
        raise UsageError(f"{words[0]!a} {NO_ID}")
    return words[0]


def kind_and_id(words: list[str], command: str) -> tuple[str, str]:
    if len(words) != 2 or words[0] not in ("cp", "driver"):
        raise UsageError(f"say: {command} cp CP_ID, or {command} driver DRIVER_ID")
    return words[0], an_id(words[1:], f"{command} {words[0]} ID")


def uuid_of(text: str) -> UUID | None:
    """As the messages have them: Python's own would take braces and `urn:uuid:`, too."""
    return UUID(text) if fits(text, UUID) else None


def session_id_of(text: str) -> UUID:
    found = uuid_of(text)
    if found is None:
        raise UsageError(f"{text!a} is no session id; `sessions` and `history` show them")
    return found


def price_of(text: str) -> Decimal:
    if not is_plain(text):
        raise UsageError(f"a price is a number such as 0.35, not {text!a}")
    price = Decimal(text)
    try:
        check_price(price)
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    return price


def day_of(text: str) -> date:
    try:
        return msgspec.convert(text, date)
    except msgspec.ValidationError:
        raise UsageError(f"a day is written 2026-11-30, not {text!a}") from None


def history_of(words: list[str]) -> tuple[SessionFilter, str | None, int]:
    """`cp=CP001 since=2026-11-01`: which sessions, from which mark on, and how many."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in [known.rstrip("=") for known in FILTERS]:
            raise UsageError(f"{word!a} is no filter; say {', '.join(FILTERS)}")
        if name in values:
            raise UsageError(f"{name}= is there twice")
        values[name] = value
    since, until = values.get("since"), values.get("until")
    wanted = SessionFilter(
        cp_id=an_id([values["cp"]], "cp=CP_ID") if "cp" in values else None,
        driver_id=an_id([values["driver"]], "driver=DRIVER_ID") if "driver" in values else None,
        since=day_of(since) if since is not None else None,
        until=day_of(until) if until is not None else None,
    )
    limit = whole_number(values["limit"], "limit=", 1, MAX_ROWS) if "limit" in values else ROWS
    return wanted, values.get("before"), limit

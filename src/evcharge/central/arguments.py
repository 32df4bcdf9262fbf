"""What operators type after a command: ids, days, prices, filters. Each raises `UsageError`."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from evcharge.console.shell import energy_wh_of, number, whole_number
from evcharge.errors import UsageError
from evcharge.protocol.currencies import is_currency
from evcharge.protocol.messages import NO_ID, check_limit, check_price, fits, is_id, is_new_id
from evcharge.protocol.notation import is_plain, plain_decimal
from evcharge.protocol.operators import MAX_HOURS, MAX_ROWS, SessionFilter

ROWS = 20
CEILING_WORDS = ("price=", "currency=", "power=")
LIMIT_WORDS = ("energy=", "cost=", "hours=", "signed=")
DEFAULT = "default"
MAX_KW = 100_000
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
    name = an_id(words[1:], f"{command} {words[0]} ID")
    if command == "add" and not is_new_id(name):
        raise UsageError(f"{name!a} {NO_ID}")
    return words[0], name


def uuid_of(text: str) -> UUID | None:
    """As the messages have them: Python's own would take braces and `urn:uuid:`, too."""
    return UUID(text) if fits(text, UUID) else None


def session_id_of(text: str) -> UUID:
    found = uuid_of(text)
    if found is None:
        raise UsageError(f"{text!a} is no session id; `sessions` and `history` show them")
    return found


def price_of(text: str) -> Decimal:
    if not is_plain(text.removeprefix("-")):
        raise UsageError(f"a price is a number such as 0.35, not {text!a}")
    price = Decimal(text)
    try:
        check_price(price)
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    return price


def ceilings_in(words: list[str]) -> dict[str, Any]:
    """`price=0.60 currency=EUR power=22`: which fields of `Ceilings` are to be others; `default` is Central's."""
    found: dict[str, Any] = {}
    for name, value in _named(words, CEILING_WORDS, DEFAULT).items():
        match name:
            case "price":
                found["price_per_kwh"] = price_of(value) if value is not None else None
            case "currency":
                found["currency"] = currency_of(value) if value is not None else None
            case _:
                power = number(value, "power= in kW", 0.001, MAX_KW) if value is not None else None
                found["power_w"] = round(power * 1000) if power is not None else None
    return found


def limits_in(words: list[str]) -> dict[str, Any]:
    """`energy=40 cost=30 hours=12 signed=yes`: which fields of `Limits`, or `signed_only`, are to be others."""
    found: dict[str, Any] = {}
    for name, value in _named(words, LIMIT_WORDS, DEFAULT).items():
        match name:
            case "energy":
                found["energy_wh"] = energy_wh_of(value) if value is not None else None
            case "cost":
                found["cost"] = cost_of(value) if value is not None else None
            case "hours":
                found["hours"] = number(value, "hours=", 0.001, MAX_HOURS) if value is not None else None
            case _:
                if value not in ("yes", "no"):
                    raise UsageError("signed= is yes or no")
                found["signed_only"] = value == "yes"
    return found


def _named(words: list[str], names: tuple[str, ...], nothing: str) -> dict[str, str | None]:
    """`name=value` for some of the names; None for the value that means nothing."""
    values: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or f"{name}=" not in names:
            raise UsageError(f"{word!a} is none of {', '.join(names)}")
        if name in values:
            raise UsageError(f"{name}= is there twice")
        values[name] = value if value != nothing else None
    return values


def currency_of(text: str) -> str:
    if not is_currency(text):
        raise UsageError(f"a currency is one of ISO 4217 such as EUR, not {text[:12]!a}")
    return text


def cost_of(text: str) -> Decimal:
    try:
        cost = plain_decimal(text)
        check_limit(cost)
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    return cost


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

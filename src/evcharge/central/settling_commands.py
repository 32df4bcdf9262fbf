"""AdminCLI's commands for what waits for a person: to look at it, to settle it, to close a session."""

from uuid import UUID

import msgspec

from evcharge.central.arguments import ROWS, an_id, uuid_of
from evcharge.central.client import DeskClient
from evcharge.central.desk import Desk
from evcharge.central.local_times import known, time_in, time_text
from evcharge.console.drawing import kwh
from evcharge.console.shell import number, whole_number
from evcharge.console.tables import table
from evcharge.domain.commands import Bill
from evcharge.errors import UsageError
from evcharge.protocol.operators import ToSettleRow
from evcharge.protocol.plain_text import one_line

LARGEST_NUMBER = 2**53
MOST_KWH = 10**6
CLAIM = ("number", "since", "what", "charge point", "kWh claimed", "times", "session")
VERDICT = ("kWh billed", "by", "remark")
TO_SETTLE = "to-settle [NUMBER|settled] [before=NUMBER]"
SETTLE = "settle NUMBER|SESSION_ID all|nothing|KWH REMARK…"


async def to_settle(desk: Desk | DeskClient, words: list[str]) -> str:
    before = None
    if words and words[-1].startswith("before="):
        before = _number(words[-1].removeprefix("before="))
        words = words[:-1]
    if words and words != ["settled"]:
        if len(words) > 1 or before is not None:
            raise UsageError(f"say: {TO_SETTLE}")
        row = await desk.one_to_settle(_number(words[0]))
        return _evidence(row, (await desk.totals()).zone)
    settled = words == ["settled"]
    page = await desk.to_settle(settled, before, ROWS)
    head = (*CLAIM, *VERDICT) if settled else CLAIM
    rows = [
        (
            row.number,
            time_text(row.set_aside_at, page.zone),
            row.kind,
            row.cp_id,
            kwh(row.energy_wh),
            row.times,
            row.session_id,
            *((kwh(row.billed_wh or 0), row.settled_by, row.remark) if settled else ()),
        )
        for row in page.to_settle
    ]
    if not rows:
        return "nothing was settled" if settled else "nothing waits to be settled"
    more = f"\nmore with before={page.next_before}" if page.next_before is not None else ""
    return f"{table(head, rows, '')}\ntimes: {known(page.zone)}{more}"


def _evidence(row: ToSettleRow, zone: str) -> str:
    facts = [
        ("number", str(row.number)),
        ("what", row.kind),
        ("why", row.reason),
        ("session", str(row.session_id)),
        ("charge point", row.cp_id),
        ("claimed", f"{kwh(row.energy_wh)} kWh"),
        ("set aside", f"{time_in(zone, row.set_aside_at)}, came {row.times} times"),
        ("evidence", msgspec.json.encode(row.evidence).decode()),
        (
            "settled",
            "no" if row.settled_at is None else f"{time_in(zone, row.settled_at)} by {row.settled_by}",
        ),
    ]
    if row.settled_at is not None:
        facts += [("billed", f"{kwh(row.billed_wh or 0)} kWh in all"), ("remark", row.remark or "")]
    return "\n".join(f"{name:<12}  {one_line(value)}" for name, value in facts)


async def settle(desk: Desk | DeskClient, words: list[str]) -> str:
    if len(words) < 3:
        raise UsageError(f"say: {SETTLE}")
    which, bill, remark = words[0], _bill(words[1]), " ".join(words[2:])
    session_id = uuid_of(which)
    if session_id is not None:
        session = await desk.correct(session_id, bill, remark)
        return (
            f"settled: session {session_id} over {kwh(session.energy_wh)} kWh, {session.cost} {session.currency},"
            f" revision {session.revision}"
        )
    row = await desk.settle(_number(which), bill, remark)
    return f"settled: {row.number}, session {row.session_id} over {kwh(row.billed_wh or 0)} kWh"


async def close(desk: Desk | DeskClient, words: list[str]) -> str:
    if len(words) != 1:
        raise UsageError("say: close SESSION_ID, or close CP_ID for the session there")
    session_id = uuid_of(words[0]) or await session_at(desk, words[0], "close")
    session = await desk.close(session_id)
    return (
        f"closed: session {session_id} of {session.driver_id} over {kwh(session.energy_wh)} kWh, {session.status};"
        " a completion that comes within 24 h is billed"
    )


async def session_at(desk: Desk | DeskClient, cp_id: str, command: str) -> UUID:
    """Of the session that is open at this charge point."""
    cp = await desk.charge_point(an_id([cp_id], f"{command} CP_ID"))
    if cp.session is None:
        raise UsageError(f"no session is open at {cp_id}")
    return cp.session.session_id


def _bill(text: str) -> Bill:
    match text:
        case "all":
            return "all"
        case "nothing":
            return "nothing"
        case _:
            return round(number(text, "`all`, `nothing`, or the energy in kWh,", 0, MOST_KWH) * 1000)


def _number(text: str) -> int:
    return whole_number(text, "what `to-settle` lists is named by its number, which", 1, LARGEST_NUMBER)

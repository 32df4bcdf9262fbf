"""The operators' interface over HTTP: what waits for a person, and sessions whose charge point is gone."""

from uuid import UUID

from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from evcharge.central.http_access import OPERATORS
from evcharge.central.http_parameters import Limit, Number, NumberInPath, TheDesk
from evcharge.central.http_problems import problems
from evcharge.protocol.operators import SessionRow, SettleOrder, ToSettlePage, ToSettleRow


@get("/to-settle", summary="What cannot be billed without a person, newest first", responses=problems())
async def to_settle(
    desk: TheDesk, settled: FromQuery[bool] = False, before: Number = None, limit: Limit = 100
) -> ToSettlePage:
    return await desk.to_settle(settled, before, limit)


@get("/to-settle/{number:int}", summary="One of them, with its evidence", responses=problems(404))
async def one_to_settle(desk: TheDesk, number: NumberInPath) -> ToSettleRow:
    return await desk.one_to_settle(number)


@post(
    "/to-settle/{number:int}",
    summary="Settle it: bill all, nothing or so many Wh; the driver gets the receipt's next revision",
    status_code=200,
    guards=OPERATORS,
    responses=problems(403, 404, 409),
)
async def settle(desk: TheDesk, number: NumberInPath, data: JSONBody[SettleOrder]) -> ToSettleRow:
    return await desk.settle(number, data.energy_wh, data.remark)


@post(
    "/sessions/{session_id:uuid}/settle",
    summary="Correct the bill of a session that has ended, up or down, with all that waits of it",
    status_code=200,
    guards=OPERATORS,
    responses=problems(403, 404, 409),
)
async def correct(desk: TheDesk, session_id: FromPath[UUID], data: JSONBody[SettleOrder]) -> SessionRow:
    return await desk.correct(session_id, data.energy_wh, data.remark)


@post(
    "/sessions/{session_id:uuid}/close",
    summary="Close an open session at once, with what was metered: its charge point is gone",
    status_code=200,
    guards=OPERATORS,
    responses=problems(403, 409),
)
async def close(desk: TheDesk, session_id: FromPath[UUID]) -> SessionRow:
    return await desk.close(session_id)


HANDLERS = [to_settle, one_to_settle, settle, correct, close]

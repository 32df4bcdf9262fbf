"""The operators' interface over HTTP: which function of the desk does what."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Litestar, Request, Response, Router, delete, get, post, put
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from structlog.typing import FilteringBoundLogger

from evcharge import __version__
from evcharge.central import http_settling
from evcharge.central.board import Watcher
from evcharge.central.desk import Desk
from evcharge.central.http_access import OPERATORS, TokenCheck, TokenLookups, WrongTokens, few_at_a_time
from evcharge.central.http_page import PlainPage
from evcharge.central.http_parameters import (
    LARGEST_NUMBER,
    IdInPath,
    Limit,
    Mark,
    MaybeId,
    Number,
    PageMark,
    Since,
    TheDesk,
    Until,
    Wanted,
)
from evcharge.central.http_problems import on_bug, on_http_problem, on_refusal, problems
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Actor
from evcharge.domain.status import Status
from evcharge.errors import DatabaseUnusable, EvchargeError, InvalidField
from evcharge.protocol.messages import Utc
from evcharge.protocol.operators import (
    BODIES,
    MAX_ROWS,
    AuditPage,
    By,
    CeilingsChanged,
    CeilingsOrder,
    ChargePointKey,
    ChargePointNow,
    ChargePointPage,
    DriverKey,
    DriverPage,
    DriverRow,
    FaultPage,
    Health,
    LimitsOrder,
    MeterValuePage,
    NewChargePoint,
    NewDriver,
    PriceOrder,
    Revenue,
    ServiceChanged,
    ServiceOrder,
    SessionFilter,
    SessionPage,
    SessionRow,
    Started,
    StartOrder,
    Stopping,
    Totals,
    changes_of,
    read_body,
)
from evcharge.storage.registry import Token

MAX_BODY_BYTES = 16 * 1024
STREAM_SIGN_OF_LIFE_S = 15.0
MetricsPage = Callable[[], Awaitable[bytes]]


def desk_of(request: Request[Token, str, Any]) -> Desk:
    desk: Desk = request.app.state["desk"]
    return desk.acting_as(Actor(request.user.name, "http"))


# To look


@get("/charge-points", summary="The charge points, as they are now", responses=problems())
async def charge_points(
    desk: TheDesk, after: Mark = "", limit: Limit = 100, status: FromQuery[Status | None] = None
) -> ChargePointPage:
    return await desk.charge_points(after, limit, status)


@get("/charge-points/{cp_id:str}", summary="One charge point", responses=problems(404))
async def charge_point(desk: TheDesk, cp_id: IdInPath) -> ChargePointNow:
    return await desk.charge_point(cp_id)


def day_or_moment(name: str, text: str | None) -> date | datetime | None:
    """Raises `InvalidField`. Litestar alone would take a number too, for so many seconds since 1970."""
    if text is None:
        return None
    try:
        if "T" not in text.upper():
            return msgspec.convert(text, date)
        return msgspec.convert(text, Utc).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise InvalidField(
            f"`{name}` needs a day, such as 2026-11-01, or a time with its zone, such as 2026-11-01T00:00:00Z"
        ) from None


def session_filter(
    cp_id: MaybeId = None,
    driver_id: MaybeId = None,
    since: Since = None,
    until: Until = None,
) -> SessionFilter:
    """Booked from `since` on, up to the end of the day `until`, or before the moment `until`."""
    return SessionFilter(
        cp_id=cp_id,
        driver_id=driver_id,
        since=day_or_moment("since", since),
        until=day_or_moment("until", until),
    )


@get("/sessions", summary="Sessions, newest first", responses=problems())
async def sessions(desk: TheDesk, wanted: Wanted, before: PageMark = None, limit: Limit = 100) -> SessionPage:
    return await desk.sessions(wanted, before, limit)


@get("/sessions/{session_id:uuid}", summary="One session", responses=problems(404))
async def session(desk: TheDesk, session_id: FromPath[UUID]) -> SessionRow:
    return await desk.session(session_id)


@get("/sessions/{session_id:uuid}/meter-values", summary="The meter values of a session", responses=problems(404))
async def meter_values(
    desk: TheDesk,
    session_id: FromPath[UUID],
    after: Annotated[int, QueryParameter(ge=-1, le=LARGEST_NUMBER)] = -1,
    limit: Limit = MAX_ROWS,
) -> MeterValuePage:
    return await desk.meter_values(session_id, after, limit)


@get(
    "/sessions.csv",
    summary="Sessions as CSV, newest first, however many",
    media_type="text/csv",
    middleware=[few_at_a_time],
    responses=problems(),
)
async def sessions_csv(desk: TheDesk, wanted: Wanted) -> Stream:
    lines = desk.export(wanted)
    first = await anext(lines)  # What the database has against it is told by the status code, while that can be.
    return Stream(
        _chained(first, lines),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="sessions.csv"'},
    )


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for more in rest:
        yield more


@get("/drivers", summary="The drivers that are served", responses=problems())
async def drivers(desk: TheDesk, after: Mark = "", limit: Limit = 100) -> DriverPage:
    return await desk.drivers(after, limit)


@get("/faults", summary="Faults, newest first", responses=problems())
async def faults(
    desk: TheDesk,
    cp_id: MaybeId = None,
    uncleared: FromQuery[bool] = False,
    before: Number = None,
    limit: Limit = 100,
) -> FaultPage:
    return await desk.faults(cp_id, uncleared, before, limit)


@get("/totals", summary="The network now, and today", responses=problems())
async def totals(desk: TheDesk) -> Totals:
    return await desk.totals()


@get("/revenue", summary="Energy and revenue, by day or by charge point", responses=problems())
async def revenue(
    desk: TheDesk,
    since: FromQuery[date | None] = None,
    until: FromQuery[date | None] = None,
    by: FromQuery[By] = By.DAY,
) -> Revenue:
    return await desk.revenue(since, until, by)


@get("/audit", summary="What operators have changed, newest first", responses=problems())
async def audit(desk: TheDesk, before: Number = None, limit: Limit = 100) -> AuditPage:
    return await desk.audit(before, limit)


@get(
    "/events",
    summary="Live state: server-sent events, each a `Changes`",
    description="Each event's data is a `Changes` object: first all charge points, then those that have changed.",
    media_type="text/event-stream",
    middleware=[few_at_a_time],
    responses=problems(),
)
async def events(desk: TheDesk, request: Request[Token, str, Any]) -> Stream:
    return Stream(
        event_lines(desk, request.auth),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def event_lines(
    desk: Desk, token: str, sign_of_life_s: float = STREAM_SIGN_OF_LIFE_S
) -> AsyncIterator[bytes]:
    """Until Central ends, the reader is too slow, or the token is no more, which is looked at now and then."""
    loop = asyncio.get_running_loop()
    async with desk.board.watched() as watcher:
        next_check_s = loop.time() + sign_of_life_s
        while (item := await _next(watcher, max(0.0, next_check_s - loop.time()))) is not None:
            yield item
            if loop.time() >= next_check_s:
                next_check_s = loop.time() + sign_of_life_s
                if not await _still_valid(desk, token):
                    return


async def _still_valid(desk: Desk, token: str) -> bool:
    try:
        return bool(await desk.tokens([hash_key(token)]))
    except DatabaseUnusable:  # It had been valid; and to whoever looks after this, live state is worth most now.
        return True


async def _next(watcher: Watcher, patience_s: float) -> bytes | None:
    """The next event; a comment after a while without, so that both ends notice when the other is gone."""
    try:
        async with asyncio.timeout(patience_s):
            item = await watcher.queue.get()
    except TimeoutError:
        return b": nothing new\n\n"
    return None if item is None else b"data: " + item[1] + b"\n\n"


# To change


@post(
    "/charge-points/{cp_id:str}/start",
    summary="Start a charge for a driver",
    status_code=202,
    guards=OPERATORS,
    responses=problems(403, 404, 409),
)
async def start(desk: TheDesk, cp_id: IdInPath, data: JSONBody[StartOrder]) -> Started:
    return await desk.start(cp_id, data.driver_id, data.energy_wh, data.request_id)


@post(
    "/sessions/{session_id:uuid}/stop",
    summary="Stop a session",
    status_code=202,
    guards=OPERATORS,
    responses=problems(403, 404, 409),
)
async def stop(desk: TheDesk, session_id: FromPath[UUID]) -> Stopping:
    return await desk.stop(session_id)


@put(
    "/charge-points/{cp_id:str}/service",
    summary="Take a charge point out of service, or back; a charge that runs goes on",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def set_service(desk: TheDesk, cp_id: IdInPath, data: JSONBody[ServiceOrder]) -> ServiceChanged:
    return ServiceChanged(changed_cp_ids=await desk.set_service(cp_id, data.out_of_service))


@put(
    "/network/service",
    summary="Take all charge points out of service, or back",
    guards=OPERATORS,
    responses=problems(403),
)
async def set_service_of_all(desk: TheDesk, data: JSONBody[ServiceOrder]) -> ServiceChanged:
    return ServiceChanged(changed_cp_ids=await desk.set_service(None, data.out_of_service))


@put("/service", include_in_schema=False)
async def set_service_of_what() -> None:
    """What a careless program makes of the path of a charge point `..`; all were meant by it once."""
    raise HTTPException("PUT /v1/network/service takes all charge points out of service, or back", status_code=404)


@put(
    "/charge-points/{cp_id:str}/price",
    summary="Set the price; it holds for charges that begin from now on",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def set_price(desk: TheDesk, cp_id: IdInPath, data: JSONBody[PriceOrder]) -> ChargePointNow:
    return await desk.set_price(cp_id, data.price_per_kwh, data.currency)


@delete(
    "/charge-points/{cp_id:str}/price",
    summary="Give the price back to the charge point: what it has registered last holds at once",
    status_code=200,
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def unset_price(desk: TheDesk, cp_id: IdInPath) -> ChargePointNow:
    return await desk.set_price(cp_id, None)


@post(
    "/charge-points",
    summary="Admit a charge point; the answer has its key, this once",
    guards=OPERATORS,
    responses=problems(403, 409),
)
async def add_charge_point(desk: TheDesk, data: JSONBody[NewChargePoint]) -> ChargePointKey:
    return await desk.add_charge_point(data.cp_id, changes_of(data))


@put(
    "/charge-points/{cp_id:str}/ceilings",
    summary="Set the most that its Monitor may register: price, currency and power",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def set_ceilings(desk: TheDesk, cp_id: IdInPath, data: JSONBody[CeilingsOrder]) -> CeilingsChanged:
    return CeilingsChanged(changed_cp_ids=await desk.set_ceilings(cp_id, changes_of(data)))


@put(
    "/network/ceilings",
    summary="The same for all charge points",
    guards=OPERATORS,
    responses=problems(403),
)
async def set_ceilings_of_all(desk: TheDesk, data: JSONBody[CeilingsOrder]) -> CeilingsChanged:
    return CeilingsChanged(changed_cp_ids=await desk.set_ceilings(None, changes_of(data)))


@delete(
    "/charge-points/{cp_id:str}",
    summary="Refuse a charge point from now on, or from the end of its session; its history stays",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def remove_charge_point(desk: TheDesk, cp_id: IdInPath) -> None:
    await desk.remove_charge_point(cp_id)


@post(
    "/drivers",
    summary="Serve a driver; answers with its key, this once",
    guards=OPERATORS,
    responses=problems(403, 409),
)
async def add_driver(desk: TheDesk, data: JSONBody[NewDriver]) -> DriverKey:
    return await desk.add_driver(data.driver_id, changes_of(data))


@put(
    "/drivers/{driver_id:str}/limits",
    summary="Set the most that a charge of this driver may come to, and whether each has to be confirmed",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def set_limits(desk: TheDesk, driver_id: IdInPath, data: JSONBody[LimitsOrder]) -> DriverRow:
    return await desk.set_driver(driver_id, changes_of(data))


@delete(
    "/drivers/{driver_id:str}",
    summary="Let a driver begin nothing from now on; what runs can be ended, the history stays",
    guards=OPERATORS,
    responses=problems(403, 404),
)
async def remove_driver(desk: TheDesk, driver_id: IdInPath) -> None:
    await desk.remove_driver(driver_id)


# Beside the interface


@get(
    "/healthz",
    summary="Whether Central, Kafka and database work; needs no token",
    security=[{}],
    responses={503: ResponseSpec(Health, description="Something does not work.", generate_examples=False)},
)
async def healthz(request: Request[Any, Any, Any]) -> Response[Health]:
    desk: Desk = request.app.state["desk"]
    health = await desk.health()
    return Response(health, status_code=200 if health.status == "ok" else 503)


@get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    media_type="text/plain",
    responses={code: problems()[code] for code in (401, 429)},
)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    page: MetricsPage = request.app.state["metrics"]
    return Response(await page(), media_type="text/plain; version=0.0.4; charset=utf-8")


class StrictRequest(Request[Any, Any, Any]):
    """Its body is read as the page describes it; Litestar alone would take 1 for true, and "5" for 5."""

    async def json(self) -> Any:
        wanted = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        body = (await self.body()).removeprefix(BOM_UTF8)
        return read_body(wanted, body or b"null")


def make_app(desk: Desk, metrics_page: MetricsPage, log: FilteringBoundLogger) -> Litestar:
    v1 = Router(
        path="/v1",
        dependencies={
            "desk": Provide(desk_of, sync_to_thread=False),
            "wanted": Provide(session_filter, sync_to_thread=False),
        },
        route_handlers=[
            *(charge_points, charge_point, sessions, session, meter_values, sessions_csv),
            *(drivers, faults, totals, revenue, audit, events),
            *(start, stop, set_service, set_service_of_all, set_service_of_what, set_price, unset_price),
            *(add_charge_point, remove_charge_point, add_driver, remove_driver),
            *http_settling.HANDLERS,
            *(set_ceilings, set_ceilings_of_all, set_limits),
        ],
    )
    tokens = TokenLookups(desk)
    app = Litestar(
        route_handlers=[v1, healthz, metrics],
        middleware=[DefineMiddleware(TokenCheck, tokens=tokens, wrong=WrongTokens(log), exclude=["^/healthz$"])],
        exception_handlers={EvchargeError: on_refusal, HTTPException: on_http_problem, Exception: on_bug},
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,  # or it would write to stderr beside our own log
        openapi_config=OpenAPIConfig(
            title="evcharge",
            version=__version__,
            description="What operators of a network of charge points see and do.",
            path="/docs",
            render_plugins=[PlainPage()],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
        ),
    )
    app.state["desk"] = desk
    app.state["metrics"] = metrics_page
    app.state["log"] = log
    app.state["tokens"] = tokens
    _describe_exactly(app)
    return app


def _describe_exactly(app: Litestar) -> None:
    """In msgspec's words: Litestar's leave out what a text must look like, and that no other field is taken."""
    _, exact = msgspec.json.schema_components(BODIES, ref_template="#/components/schemas/{name}")
    schemas: dict[str, Any] = app.openapi_schema.components.schemas
    schemas.update(exact)

"""A `Desk` that is elsewhere: the same methods, over the operators' HTTP interface."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
import msgspec

from evcharge.domain.commands import Bill
from evcharge.domain.status import Status
from evcharge.errors import EnvironmentFault, EvchargeError, UsageError
from evcharge.protocol.operators import (
    CEILING_FIELDS,
    LIMIT_FIELDS,
    NO_CHANGES,
    AuditPage,
    By,
    CeilingsChanged,
    CeilingsOrder,
    Changes,
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
    Problem,
    Revenue,
    ServiceChanged,
    ServiceOrder,
    SessionFilter,
    SessionPage,
    SessionRow,
    SettleOrder,
    Started,
    StartOrder,
    Stopping,
    ToSettlePage,
    ToSettleRow,
    Totals,
    order_of,
)
from evcharge.protocol.plain_text import one_line

TIMEOUT_S = 15.0
SILENCE_S = 45.0
"""Of the event stream, on which Central gives a sign of life far more often."""

UNWELL = 503

T = TypeVar("T")


class CentralUnreachable(EnvironmentFault):
    """No Central answers at the address."""


class Refused(EvchargeError):
    """Central says no; the text says why."""


class DeskClient:
    """Raises `CentralUnreachable`, or `Refused` with Central's words, or `UsageError` for a token that is none."""

    def __init__(self, url: str, token: str, tls: ssl.SSLContext | None = None) -> None:
        """`tls` says whom to trust at an https address; without it, whom this machine trusts."""
        headers = {"Authorization": f"Bearer {token}"}
        trusted = tls or (ssl.create_default_context() if url.startswith("https:") else True)
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise UsageError("--url takes no user and no password: the token says who asks")
        try:
            self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=trusted)
        except UnicodeEncodeError:
            raise UsageError("the token has characters that no token has; it is not shown here") from None
        except (httpx.InvalidURL, ValueError) as problem:
            raise UsageError(f"{url!a} cannot be asked: {problem}") from None
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # To look

    async def charge_points(
        self, after: str = "", limit: int = 100, status: Status | None = None
    ) -> ChargePointPage:
        return await self._get("/v1/charge-points", ChargePointPage, after=after, limit=limit, status=status)

    async def charge_point(self, cp_id: str) -> ChargePointNow:
        return await self._get(f"/v1/charge-points/{_segment(cp_id)}", ChargePointNow)

    async def sessions(self, wanted: SessionFilter, before: str | None = None, limit: int = 100) -> SessionPage:
        return await self._get("/v1/sessions", SessionPage, **_query(wanted), before=before, limit=limit)

    async def export(self, wanted: SessionFilter) -> AsyncIterator[bytes]:
        async with self._stream("/v1/sessions.csv", TIMEOUT_S, **_query(wanted)) as response:
            async for part in response.aiter_bytes():
                yield part

    async def session(self, session_id: UUID) -> SessionRow:
        return await self._get(f"/v1/sessions/{session_id}", SessionRow)

    async def meter_values(self, session_id: UUID, after: int = -1, limit: int = 1000) -> MeterValuePage:
        path = f"/v1/sessions/{session_id}/meter-values"
        return await self._get(path, MeterValuePage, after=after, limit=limit)

    async def faults(
        self, cp_id: str | None = None, uncleared: bool = False, before: int | None = None, limit: int = 100
    ) -> FaultPage:
        query = {"cp_id": cp_id, "uncleared": uncleared, "before": before, "limit": limit}
        return await self._get("/v1/faults", FaultPage, **query)

    async def drivers(self, after: str = "", limit: int = 100) -> DriverPage:
        return await self._get("/v1/drivers", DriverPage, after=after, limit=limit)

    async def to_settle(self, settled: bool = False, before: int | None = None, limit: int = 100) -> ToSettlePage:
        return await self._get("/v1/to-settle", ToSettlePage, settled=settled, before=before, limit=limit)

    async def one_to_settle(self, number: int) -> ToSettleRow:
        return await self._get(f"/v1/to-settle/{number}", ToSettleRow)

    async def audit(self, before: int | None = None, limit: int = 100) -> AuditPage:
        return await self._get("/v1/audit", AuditPage, before=before, limit=limit)

    async def revenue(self, since: date | None = None, until: date | None = None, by: By = By.DAY) -> Revenue:
        return await self._get("/v1/revenue", Revenue, since=since, until=until, by=by)

    async def totals(self) -> Totals:
        return await self._get("/v1/totals", Totals)

    async def health(self) -> Health:
        return await self._get("/healthz", Health)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Changes]]:
        async with self._stream("/v1/events", SILENCE_S) as response:
            yield self._changes(response)

    async def _changes(self, response: httpx.Response) -> AsyncIterator[Changes]:
        try:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield _decoded(response.status_code, line[len("data: ") :].encode(), Changes)
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None

    # To change

    async def start(
        self, cp_id: str, driver_id: str, energy_wh: int | None = None, request_id: UUID | None = None
    ) -> Started:
        order = StartOrder(driver_id=driver_id, energy_wh=energy_wh, request_id=request_id)
        return await self._ask("POST", f"/v1/charge-points/{_segment(cp_id)}/start", Started, order)

    async def stop(self, session_id: UUID) -> Stopping:
        return await self._ask("POST", f"/v1/sessions/{session_id}/stop", Stopping)

    async def close(self, session_id: UUID) -> SessionRow:
        return await self._ask("POST", f"/v1/sessions/{session_id}/close", SessionRow)

    async def settle(self, number: int, bill: Bill, remark: str) -> ToSettleRow:
        order = SettleOrder(energy_wh=bill, remark=remark)
        return await self._ask("POST", f"/v1/to-settle/{number}", ToSettleRow, order)

    async def correct(self, session_id: UUID, bill: Bill, remark: str) -> SessionRow:
        order = SettleOrder(energy_wh=bill, remark=remark)
        return await self._ask("POST", f"/v1/sessions/{session_id}/settle", SessionRow, order)

    async def set_service(self, cp_id: str | None, out_of_service: bool) -> list[str]:
        path = "/v1/network/service" if cp_id is None else f"/v1/charge-points/{_segment(cp_id)}/service"
        changed = await self._ask("PUT", path, ServiceChanged, ServiceOrder(out_of_service=out_of_service))
        return changed.changed_cp_ids

    async def set_price(
        self, cp_id: str, price_per_kwh: Decimal | None, currency: str | None = None
    ) -> ChargePointNow:
        path = f"/v1/charge-points/{_segment(cp_id)}/price"
        if price_per_kwh is None:
            return await self._ask("DELETE", path, ChargePointNow)
        order = PriceOrder(price_per_kwh=price_per_kwh, currency=currency)
        return await self._ask("PUT", path, ChargePointNow, order)

    async def set_ceilings(self, cp_id: str | None, changes: Mapping[str, Any]) -> list[str]:
        path = "/v1/network/ceilings" if cp_id is None else f"/v1/charge-points/{_segment(cp_id)}/ceilings"
        order = CeilingsOrder(**order_of(CEILING_FIELDS, changes))
        return (await self._ask("PUT", path, CeilingsChanged, order)).changed_cp_ids

    async def set_driver(self, driver_id: str, changes: Mapping[str, Any]) -> DriverRow:
        order = LimitsOrder(**order_of(LIMIT_FIELDS, changes))
        return await self._ask("PUT", f"/v1/drivers/{_segment(driver_id)}/limits", DriverRow, order)

    async def add_charge_point(self, cp_id: str, ceilings: Mapping[str, Any] = NO_CHANGES) -> ChargePointKey:
        order = NewChargePoint(cp_id=cp_id, **order_of(CEILING_FIELDS, ceilings))
        return await self._ask("POST", "/v1/charge-points", ChargePointKey, order)

    async def remove_charge_point(self, cp_id: str) -> None:
        await self._send("DELETE", f"/v1/charge-points/{_segment(cp_id)}", None, {})

    async def add_driver(self, driver_id: str, settings: Mapping[str, Any] = NO_CHANGES) -> DriverKey:
        order = NewDriver(driver_id=driver_id, **order_of(LIMIT_FIELDS, settings))
        return await self._ask("POST", "/v1/drivers", DriverKey, order)

    async def remove_driver(self, driver_id: str) -> None:
        await self._send("DELETE", f"/v1/drivers/{_segment(driver_id)}", None, {})

    # How

    async def _get(self, path: str, answer: type[T], **query: Any) -> T:
        response = await self._send("GET", path, None, query)
        return _decoded(response.status_code, response.content, answer)

    async def _ask(self, method: str, path: str, answer: type[T], order: msgspec.Struct | None = None) -> T:
        response = await self._send(method, path, order, {})
        return _decoded(response.status_code, response.content, answer)

    async def _send(
        self, method: str, path: str, order: msgspec.Struct | None, query: Mapping[str, Any]
    ) -> httpx.Response:
        content = msgspec.json.encode(order) if order is not None else None
        headers = {"Content-Type": "application/json"} if order is not None else {}
        try:
            response = await self._http.request(
                method, path, content=content, headers=headers, params=_stated(query)
            )
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None
        unwell = path == "/healthz" and response.status_code == UNWELL
        if not (response.is_success or unwell):
            raise _refusal(response.status_code, response.content)
        return response

    @asynccontextmanager
    async def _stream(self, path: str, silence_s: float, **query: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(
                "GET", path, params=_stated(query), timeout=httpx.Timeout(TIMEOUT_S, read=silence_s)
            ) as response:
                if not response.is_success:
                    raise _refusal(response.status_code, await response.aread())
                yield response
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None

    def _unreachable(self, problem: httpx.HTTPError) -> CentralUnreachable:
        cause = str(problem) or type(problem).__name__
        advice = "does it run there, with that --http?"
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            advice = "give --tls-ca who has signed its certificate"
        elif isinstance(problem, httpx.RemoteProtocolError) and self.url.startswith("http:"):
            advice = "perhaps it speaks HTTPS"
        return CentralUnreachable(f"no Central answers at {self.url}: {cause.rstrip('.')}; {advice}")


def _segment(name: str) -> str:
    """One part of a path, whatever it holds: `..` is a name here, and no way up."""
    return quote(name, safe="").replace(".", "%2E")


def _query(wanted: SessionFilter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__struct_fields__}


def _stated(query: Mapping[str, Any]) -> dict[str, str]:
    built: dict[str, Any] = {name: msgspec.to_builtins(value) for name, value in query.items()}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in built.items()}
    return {name: text for name, text in texts.items() if built[name] is not None}


def _decoded(status_code: int, content: bytes, kind: type[T]) -> T:
    """Raises `Refused` for what Central cannot have said: a proxy's page, say."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(f"what answers there is no Central that this evcharge knows: HTTP {status_code}") from None


def _refusal(status_code: int, content: bytes) -> Refused:
    try:
        problem = _decoded(status_code, content, Problem)
    except Refused as strange:
        return strange
    return Refused(one_line(f"{problem.reason} ({problem.code})"))

"""The program Monitor: a `Relay` between two links that reconnect by themselves."""

import asyncio
import ssl

from structlog.typing import FilteringBoundLogger

from evcharge.clock import Attention
from evcharge.errors import ReconnectRequested
from evcharge.monitor.actions import (
    Action,
    CentralSettled,
    DropCentral,
    DropEngine,
    EngineSettled,
    GiveWay,
    HoldBackCentral,
    Note,
    ToCentral,
    ToEngine,
)
from evcharge.monitor.config import MonitorConfig
from evcharge.monitor.giving_way import GivingWay
from evcharge.monitor.relay import Relay
from evcharge.transport.tcp import Address, Backoff, ConnectionManager
from evcharge.transport.trace import Trace

ENGINE_HEAD_START_S = 2.0


class Monitor:
    def __init__(
        self,
        config: MonitorConfig,
        central: Address,
        engine: Address,
        backoff: Backoff,
        log: FilteringBoundLogger,
        trace: Trace | None,
        attention: Attention,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`attention` is kept by the caller, who may have many Monitors. `tls` is for the link to Central."""
        self._log = log
        self.now = attention.now
        self.relay = Relay(config, self.now())
        self._giving_way = GivingWay(backoff.longest_s)
        self._engine_ready = asyncio.Event()
        self._wake = asyncio.Event()
        relay, now = self.relay, self.now
        self.central = ConnectionManager(
            "Central",
            central,
            on_open=lambda: self.do(relay.central_opened(now())),
            on_message=lambda message: self.do(relay.central_received(message, now())),
            on_closed=lambda reason: self.do(relay.central_closed(reason, now())),
            on_failed_attempt=lambda reason: self.do(relay.central_unreachable(reason, now())),
            backoff=backoff,
            trace=trace,
            log=log,
            now_s=lambda: now().monotonic_s,
            tls=tls,
        )
        self.engine = ConnectionManager(
            "Engine",
            engine,
            on_open=lambda: self.do(relay.engine_opened(now())),
            on_message=lambda message: self.do(relay.engine_received(message, now())),
            on_closed=lambda reason: self.do(relay.engine_closed(reason, now())),
            on_failed_attempt=lambda reason: None,
            backoff=backoff,
            trace=trace,
            log=log,
            now_s=lambda: now().monotonic_s,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        tasks = [
            asyncio.create_task(self.engine.run()),
            asyncio.create_task(self._connect_central()),
            asyncio.create_task(self._keep_time()),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in [stopped, *tasks]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.central.drop()
            self.engine.drop()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def reconnect(self, links: list[ConnectionManager]) -> None:
        """Drop these links, and connect again at once."""
        for link in links:
            link.reconnect(ReconnectRequested(f"the Monitor was told to connect to {link.name} anew"))

    async def _connect_central(self) -> None:
        # The Engine first: so Central hears of a healthy charge point, not of a fault that heals at once.
        try:
            async with asyncio.timeout(ENGINE_HEAD_START_S):
                await self._engine_ready.wait()
        except TimeoutError:
            self._log.warning("engine_not_there_yet", address=str(self.engine.address))
        await self.central.run()

    async def _keep_time(self) -> None:
        while True:
            self._wake.clear()
            patience_s = max(0.0, self.relay.next_due_s() - self.now().monotonic_s)
            try:
                async with asyncio.timeout(patience_s if patience_s != float("inf") else None):
                    await self._wake.wait()
            except TimeoutError:
                self.do(self.relay.tick(self.now()))

    def _give_way(self) -> None:
        wait_s = self._giving_way.wait_s(self.now().monotonic_s)
        self._log.warning("gives_way", cp_id=self.relay.config.cp_id, wait_s=round(wait_s))
        self.engine.stay_away(wait_s)
        self.central.stay_away(wait_s + min(ENGINE_HEAD_START_S, wait_s / 10))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case ToCentral(message):
                    self.central.send(message)
                case ToEngine(message):
                    self.engine.send(message)
                case DropCentral(error):
                    self.central.drop(error)
                case DropEngine(error):
                    self.engine.drop(error)
                case CentralSettled():
                    self.central.settled()
                case HoldBackCentral():
                    self.central.hold_back()
                case EngineSettled():
                    self.engine.settled()
                    self._engine_ready.set()
                case GiveWay():
                    self._give_way()
                case Note(event, fields, problem):
                    (self._log.warning if problem else self._log.info)(event, **fields)
        self._wake.set()

"""Many charge points in one process: a Monitor and an Engine each, with their real sockets."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from evcharge.children import first_of
from evcharge.clock import Attention
from evcharge.domain.battery import Battery
from evcharge.engine.charger import ChargerConfig
from evcharge.engine.service import Engine, EngineConfig, RecordSink
from evcharge.errors import UsageError
from evcharge.monitor.config import MonitorConfig
from evcharge.monitor.service import Monitor
from evcharge.protocol.messages import is_id
from evcharge.transport.tcp import Address, Backoff
from evcharge.transport.trace import Trace


@dataclass(frozen=True, slots=True)
class FleetConfig:
    central: Address
    journal: Path
    price_per_kwh: Decimal
    currency: str
    max_power_w: int
    vehicle: Battery
    time_scale: float
    powers_w: Mapping[str, int] = field(default_factory=dict)
    """Of the charge points that have another `max_power_w`."""
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    backoff: Backoff = field(default_factory=Backoff)
    reading_interval_s: float = 1.0
    heartbeat_interval_s: float = 30.0
    health_interval_s: float = 30.0
    health_timeout_s: float = 90.0
    tls: ssl.SSLContext | None = None


class Fleet:
    """`engines` are there from the start; they listen once `run` has started them."""

    def __init__(
        self,
        cp_ids: Iterable[str],
        config: FleetConfig,
        kafka: RecordSink,
        log: FilteringBoundLogger,
        trace: Trace | None,
    ) -> None:
        self._config = config
        self._log = log
        self._trace = trace
        self._attention = Attention()
        self.engines = {
            cp_id: Engine(self._engine_config(cp_id), kafka, log.bind(cp_id=cp_id, part="engine"), trace)
            for cp_id in cp_ids
        }

    def _engine_config(self, cp_id: str) -> EngineConfig:
        config = self._config
        charger = ChargerConfig(
            max_power_w=self._max_power_w(cp_id),
            vehicle=config.vehicle,
            time_scale=config.time_scale,
            reading_interval_s=config.reading_interval_s,
        )
        return EngineConfig(host="127.0.0.1", port=0, journal=config.journal, charger=charger)

    def _max_power_w(self, cp_id: str) -> int:
        return self._config.powers_w.get(cp_id, self._config.max_power_w)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; raises what the first charge point that fails raises."""
        await first_of(self._run_charge_points(stop), self._attention.keep())

    async def _run_charge_points(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            for cp_id, engine in self.engines.items():
                tasks.create_task(self._run_charge_point(cp_id, engine, stop))

    async def _run_charge_point(self, cp_id: str, engine: Engine, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        listening: asyncio.Future[int] = loop.create_future()
        engine_stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.run(engine_stop, listening.set_result))
            port = await listening
            config = self._config
            monitor = Monitor(
                MonitorConfig(
                    cp_id=cp_id,
                    key=config.keys.get(cp_id, ""),
                    location=cp_id,
                    price_per_kwh=config.price_per_kwh,
                    currency=config.currency,
                    max_power_w=self._max_power_w(cp_id),
                    heartbeat_interval_s=config.heartbeat_interval_s,
                    health_interval_s=config.health_interval_s,
                    health_timeout_s=config.health_timeout_s,
                ),
                config.central,
                Address("127.0.0.1", port),
                config.backoff,
                self._log.bind(cp_id=cp_id, part="monitor"),
                self._trace,
                self._attention,
                config.tls,
            )
            # The Monitor first, or it would report as a fault that its Engine goes.
            try:
                await monitor.run(stop)
            finally:
                engine_stop.set()


def fleet_ids(prefix: str, count: int) -> list[str]:
    """`CP001`, `CP002`, …; as many digits as the last one needs, at least three."""
    digits = max(3, len(str(count)))
    if not is_id(f"{prefix}{count:0{digits}d}"):
        raise UsageError(f"the prefix {prefix!a} is too long for ids of at most 64 characters")
    return [f"{prefix}{number:0{digits}d}" for number in range(1, count + 1)]

"""A small network to break: a Central, charge points and drivers as real processes, proxies on their wires."""

import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness import Program, World, eventually
from machine import Clock, SmallDisk
from proxy import Proxy
from records import ends, producer

from kafka_broker import Broker, free_port

HEARTBEAT_TIMEOUT_S = HEALTH_TIMEOUT_S = 2.0
RECONNECT_MAX_S = 1.0
DISKS = ("central-disk", "engine-disk")
CLOCKS = ("central-clock", "monitor-clock", "engine-clock", "driver-clock")
TIME_SCALE = 60
"""At 11 kW a kWh takes about 5 s."""
MAY_START_S = 20.0
CROWD_MAY_START_S = 90.0

CENTRAL = (
    *("--heartbeat-timeout", f"{HEARTBEAT_TIMEOUT_S:g}", "--registration-timeout", "3", "--start-timeout", "3"),
    *("--meter-value-interval", "0.5", "--time-scale", f"{TIME_SCALE}"),
)
CENTRAL_OF_A_CROWD = ("--heartbeat-timeout", "15", "--time-scale", f"{TIME_SCALE}")
MONITOR = (
    *("--heartbeat-interval", "0.5", "--health-interval", "0.5", "--health-timeout", f"{HEALTH_TIMEOUT_S:g}"),
    *("--reconnect-min", "0.1", "--reconnect-max", f"{RECONNECT_MAX_S:g}"),
)
FLEET = (
    *("--heartbeat-interval", "5", "--reconnect-min", "0.2", "--reconnect-max", "3"),
    *("--time-scale", f"{TIME_SCALE}", "--data-interval", "1"),
)
ENGINE = ("--time-scale", f"{TIME_SCALE}", "--data-interval", "0.1", "--repeat-interval", "1")


class Kafka:
    """A broker with a way of its own, through a proxy, for each kind of client."""

    CLIENTS = ("central", "engine", "driver")

    def __init__(self, folder: Path) -> None:
        ports = {client: (free_port(), free_port()) for client in self.CLIENTS}
        self.broker = Broker(folder, free_port(), ways={name.upper(): way for name, way in ports.items()})
        self.broker.start()
        self.proxies = {client: Proxy(target, port) for client, (target, port) in ports.items()}

    def address(self, client: str, by_proxy: bool) -> str:
        return f"127.0.0.1:{self.proxies[client].port}" if by_proxy else self.broker.bootstrap

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()
        self.broker.start()

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()
        self.broker.kill()


@dataclass
class ChargePoint:
    cp_id: str
    engine_port: int
    to_engine: Proxy
    to_central: Proxy

    @property
    def engine(self) -> str:
        return f"engine-{self.cp_id}"

    @property
    def monitor(self) -> str:
        return f"monitor-{self.cp_id}"


@dataclass
class Network:
    """`kafka` is shared by many runs, so all ids of a run begin with its `name`."""

    name: str
    folder: Path
    kafka: Kafka
    hits: frozenset[str] = frozenset()
    """What will be broken. Only that has a proxy, a small disk or a clock of its own; all else is as in life."""
    central_options: tuple[str, ...] = CENTRAL
    power_cuts: list[tuple[str, datetime]] = field(default_factory=list)
    unkept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.world = World(self.folder, self.kafka.broker.bootstrap)
        self.central_port = free_port()
        self.running: dict[str, Program] = {}
        self.drivers: list[Program] = []
        self.charge_points: list[ChargePoint] = []
        self.cp_ids: list[str] = []
        self.meters: list[str] = []
        """The traces of those who meter."""
        self.hand = producer(self.kafka.broker.bootstrap)
        """For what the test itself says."""
        self.begun = ends(self.kafka.broker.bootstrap)
        self.disks = {name: SmallDisk(self.folder / name) for name in DISKS if name in self.hits}
        self.clocks = {name: Clock(self.folder / name) for name in CLOCKS if name in self.hits}
        self.database = self.folder / "central-disk" / "evcharge.db"
        self.journals = self.folder / "engine-disk" / "journal"
        for path in (self.database, self.journals):
            path.parent.mkdir(exist_ok=True)

    def start(self, charge_points: int) -> None:
        """Central, and each charge point as two programs."""
        self.token = self._token()
        self.start_program("central")
        for number in range(1, charge_points + 1):
            engine_port = free_port()
            self.charge_points.append(
                ChargePoint(
                    f"{self.name}-CP{number}",
                    engine_port,
                    Proxy(engine_port, free_port()),
                    Proxy(self.central_port, free_port()),
                )
            )
        for cp in self.charge_points:
            self.cp_ids.append(cp.cp_id)
            self.meters.append(f"{cp.engine}.trace")
            self.start_program(cp.engine)
            self.start_program(cp.monitor)
        self.until(self.all_active, "all charge points are there")

    def start_crowd(self, charge_points: int) -> None:
        """Central, and all charge points in one program."""
        self.token = self._token()
        self.start_program("central")
        digits = max(3, len(str(charge_points)))
        self.cp_ids = [f"{self.name}-CP{number:0{digits}d}" for number in range(1, charge_points + 1)]
        self.meters = ["fleet.trace"]
        self.running["fleet"] = self.world.start(
            "fleet",
            *("fleet", "--count", str(charge_points), "--prefix", f"{self.name}-CP"),
            *("--central", f"127.0.0.1:{self.central_port}", "--kafka", self.kafka.broker.bootstrap),
            *("--journal", str(self.journals), "--trace", "fleet.trace", *FLEET),
        )
        self.until(self.all_active, "all charge points are there", CROWD_MAY_START_S)

    def _token(self) -> str:
        adds = ("token", "add", "checker", "--role", "viewer", "--db", str(self.database))
        program = self.world.start("token", *adds)
        assert program.wait() == 0, program.log
        return program.output.strip()

    def start_program(self, name: str) -> None:
        """Start Central, an Engine or a Monitor, for the first time or again."""
        kind, _, cp_id = name.partition("-")
        program = getattr(self, f"_{kind}")(*([self.charge_point(cp_id)] if cp_id else []))
        self.running[name] = program

    def _central(self) -> Program:
        program = self.world.start(
            "central",
            *("central", "--host", "127.0.0.1", "--port", str(self.central_port), "--db", str(self.database)),
            *("--kafka", self._kafka_address("central"), "--trace", "central.trace", "--open-registration"),
            *("--http", "127.0.0.1:0", "--http-port-file", "central.http", *self.central_options),
            env=self._env("central"),
        )
        assert program.http_port
        return program

    def _engine(self, cp: ChargePoint) -> Program:
        return self.world.start(
            cp.engine,
            *("engine", "--port", str(cp.engine_port), "--kafka", self._kafka_address("engine")),
            *("--journal", str(self.journals), "--trace", f"{cp.engine}.trace", *ENGINE),
            env=self._env("engine"),
        )

    def _monitor(self, cp: ChargePoint) -> Program:
        return self.world.start(
            cp.monitor,
            *("monitor", cp.cp_id, "--engine", f"127.0.0.1:{self._port('monitor-engine', cp.to_engine)}"),
            *(
                "--central",
                f"127.0.0.1:{self._port('monitor-central', cp.to_central)}",
                "--trace",
                f"{cp.monitor}.trace",
                *MONITOR,
            ),
            env=self._env("monitor"),
        )

    def _env(self, kind: str) -> dict[str, str]:
        clock = self.clocks.get(f"{kind}-clock")
        return clock.env if clock is not None else {}

    def _kafka_address(self, client: str) -> str:
        return self.kafka.address(client, by_proxy=f"{client}-kafka" in self.hits)

    def _port(self, wire: str, proxy: Proxy) -> int:
        return proxy.port if wire in self.hits else proxy.target_port

    def start_driver(self, name: str, wishes: list[tuple[str, float]]) -> Program:
        """A driver who charges at one charge point after the other."""
        driver_id = f"{self.name}-{name}"
        (self.folder / f"{driver_id}.wishes").write_text("".join(f"{cp_id} {kwh}\n" for cp_id, kwh in wishes))
        program = self.world.start(
            f"driver-{name}",
            *("driver", driver_id, "--file", f"{driver_id}.wishes", "--json"),
            *("--kafka", self._kafka_address("driver"), "--trace", f"driver-{name}.trace", "--log-level", "info"),
            env=self._env("driver"),
        )
        self.drivers.append(program)
        return program

    def charge_point(self, cp_id: str) -> ChargePoint:
        return next(cp for cp in self.charge_points if cp.cp_id == cp_id)

    def programs(self, kind: str) -> list[str]:
        """The names of the programs of this kind that run."""
        return [name for name in self.running if name.partition("-")[0] == kind]

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()
        kind, _, cp_id = name.partition("-")
        if kind == "engine" and "engine-clock" not in self.hits:
            self.power_cuts.append((cp_id, datetime.now(UTC)))

    def until(self, look: Callable[[], object], what: str, deadline_s: float = MAY_START_S) -> None:
        eventually(look, what, deadline_s)

    def all_active(self) -> bool:
        rows = self.rows("SELECT count(*) FROM charge_points WHERE status = 'ACTIVE'")
        return bool(rows) and rows[0][0] == len(self.cp_ids)

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What Central has committed."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError:  # full, or locked: ask again
                return []

    def status(self, cp_id: str) -> str | None:
        rows = self.rows("SELECT status FROM charge_points WHERE cp_id = ?", cp_id)
        return rows[0]["status"] if rows else None

    def is_charging(self) -> bool:
        return bool(self.rows("SELECT 1 FROM sessions WHERE status = 'charging' AND energy_wh > 0"))

    def drivers_are_done(self) -> bool:
        return all(program.process.poll() is not None for program in self.drivers)

    def is_settled(self) -> bool:
        """Whether nothing is open any more, and all is known to all."""
        open_ends = "SELECT count(*) FROM sessions WHERE ended_at IS NULL OR receipt_sent < revision"
        counted = self.rows(open_ends)
        return (
            self.all_active() and bool(counted) and counted[0][0] == 0 and not list(self.journals.rglob("*.jsonl"))
        )

    def heal(self) -> None:
        """Whatever a break that failed has left."""
        self.kafka.heal()
        for disk in self.disks.values():
            disk.make_room()
        for cp in self.charge_points:
            cp.to_engine.heal()
            cp.to_central.heal()
        for program in [*self.running.values(), *self.drivers]:
            if program.process.poll() is None:
                program.signal(signal.SIGCONT)

    def stop(self) -> None:
        self.hand.flush(5)
        self.world.stop()
        for cp in self.charge_points:
            cp.to_engine.close()
            cp.to_central.close()
        for disk in self.disks.values():
            disk.close()


def wait_until(at_s: float) -> None:
    """A break lasts; there is no condition to wait for."""
    time.sleep(max(0.0, at_s - time.monotonic()))


def some_wishes(network: Network, rng: random.Random, count: int) -> list[tuple[str, float]]:
    """Charges of one to six seconds, at charge points in random order."""
    return [(rng.choice(network.charge_points).cp_id, round(rng.uniform(0.2, 1.2), 3)) for _ in range(count)]

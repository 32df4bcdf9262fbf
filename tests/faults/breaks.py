"""What can be broken: one table. Each break does its harm and returns how to heal it."""

import random
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from network import CLOCKS, DISKS, HEALTH_TIMEOUT_S, HEARTBEAT_TIMEOUT_S, ChargePoint, Kafka, Network
from proxy import Carrier, Delayed, Lossy, Proxy, Shuffled, Trickle, Twice
from records import say_again

Heal = Callable[[], None]
HOUR_S = 3600
SLACK_S = 1.0
"""What a busy machine of two cores may add to a promised time."""


@dataclass(frozen=True)
class Shows:
    """What Central's database must show of the charge point that was hit, and how soon."""

    status: str
    within_s: float


@dataclass(frozen=True)
class Break:
    """Two breaks that hit the same are not done together."""

    name: str
    hits: str
    strike: Callable[[Network, ChargePoint, random.Random], Heal]
    lasts_s: tuple[float, float] = (0.5, 4.0)
    shows: Shows | None = None
    long: bool = False
    """Takes a minute or more: in the long version alone."""


AT_ONCE = 1.0 + SLACK_S
LONGER_THAN_A_TIMEOUT = (HEARTBEAT_TIMEOUT_S + 2 * SLACK_S, HEARTBEAT_TIMEOUT_S + 4 * SLACK_S)


def _name(kind: str, cp: ChargePoint) -> str:
    return kind if kind == "central" else f"{kind}-{cp.cp_id}"


def _kill(kind: str) -> Callable[[Network, ChargePoint, random.Random], Heal]:
    def strike(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
        name = _name(kind, cp)
        network.kill(name)
        return lambda: network.start_program(name)

    return strike


def _freeze(kind: str) -> Callable[[Network, ChargePoint, random.Random], Heal]:
    def strike(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
        program = network.running[_name(kind, cp)]
        program.signal(signal.SIGSTOP)
        return lambda: program.signal(signal.SIGCONT)

    return strike


def _kill_driver(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    rng.choice(network.drivers).kill()
    return lambda: None


def _freeze_driver(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    program = rng.choice(network.drivers)
    program.signal(signal.SIGSTOP)
    return lambda: program.signal(signal.SIGCONT)


def _kill_broker(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    network.kafka.broker.kill()
    return network.kafka.broker.start


def _freeze_broker(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    broker = network.kafka.broker
    broker.send(signal.SIGSTOP)
    return lambda: broker.send(signal.SIGCONT)


def _fill(disk: str) -> Callable[[Network, ChargePoint, random.Random], Heal]:
    def strike(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
        if disk == "engine-disk":
            network.unkept.update(each.cp_id for each in network.charge_points)
        network.disks[disk].fill()
        return network.disks[disk].make_room

    return strike


def _lock_database(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    connection = sqlite3.connect(network.database, timeout=10, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection.close


def _set_clock(clock: str, ahead_s: int) -> Callable[[Network, ChargePoint, random.Random], Heal]:
    def strike(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
        network.clocks[clock].set(ahead_s)
        return lambda: network.clocks[clock].set(0)

    return strike


def _say_again(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
    def again() -> None:
        say_again(network.kafka.broker.bootstrap, network.begun, network.name, rng)

    again()
    return again


WIRES: dict[str, Callable[[Network, ChargePoint], Proxy]] = {
    "monitor-central": lambda network, cp: cp.to_central,
    "monitor-engine": lambda network, cp: cp.to_engine,
    **{
        f"{client}-kafka": lambda network, cp, client=client: network.kafka.proxies[client]  # type: ignore[misc]
        for client in Kafka.CLIENTS
    },
}


def _harm(wire: str, harm: Callable[[Proxy], None]) -> Callable[[Network, ChargePoint, random.Random], Heal]:
    def strike(network: Network, cp: ChargePoint, rng: random.Random) -> Heal:
        proxy = WIRES[wire](network, cp)
        harm(proxy)
        return proxy.heal

    return strike


def _as(way: type[Carrier]) -> Callable[[Proxy], None]:
    return lambda proxy: proxy.carry_as(way)


HARMS: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.reset,
    "reset": Proxy.reset_once,
    "half-open": Proxy.open_half,
    "stall": Proxy.stall,
    "delay": _as(Delayed),
    "loss": _as(Lossy),
    "trickle": _as(Trickle),
}
ON_LINES: dict[str, Callable[[Proxy], None]] = {"twice": _as(Twice), "shuffle": _as(Shuffled)}

BREAKS = {
    this.name: this
    for this in (
        Break("kill-central", "central", _kill("central")),
        Break("kill-monitor", "monitor", _kill("monitor"), (2.5, 4.0), Shows("DISCONNECTED", AT_ONCE)),
        Break("kill-engine", "engine", _kill("engine"), (2.5, 4.0), Shows("FAULTY", AT_ONCE)),
        Break("kill-driver", "driver", _kill_driver),
        Break("kill-broker", "kafka", _kill_broker),
        Break("freeze-central", "central", _freeze("central"), LONGER_THAN_A_TIMEOUT),
        Break(
            "freeze-monitor",
            "monitor",
            _freeze("monitor"),
            LONGER_THAN_A_TIMEOUT,
            Shows("DISCONNECTED", HEARTBEAT_TIMEOUT_S + SLACK_S),
        ),
        Break(
            "freeze-engine",
            "engine",
            _freeze("engine"),
            LONGER_THAN_A_TIMEOUT,
            Shows("FAULTY", HEALTH_TIMEOUT_S + SLACK_S),
        ),
        Break("freeze-driver", "driver", _freeze_driver),
        Break("freeze-broker", "kafka", _freeze_broker, LONGER_THAN_A_TIMEOUT),
        *(Break(f"{harm}-{wire}", wire, _harm(wire, do)) for wire in WIRES for harm, do in HARMS.items()),
        *(
            Break(f"{harm}-{wire}", wire, _harm(wire, do))
            for wire in ("monitor-central", "monitor-engine")
            for harm, do in ON_LINES.items()
        ),
        Break("say-again", "records", _say_again),
        *(Break(f"fill-{disk}", disk, _fill(disk)) for disk in DISKS),
        Break("lock-database", "central-disk", _lock_database),
        *(
            Break(f"{name}-{clock}", clock, _set_clock(clock, ahead_s))
            for clock in CLOCKS
            for name, ahead_s in (("advance", HOUR_S), ("turn-back", -HOUR_S))
        ),
        Break("kill-broker-for-two-minutes", "kafka", _kill_broker, (120.0, 120.0), long=True),
    )
}

"""What a Python user would start from, the package `ocpp`, beside Central: readings over sockets, heartbeats."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import readings
from dialects import What
from figures import Figure, Part, at_least, require
from ground import Ground, start_central
from measuring import processor_s
from prepared import with_sessions

GOAL = 20
WARM_UP_EACH = 5
HERE = Path(__file__).parent
UNLIMITED = ("--max-messages-per-second", "1000000")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message costs the one who serves, and what the crowd, in seconds of the processor; and the clock."""

    server_s: float
    crowd_s: float
    clock_s: float

    @property
    def a_core(self) -> float:
        """Messages a second of one core of the server's."""
        return 1 / self.server_s


@dataclass(frozen=True, slots=True)
class Crowd:
    process: "subprocess.Popen[str]"
    connections: int
    server_pid: int

    def send(self, what: What, each: int) -> Cost:
        """Each connection sends so many; returns when all have been handled."""
        total = self.connections * each
        used_s = processor_s(self.server_pid)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"what": what, "each": each}) + "\n")
        self.process.stdin.flush()
        took = self.heard()
        used_s = processor_s(self.server_pid) - used_s
        return Cost(used_s / total, took["processor_s"] / total, took["seconds"] / total)

    def heard(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        require(bool(line), "the crowd of charge points has failed: not all were answered as they should be")
        found: dict[str, float] = json.loads(line)
        return found


@contextmanager
def crowd(dialect: str, port: int, connections: int, server_pid: int) -> Iterator[Crowd]:
    """Charge points that have registered, and warmed the server up."""
    arguments = [sys.executable, str(HERE / "socket_crowd.py"), dialect, str(port), str(connections)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        found = Crowd(process, connections, server_pid)
        found.heard()
        found.send("readings", WARM_UP_EACH)
        yield found
    finally:
        process.kill()
        process.communicate()


def measure_peer(connections: int, each: int, *options: str) -> tuple[Cost, Cost]:
    """A reading and a heartbeat at the central system of the package `ocpp`."""
    arguments = [sys.executable, str(HERE / "ocpp_central.py"), *options]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with crowd("ocpp", port, connections, process.pid) as charge_points:
            found = charge_points.send("readings", each), charge_points.send("heartbeats", each)
            process.kill()  # Before the crowd goes, of which it would complain.
    finally:
        process.kill()
        process.communicate()
    return found


def measure_ours(ground: Ground, connections: int, each: int) -> tuple[Cost, Cost]:
    """The same at Central, whose database then has the energy of the last readings."""
    world = ground.network("peer")
    with_sessions(world.folder / "evcharge.db", connections, datetime.now(UTC))
    central = start_central(world, *UNLIMITED)
    try:
        with crowd("evcharge", central.port, connections, central.process.pid) as charge_points:
            found = charge_points.send("readings", each), charge_points.send("heartbeats", each)
            readings.check_books(world, connections, WARM_UP_EACH + each)
    finally:
        world.stop()
    return found


def measure(ground: Ground) -> Part:
    connections = 200 if ground.quick else 1000
    peer_each, ours_each, kafka_each = (20, 100, 100) if ground.quick else (40, 400, 400)
    peer, peer_heartbeat = measure_peer(connections, peer_each)
    unchecked, unchecked_heartbeat = measure_peer(connections, peer_each, "--skip-schema-validation")
    ours, heartbeat = measure_ours(ground, connections, ours_each)
    _, used_s, _ = readings.measure_central(ground, connections, kafka_each)
    kafka_a_core = connections * kafka_each / used_s

    def beside(what: str, ours_a_core: float, peer_cost: Cost, *goals: str) -> Figure:
        ratio = ours_a_core / peer_cost.a_core
        return Figure(what, "1/s", ours_a_core, peer_cost.a_core, [at_least(GOAL, ratio, text) for text in goals])

    goal = f"at least {GOAL} times the peer"
    costs = {
        "the peer": peer,
        "the peer without schemas": unchecked,
        "Central": ours,
        "the peer's heartbeat": peer_heartbeat,
        "Central's heartbeat": heartbeat,
    }
    return Part(
        "peer",
        "Readings beside the package ocpp",
        "a central system on the Python package `ocpp` (OCPP 1.6, on `websockets`) as its documentation begins"
        " one, with its schema validation; it answers each MeterValues and stores nothing",
        [
            beside(
                f"readings over sockets a second of one core, {connections:,} connections", ours.a_core, peer, goal
            ),
            beside("the same, the peer without schema validation", ours.a_core, unchecked),
            beside(
                f"readings from Kafka a second of one core, {connections:,} sessions", kafka_a_core, peer, goal
            ),
            beside("heartbeats a second of one core", heartbeat.a_core, peer_heartbeat),
            beside("the same, the peer without schema validation", heartbeat.a_core, unchecked_heartbeat),
        ],
        [
            "the peer has answered each MeterValues and each Heartbeat with a CALLRESULT",
            "at Central each session has the energy and the number of its last reading, and each 15th is stored",
        ],
        [
            "a message of each connection in turn, at most 4 rounds ahead of the answers; a reading has energy,"
            " power and state of charge in both",
            "Central's limit of 100 messages a second for one connection is raised for this by"
            " --max-messages-per-second; the peer has none",
            "microseconds of the processor a message, of the server and of the crowd beside it: "
            + "; ".join(f"{name} {c.server_s * 1e6:.0f} and {c.crowd_s * 1e6:.0f}" for name, c in costs.items()),
        ],
    )

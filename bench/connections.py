"""What connections cost Central: memory, processor time of heartbeats, and the time until all are back."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Producer
from harness import World, eventually

from crowds import Crowd, crowd_of
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargeRequest, new_id
from evcharge.protocol.topics import Topic
from figures import Chart, Figure, Goal, Part, at_most, require
from ground import Ground, start_central
from kafka_broker import free_port
from measuring import memory_bytes, processor_s
from prepared import cp_ids

SHARE_CHARGING = 10
"""One in so many."""
HEARTBEAT_S = 30.0
HEARTBEATS_A_SECOND = 1_000
"""While their cost is measured, however many connections there are: else few would share the cost of the clock."""
WARM_UP = 20
DEADLINE_S = 120.0
MB = 1_000_000

MOST_IN_ALL_MB = 400
MOST_OF_ECHO = 1.5
MOST_BACK_S = 20
MOST_GROWTH = 1.2


@dataclass(frozen=True, slots=True)
class Back:
    """All are back, after a kill: so long since it, and since somebody listens again."""

    since_kill_s: float
    since_listening_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    connections: int
    bytes_each: float
    bytes_in_all: int
    s_a_heartbeat: float
    back: Back
    load_charging: float = 0.0
    """Of one processor, while a tenth of them charge; and what is held in memory then."""
    bytes_charging: int = 0


@dataclass
class Server:
    """Central or the echo server, on one port; `start` gives the process id once it listens."""

    start: Callable[[], int]
    kill: Callable[[], None]
    port: int
    pid: int = 0

    def restart(self, crowd: Crowd) -> Back:
        """Kill it, start it at once, and wait until all are back."""
        before = crowd.report
        killed_ns = time.monotonic_ns()
        self.kill()
        self.pid = self.start()
        listening_ns = time.monotonic_ns()
        report = crowd.until(
            lambda report: (
                report.registered == report.count and report.registrations >= before.registrations + report.count
            ),
            "all are back",
            DEADLINE_S,
        )
        back_ns = report.last_registered_ns
        return Back((back_ns - killed_ns) / 1e9, (back_ns - listening_ns) / 1e9, processor_s(self.pid))


@contextmanager
def central(world: World) -> Iterator[Server]:
    port = free_port()

    def start() -> int:
        program = start_central(world, "--port", str(port))
        return program.process.pid

    def kill() -> None:
        world.programs[-1].kill()

    try:
        server = Server(start, kill, port)
        server.pid = server.start()
        yield server
    finally:
        world.stop()


@contextmanager
def echo_server(folder: Path) -> Iterator[Server]:
    port, port_file = free_port(), folder / "echo.port"
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        port_file.unlink(missing_ok=True)
        script = Path(__file__).with_name("echo_server.py")
        processes.append(subprocess.Popen([sys.executable, str(script), str(port), str(port_file)]))
        eventually(port_file.exists, "the echo server listens")
        return processes[-1].pid

    def kill() -> None:
        processes[-1].kill()
        processes[-1].wait()

    try:
        server = Server(start, kill, port)
        server.pid = server.start()
        yield server
    finally:
        kill()


def warm_up(server: Server, kafka: str, echo: bool) -> int:
    """Let it do once what it will do; then the bytes that it holds with no connection."""
    with crowd_of(WARM_UP, server.port, kafka, heartbeat_s=0.5, echo=echo) as crowd:
        crowd.until_registered()
        crowd.until(lambda report: report.heartbeats_answered >= 5 * WARM_UP, "they beat", DEADLINE_S)
    return memory_bytes(server.pid)


def heartbeat_s(server: Server, crowd: Crowd, seconds: float) -> float:
    """The seconds of the processor that one takes."""
    crowd.beat_every(crowd.report.count / HEARTBEATS_A_SECOND)
    each_s = seconds / 4
    until_some = crowd.report.heartbeats_answered + int(each_s * HEARTBEATS_A_SECOND)
    begun = crowd.until(lambda report: report.heartbeats_answered >= until_some, "they beat", DEADLINE_S)
    used_s = processor_s(server.pid)
    until_enough = begun.heartbeats_answered + int(seconds * HEARTBEATS_A_SECOND)
    ended = crowd.until(lambda report: report.heartbeats_answered >= until_enough, "they beat on", DEADLINE_S)
    used_s = processor_s(server.pid) - used_s
    return used_s / (ended.heartbeats_answered - begun.heartbeats_answered)


def ask_for_charges(kafka: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka, "acks": "all"})
    for cp_id in cp_ids(count):
        request = ChargeRequest(
            message_id=new_id(), timestamp=datetime.now(UTC), driver_id=f"D-{cp_id}", cp_id=cp_id
        )
        producer.produce(Topic.CHARGE_REQUESTS, messages.encode(request), cp_id)
    require(producer.flush(DEADLINE_S) == 0, "charge requests were not delivered")


def energies(world: World) -> dict[str, int]:
    """Session id -> Wh so far, of those that charge."""
    rows = world.rows("SELECT session_id, energy_wh FROM sessions WHERE status = 'charging'")
    return {row["session_id"]: row["energy_wh"] for row in rows}


def measure_central(ground: Ground, count: int, seconds: float) -> Cost:
    world = ground.network(f"connections-{count}")
    with central(world) as server:
        empty_bytes = warm_up(server, ground.kafka, echo=False)
        with crowd_of(count, server.port, ground.kafka) as crowd:
            crowd.until_registered(DEADLINE_S)
            each_s = heartbeat_s(server, crowd, seconds)
            beating_bytes = memory_bytes(server.pid)
            crowd.beat_every(HEARTBEAT_S)
            charging = count // SHARE_CHARGING
            ask_for_charges(ground.kafka, charging)
            crowd.until(lambda report: report.charging == charging, "they charge", DEADLINE_S)
            eventually(lambda: len(energies(world)) == charging, "they charge, says the database", DEADLINE_S)
            begun_s, used_s = time.monotonic(), processor_s(server.pid)
            time.sleep(seconds)
            load = (processor_s(server.pid) - used_s) / (time.monotonic() - begun_s)
            charging_bytes = memory_bytes(server.pid)
            before = energies(world)
            back = server.restart(crowd)
            check_all_there(world, crowd, count, before)
    return Cost(
        count,
        (beating_bytes - empty_bytes) / count,
        beating_bytes,
        each_s,
        back,
        load,
        charging_bytes,
    )


def check_all_there(world: World, crowd: Crowd, count: int, before: dict[str, int]) -> None:
    """Nobody is lost, and the same sessions go on."""

    def go_on() -> bool:
        now = energies(world)
        return now.keys() == before.keys() and all(now[of] > before[of] for of in before)

    eventually(go_on, "the same sessions go on, and their energy rises", DEADLINE_S)
    expected = {"ACTIVE": count - len(before), "CHARGING": len(before)}

    def settled() -> bool:
        states = world.rows("SELECT status, count(*) AS n FROM charge_points GROUP BY status")
        return {row["status"]: row["n"] for row in states} == expected

    # The account that follows a registration shows that the charge still runs.
    eventually(settled, f"the charge points are {expected}", DEADLINE_S)
    sessions = world.rows("SELECT count(*) AS n FROM sessions")[0]["n"]
    require(sessions == len(before), f"there are {sessions} sessions, not {len(before)}")
    report = crowd.report
    require(report.registered == count, f"{count - report.registered} charge points are lost")
    require(not report.errors and not report.undelivered, f"charge points were refused: {report}")


def measure_echo(ground: Ground, count: int, seconds: float) -> Cost:
    folder = ground.folder / f"echo-{count}"
    folder.mkdir()
    with echo_server(folder) as server:
        empty_bytes = warm_up(server, ground.kafka, echo=True)
        with crowd_of(count, server.port, ground.kafka, echo=True) as crowd:
            crowd.until_registered(DEADLINE_S)
            each_s = heartbeat_s(server, crowd, seconds)
            beating_bytes = memory_bytes(server.pid)
            crowd.beat_every(HEARTBEAT_S)
            back = server.restart(crowd)
    return Cost(count, (beating_bytes - empty_bytes) / count, beating_bytes, each_s, back)


def figures_of(ours: Cost, echo: Cost, first: Cost) -> list[Figure]:
    """`first` is ours with the fewest connections."""
    name = f"{ours.connections:,} connections"
    of_echo = ours.bytes_each / echo.bytes_each
    in_all_mb = max(ours.bytes_in_all, ours.bytes_charging) / MB
    return [
        Figure(
            f"memory a connection, {name}",
            "bytes",
            ours.bytes_each,
            echo.bytes_each,
            [
                at_most(MOST_OF_ECHO, of_echo, f"at most {MOST_OF_ECHO} times the echo server's"),
                *_linear(ours.bytes_each, first.bytes_each, ours, first),
            ],
        ),
        Figure(
            f"memory in all, {name}",
            "MB",
            in_all_mb,
            echo.bytes_in_all / MB,
            [at_most(MOST_IN_ALL_MB, in_all_mb, f"at most {MOST_IN_ALL_MB} MB")],
        ),
        Figure(
            f"processor time of a heartbeat, {name}",
            "µs",
            ours.s_a_heartbeat * 1e6,
            echo.s_a_heartbeat * 1e6,
            _linear(ours.s_a_heartbeat, first.s_a_heartbeat, ours, first),
        ),
        Figure(
            f"processor while a tenth charge, {name}",
            "% of one",
            ours.load_charging * 100,
            None,
            _linear(ours.load_charging / ours.connections, first.load_charging / first.connections, ours, first),
        ),
        Figure(
            f"all back after a kill, since it listens, {name}",
            "s",
            ours.back.since_listening_s,
            echo.back.since_listening_s,
            [at_most(MOST_BACK_S, ours.back.since_listening_s, f"within {MOST_BACK_S} s")],
        ),
        Figure(
            f"all back after a kill, since the kill, {name}",
            "s",
            ours.back.since_kill_s,
            echo.back.since_kill_s,
        ),
    ]


def _linear(value: float, first_value: float, ours: Cost, first: Cost) -> list[Goal]:
    """That it costs no more of each than with the fewest."""
    if ours is first:
        return []
    text = f"of each at most {MOST_GROWTH} times that with {first.connections:,}"
    return [at_most(MOST_GROWTH * first_value, value, text)]


def _chart(name: str, title: str, unit: str, costs: dict[str, list[Cost]], of: Callable[[Cost], float]) -> Chart:
    lines = {who: [(float(cost.connections), of(cost)) for cost in each] for who, each in costs.items()}
    return Chart(name, title, "connections", unit, lines)


def measure(ground: Ground) -> Part:
    counts, seconds = ((1_000,), 3.0) if ground.quick else ((1_000, 5_000, 10_000), 8.0)
    ours = [measure_central(ground, count, seconds) for count in counts]
    echo = [measure_echo(ground, count, seconds) for count in counts]
    costs = {"Central": ours, "echo server": echo}
    used = ", ".join(f"{cost.back.processor_s:.1f} s with {cost.connections:,}" for cost in ours)
    return Part(
        "connections",
        "Connections",
        "the echo server of asyncio's documentation (start_server with streams; on uvloop, as Central) with as"
        " many connections that send the same heartbeats and get them back",
        [figure for our, base in zip(ours, echo, strict=True) for figure in figures_of(our, base, ours[0])],
        [
            "no charge point is lost: after the restart all are registered, ACTIVE or CHARGING in the database",
            "the sessions that charged go on through the restart: the same ones, their energy rises, none ended",
            "nothing was refused, and Kafka took all that was sent",
        ],
        [
            "A connection's memory is what the server holds more than with none, after it has served"
            f" {WARM_UP}. It is taken after all have sent heartbeats, before any charge; the memory in all is with"
            " a tenth of them charging, if that is more.",
            f"The cost of a heartbeat is measured at {HEARTBEATS_A_SECOND:,} a second, whatever the number of"
            f" connections; else they beat every {HEARTBEAT_S:g} s. A tenth of them charge, with a reading a"
            " second over the link and by Kafka.",
            f"A killed server is started at once. From its start until all were back Central used {used} of the"
            " processor. Charge points wait 1 to 2 s before they try again, then 2 to 4 s, at most 30 s.",
        ],
        [
            _chart("memory", "Memory in all, after heartbeats", "MB", costs, lambda cost: cost.bytes_in_all / MB),
            _chart(
                "heartbeats",
                "Processor time of a heartbeat",
                "µs",
                costs,
                lambda cost: cost.s_a_heartbeat * 1e6,
            ),
            _chart(
                "back",
                "All are back after a kill",
                "seconds since the kill",
                costs,
                lambda cost: cost.back.since_kill_s,
            ),
        ],
    )

"""Whether it stays as it is: a constant load in which sessions begin and end, second by second."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from uuid import UUID

from harness import Program, World

from crowds import crowd_of
from evcharge.driver.service import Driver, DriverLink
from evcharge.logs import make_log
from evcharge.protocol.messages import ChargeCompletionResponse
from evcharge.transport.kafka_settings import KafkaAccess
from figures import Chart, Figure, Part, at_most, require
from ground import Ground, start_central
from measuring import memory_bytes, percentile, processor_s
from prepared import cp_ids

CHARGE_SHARE = 2 / 3
"""Of its time a charge point charges."""
HEARTBEAT_S = 5.0
SAMPLE_EVERY_S = 1.0
TIMEOUT_S = 30.0
MINUTE_S = 60.0
GOAL_MEMORY, GOAL_LATENCY = 1.05, 1.10
GOAL_SLOPE_PERCENT = 1.0
MIB = 2**20

Points = list[tuple[float, float]]
"""(seconds since the load began, value)"""


@dataclass(frozen=True, slots=True)
class Load:
    """Each of `points` drivers charges at a charge point of its own, once every `cycle_s`."""

    points: int
    cycle_s: float
    seconds: float

    @property
    def warm_up_s(self) -> float:
        return 2 * self.cycle_s


@dataclass(slots=True)
class Seen:
    begun_s: float
    memory_mib: Points = field(default_factory=list)
    answers_ms: Points = field(default_factory=list)
    receipts: dict[UUID, ChargeCompletionResponse] = field(default_factory=dict)

    def now_s(self) -> float:
        return time.monotonic() - self.begun_s


async def go_on_charging(driver: Driver, cp_id: str, first_s: float, load: Load, seen: Seen) -> None:
    """At fixed times, however long an answer takes; the receipt of the one before has come long since."""
    due_s = first_s
    while due_s < load.seconds:
        await asyncio.sleep(due_s - seen.now_s())
        asked_s = seen.now_s()
        answer = await driver.charge(cp_id, None)
        seen.answers_ms.append((asked_s, (seen.now_s() - asked_s) * 1000))
        assert answer.session_id is not None
        await asyncio.sleep(due_s + load.cycle_s * CHARGE_SHARE - seen.now_s())
        await driver.stop()
        async for message in driver.follow(answer.session_id):
            if isinstance(message, ChargeCompletionResponse):
                require(message.session_id not in seen.receipts, "a session has two receipts")
                seen.receipts[message.session_id] = message
        due_s += load.cycle_s


async def sample(central: Program, load: Load, seen: Seen) -> None:
    number = 0
    while (at_s := number * SAMPLE_EVERY_S) < load.seconds:
        await asyncio.sleep(at_s - seen.now_s())
        seen.memory_mib.append((seen.now_s(), memory_bytes(central.process.pid) / MIB))
        number += 1


async def run(world: World, central: Program, load: Load) -> Seen:
    link = DriverLink(
        KafkaAccess(world.kafka), "bench-drivers", timeout_s=TIMEOUT_S, log=make_log("bench", "error"), trace=None
    )
    async with link.opened(None):
        seen = Seen(time.monotonic())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sample(central, load, seen))
            for number, cp_id in enumerate(cp_ids(load.points)):
                first_s = number * load.cycle_s / load.points
                tasks.create_task(go_on_charging(Driver(f"D-{cp_id}", link), cp_id, first_s, load, seen))
        return seen


def check(world: World, seen: Seen) -> None:
    rows = world.rows("SELECT session_id, status, energy_wh, cost, revision FROM sessions")
    stored = {UUID(row["session_id"]): (row["energy_wh"], row["cost"]) for row in rows}
    told = {session_id: (receipt.energy_wh, str(receipt.cost)) for session_id, receipt in seen.receipts.items()}
    require(stored == told, "the receipts are not what the database has")
    require(all(row["status"] == "completed" for row in rows), "not all sessions are completed")
    require(all(row["revision"] == 1 for row in rows), "a bill was corrected")


def measure(ground: Ground) -> Part:
    load = Load(200, 2.0, 9.0) if ground.quick else Load(600, 15.0, 195.0)
    world = ground.network("steady")
    central = start_central(world)
    try:
        with crowd_of(load.points, central.port, ground.kafka, heartbeat_s=HEARTBEAT_S) as crowd:
            crowd.until_registered()
            used_s = processor_s(central.process.pid)
            seen = asyncio.run(run(world, central, load))
            used_s = (processor_s(central.process.pid) - used_s) / seen.now_s()
            report = crowd.until(
                lambda report: report.receipts == len(seen.receipts),
                "the charge points have their receipts",
                TIMEOUT_S,
            )
    finally:
        world.stop()
    require(not report.errors and not report.undelivered, f"charge points were refused: {report.errors}")
    check(world, seen)
    warm = Seen(
        seen.begun_s,
        [(at_s, value) for at_s, value in seen.memory_mib if at_s >= load.warm_up_s],
        [(at_s, value) for at_s, value in seen.answers_ms if at_s >= load.warm_up_s],
    )
    return Part(
        "steady",
        "Steady load",
        "the first third of the same run, after the time of warming up",
        [*_memory(warm.memory_mib, load), *_latency(warm.answers_ms, load)],
        [
            "each session that began is completed and has one receipt, with energy and cost as in the database",
            "no charge point was refused anything",
        ],
        [
            f"{load.points} charge points for {load.seconds:g} s, of which {load.warm_up_s:g} s are to warm up;"
            f" {len(seen.receipts):,} sessions, {report.readings:,} readings, {report.heartbeats:,} heartbeats",
            f"Central used {used_s:.1%} of a processor",
        ],
        _charts(seen),
    )


def thirds(points: Points, load: Load) -> tuple[list[float], list[float]]:
    """The values of the first third, and of the last."""
    third_s = (load.seconds - load.warm_up_s) / 3
    first = [value for at_s, value in points if at_s < load.warm_up_s + third_s]
    return first, [value for at_s, value in points if at_s >= load.seconds - third_s]


def _memory(points: Points, load: Load) -> list[Figure]:
    first, last = (statistics.median(third) for third in thirds(points, load))
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope * MINUTE_S / first
    goals = []
    if load.seconds >= MINUTE_S:  # In less it shows what the first requests need, not what a minute adds.
        goals.append(at_most(GOAL_SLOPE_PERCENT, slope * 100, f"at most {GOAL_SLOPE_PERCENT:g} % a minute"))
    return [
        Figure(
            "memory, last third beside first",
            "MiB",
            last,
            first,
            [at_most(GOAL_MEMORY, last / first, f"at most {GOAL_MEMORY:g} of the first third")],
        ),
        Figure(
            "growth of memory in a minute",
            "%",
            slope * 100,
            goals=goals,
        ),
    ]


def _latency(points: Points, load: Load) -> list[Figure]:
    first, last = thirds(points, load)
    half = percentile(last, 0.5) / percentile(first, 0.5)
    goals = [at_most(GOAL_LATENCY, half, f"at most {GOAL_LATENCY:g} of the first third")]
    return [
        Figure(
            "request until its answer, p50, last third", "ms", percentile(last, 0.5), percentile(first, 0.5), goals
        ),
        Figure("request until its answer, p99, last third", "ms", percentile(last, 0.99), percentile(first, 0.99)),
    ]


def _charts(seen: Seen) -> list[Chart]:
    by_second: dict[int, list[float]] = {}
    for at_s, value in seen.answers_ms:
        by_second.setdefault(int(at_s), []).append(value)
    answers: dict[str, Points] = {
        "p50": [(second, percentile(values, 0.5)) for second, values in sorted(by_second.items())],
        "longest": [(second, max(values)) for second, values in sorted(by_second.items())],
    }
    x = "time (s)"
    return [
        Chart("memory", "Memory of Central under a steady load", x, "MiB", {"resident": seen.memory_mib}),
        Chart("latency", "From a request until its answer, second by second", x, "ms", answers, log_y=True),
    ]

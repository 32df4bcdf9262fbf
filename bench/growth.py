"""What history costs: the same work beside no finished sessions, and beside very many.

A machine may be faster or slower by a third from one second to the next. So both Centrals work at the same time,
each on a Kafka of its own: what disturbs one disturbs the other, and their ratio stays.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from harness import World

import history
from evcharge import clock
from evcharge.driver.service import Driver, DriverLink
from evcharge.errors import ChargePointUnavailable
from evcharge.logs import make_log
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargingHistoryRequest, new_id
from evcharge.storage.store import Store
from evcharge.transport.kafka_settings import KafkaAccess
from figures import Chart, Figure, Part, WrongResult, at_least, at_most, require
from ground import Ground, second_kafka, start_central
from history import FREQUENT_DRIVER, SHARE_OF_FREQUENT
from measuring import memory_bytes, most_memory_bytes, percentile, processor_s
from prepared import with_sessions
from readings import check_books, publish_encoded, readings_of, until_metered

SESSIONS = 1_000
"""Those that charge, beside the history."""
LOOKS = 40
HISTORY_LENGTH = 20
PAGE_LENGTH = 100
TIMEOUT_S = 60.0
GOAL_OF_NONE = 0.05
GOAL_LOOK_MS = 20.0
GOAL_START_S = 3.0
MIB = 2**20
EPOCH = datetime.fromtimestamp(0, UTC)
LOG = make_log("bench", "error")
CENTRALS_IMPORTS = "import evcharge.cli, evcharge.central.console, evcharge.central.service"

Records = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Alone:
    """What a Central did while no other was at work: its start, and looks back, in ms, one each."""

    listens_s: float
    answers_s: float
    history_ms: list[float]
    store_ms: list[float]
    page_ms: list[float]
    far_page_ms: list[float]


@dataclass(frozen=True, slots=True)
class Metered:
    """How a Central took readings while the other took the same."""

    readings: int
    seconds: float
    processor_s: float
    memory_before_bytes: int
    most_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What a Central did in one round. Times of requests are in ms, one each."""

    alone: Alone
    request_ms: list[float]
    metered: Metered


@contextmanager
def network(ground: Ground, database: Path) -> Iterator[World]:
    """With a copy of `database`, which goes at the end."""
    world = ground.network("growth")
    history.copy(database, world.folder / "evcharge.db")
    try:
        yield world
    finally:
        world.stop()
        (world.folder / "evcharge.db").unlink()


def side_by_side(worlds: Mapping[int, World], requests: int, records: Records) -> Iterator[tuple[int, Trial]]:
    """What the Centrals of `worlds`, by how long their histories are, do at the same time."""
    alone, request_ms = asyncio.run(ask(worlds, requests))
    with ThreadPoolExecutor() as threads:
        metered = list(threads.map(lambda world: meter(world, records), worlds.values()))
    for (length, world), found in zip(worlds.items(), metered, strict=True):
        world.stop()
        check_books(world, SESSIONS, len(records) // SESSIONS)
        yield length, Trial(alone[length], request_ms[length], found)


async def ask(worlds: Mapping[int, World], requests: int) -> tuple[dict[int, Alone], dict[int, list[float]]]:
    """Start Centrals one after the other, then ask them in turn; what each did alone, and its times in ms."""
    async with AsyncExitStack() as stack:
        begun = {length: await stack.enter_async_context(at_work(worlds[length], length)) for length in worlds}
        request_ms: dict[int, list[float]] = {length: [] for length in begun}
        for number in range(requests):
            # Who is asked first finds the processors cooler, or what the other has left to do.
            for length in begun if number % 2 else reversed(begun):
                request_ms[length].append(await request_time_ms(begun[length][0]))
    return {length: alone for length, (_, alone) in begun.items()}, request_ms


@asynccontextmanager
async def at_work(world: World, length: int) -> AsyncIterator[tuple[Driver, Alone]]:
    """A Central from its start, whose database has `length` finished sessions, and a driver to ask it."""
    link = DriverLink(KafkaAccess(world.kafka), "bench-driver", timeout_s=TIMEOUT_S, log=LOG, trace=None)
    async with link.opened([FREQUENT_DRIVER]):
        driver = Driver(FREQUENT_DRIVER, link)
        begun_s = time.monotonic()
        first = asyncio.ensure_future(driver.charge_points())  # It waits in Kafka for whoever starts.
        central = await asyncio.to_thread(start_central, world)
        listens_s = time.monotonic() - begun_s
        await first
        answers_s = time.monotonic() - begun_s
        history_ms = [await history_time_ms(driver, length) for _ in range(LOOKS)]
        with world.http(central, history.TOKEN) as operator:
            page_ms = page_times_ms(operator, world, None)
            far_page_ms = page_times_ms(operator, world, (length + SESSIONS) // 2)
        store_ms = store_times_ms(world.folder / "evcharge.db")
        yield driver, Alone(listens_s, answers_s, history_ms, store_ms, page_ms, far_page_ms)


async def history_time_ms(driver: Driver, length: int) -> float:
    begun_s = time.perf_counter()
    found = await driver.history(HISTORY_LENGTH)
    time_ms = (time.perf_counter() - begun_s) * 1000
    require(len(found) == min(HISTORY_LENGTH, length // SHARE_OF_FREQUENT), "a driver's history is short")
    return time_ms


async def request_time_ms(driver: Driver) -> float:
    begun_s = time.perf_counter()
    try:
        await driver.charge("H-CP00000", 1_000)
    except ChargePointUnavailable:
        return (time.perf_counter() - begun_s) * 1000
    raise WrongResult("a charge point that is away was promised")


def meter(world: World, records: Records) -> Metered:
    """Publish the readings, and wait until the only program of `world`, its Central, has them all."""
    (central,) = world.programs
    pid = central.process.pid
    memory_before_bytes = memory_bytes(pid)
    begun_s, used_s = time.monotonic(), processor_s(pid)
    publish_encoded(world.kafka, records)
    until_metered(world, len(records) // SESSIONS - 1)
    seconds, used_s = time.monotonic() - begun_s, processor_s(pid) - used_s
    return Metered(len(records), seconds, used_s, memory_before_bytes, most_memory_bytes(pid))


def page_times_ms(operator: httpx.Client, world: World, before: int | None) -> list[float]:
    """The operators' first page of sessions, or the one that ends before session number `before`."""
    parameters: dict[str, str | int] = {"limit": PAGE_LENGTH}
    if before is None:
        first = world.rows("SELECT max(number) AS n FROM sessions")[0]["n"]
    else:
        first = before - 1
        row = world.rows("SELECT requested_at FROM sessions WHERE number = ?", before)[0]
        at = datetime.fromisoformat(row["requested_at"]).replace(tzinfo=UTC)
        parameters["before"] = f"{(at - EPOCH) // timedelta(microseconds=1)}-{before}"
    # In our databases numbers and times have the same order.
    rows = world.rows(
        "SELECT session_id FROM sessions WHERE number <= ? ORDER BY number DESC LIMIT ?", first, PAGE_LENGTH
    )
    wanted = [row["session_id"] for row in rows]
    found = []
    for _ in range(LOOKS):
        begun_s = time.perf_counter()
        answer = operator.get("/v1/sessions", params=parameters)
        found.append((time.perf_counter() - begun_s) * 1000)
        ids = [row["session_id"].replace("-", "") for row in answer.raise_for_status().json()["sessions"]]
        require(ids == wanted, "a page of sessions is not the one that was asked for")
    return found


def store_times_ms(database: Path) -> list[float]:
    """The same history as the driver asks for, without Central and Kafka."""
    store = Store(database)
    request = ChargingHistoryRequest(
        message_id=new_id(), timestamp=clock.now().utc, driver_id=FREQUENT_DRIVER, limit=HISTORY_LENGTH
    )
    try:
        return [_timed_ms(lambda: store.history(request)) for _ in range(LOOKS)]
    finally:
        store.close()


def _timed_ms(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return (time.perf_counter() - begun_s) * 1000


def seconds_of_python(code: str, times: int) -> float:
    """A process that runs `code`, by the clock; the median of so many."""
    return statistics.median(
        _timed_ms(lambda: subprocess.run([sys.executable, "-c", code], check=True)) / 1000 for _ in range(times)
    )


def measure(ground: Ground) -> Part:
    lengths = (0, 10_000, 100_000) if ground.quick else (0, 100_000, 2_000_000)
    rounds, requests, each = (1, 200, 50) if ground.quick else (4, 1_000, 250)
    none, some, most = lengths
    since = datetime.now(UTC)
    databases = {length: ground.folder / f"history-{length}.db" for length in lengths}
    for length, database in databases.items():
        history.make(database, length)
        sessions = with_sessions(database, SESSIONS, since)
    records = [(r.cp_id, messages.encode(r)) for r in readings_of(sessions, range(each), since)]
    with network(ground, databases[some]) as world:
        alone, _ = asyncio.run(ask({some: world}, requests=0))
    trials: dict[int, list[Trial]] = {none: [], most: []}
    with second_kafka(ground) as second:
        for number in range(rounds):
            # Who starts first, and which Kafka is whose, changes from round to round.
            turn = (none, most) if number % 2 else (most, none)
            with ExitStack() as networks:
                worlds = {
                    length: networks.enter_context(network(place, databases[length]))
                    for length, place in zip(turn, (ground, second), strict=True)
                }
                for length, trial in side_by_side(worlds, requests, records):
                    trials[length].append(trial)
    python_s, imports_s = (
        seconds_of_python(code, 1 if ground.quick else 3) for code in ("pass", CENTRALS_IMPORTS)
    )
    alones = {length: [trial.alone for trial in those] for length, those in trials.items()} | {some: [alone[some]]}
    return Part(
        "growth",
        f"Growth: {most:,} finished sessions in the database",
        "the same Central with no finished session in its database, at the same time; for looks back, which find"
        f" nothing then, the same with {some:,}; for the start, a Python that imports the same modules",
        [
            *_compared(trials[none], trials[most]),
            *_looked_back(alones[some], alones[most], most),
            *_started(alones[most], imports_s),
        ],
        [
            "each session that charges has the energy of its last reading, and its stored readings are right",
            "the pages of sessions are those that were asked for; a driver's history is as long as it should be",
        ],
        [
            f"{rounds} rounds; beside the history {SESSIONS:,} sessions charge, {len(records):,} readings a round",
            "both Centrals take their readings at the same time, each from a Kafka of its own, and share the"
            " processors: by the clock each is slower than it would be alone",
            f"drivers ask the one and the other in turn, each {requests:,} times a round, for a charge at a charge"
            " point that is away: it is refused, and the refusal stored",
            "ratios and goals of these are of all rounds together, with the least and the most of one round",
            "for the starts and the looks back each has the machine to itself",
            f"an empty Python takes {python_s * 1000:.0f} ms of the start",
            "the database is in the system's file cache, as it is on a machine that has run for a while",
        ],
        _charts(alones),
    )


def _compared(none: Sequence[Trial], most: Sequence[Trial]) -> Iterator[Figure]:
    """With the most beside with none."""

    def figure(what: str, unit: str, of: Callable[[Sequence[Trial]], float], *, more_is_better: bool) -> Figure:
        ours, bare = of(most), of(none)
        ratios = [of([one]) / of([other]) for one, other in zip(most, none, strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        if more_is_better:
            goal = at_least(1 - GOAL_OF_NONE, ours / bare, f"at least 0.95 of none ({spread})")
        else:
            goal = at_most(1 + GOAL_OF_NONE, ours / bare, f"at most 1.05 of none ({spread})")
        return Figure(what, unit, ours, bare, [goal])

    def rate(seconds: Callable[[Metered], float]) -> Callable[[Sequence[Trial]], float]:
        return lambda trials: sum(t.metered.readings for t in trials) / sum(seconds(t.metered) for t in trials)

    def request(share: float) -> Callable[[Sequence[Trial]], float]:
        return lambda trials: percentile([ms for t in trials for ms in t.request_ms], share)

    def memory(of: Callable[[Metered], int]) -> Callable[[Sequence[Trial]], float]:
        return lambda trials: statistics.fmean(of(t.metered) / MIB for t in trials)

    yield figure("readings a second of one core", "1/s", rate(lambda m: m.processor_s), more_is_better=True)
    yield figure("readings a second by the clock", "1/s", rate(lambda m: m.seconds), more_is_better=True)
    yield figure("answer to a request, p50", "ms", request(0.5), more_is_better=False)
    yield figure("answer to a request, p99", "ms", request(0.99), more_is_better=False)
    yield figure(
        "memory before the readings", "MiB", memory(lambda m: m.memory_before_bytes), more_is_better=False
    )
    yield figure("memory at its most", "MiB", memory(lambda m: m.most_memory_bytes), more_is_better=False)


def _looked_back(some: Sequence[Alone], most: Sequence[Alone], length: int) -> Iterator[Figure]:
    """With the most beside with some; with none there is nothing to find."""
    history_of = f"a driver's last {HISTORY_LENGTH} of {length // SHARE_OF_FREQUENT:,}"
    looks: list[tuple[str, Callable[[Alone], list[float]]]] = [
        (f"{history_of}, over Kafka", lambda a: a.history_ms),
        (f"{history_of}, from the database alone", lambda a: a.store_ms),
        (f"the operators' first {PAGE_LENGTH} sessions, over HTTP", lambda a: a.page_ms),
        (f"{PAGE_LENGTH} sessions from the middle, over HTTP", lambda a: a.far_page_ms),
    ]
    for name, of in looks:
        ours, bare = ([one for alone in those for one in of(alone)] for those in (most, some))
        found = percentile(ours, 0.5)
        goals = [at_most(GOAL_LOOK_MS, found, f"at most {GOAL_LOOK_MS:g} ms")]
        yield Figure(f"{name}, p50", "ms", found, percentile(bare, 0.5), goals)
        yield Figure(f"{name}, p99", "ms", percentile(ours, 0.99), percentile(bare, 0.99))


def _started(most: Sequence[Alone], imports_s: float) -> Iterator[Figure]:
    starts: list[tuple[str, Callable[[Alone], float]]] = [
        ("start until it listens", lambda a: a.listens_s),
        ("start until it answers a driver", lambda a: a.answers_s),
    ]
    for what, of in starts:
        found = statistics.median(map(of, most))
        yield Figure(what, "s", found, imports_s, [at_most(GOAL_START_S, found, f"at most {GOAL_START_S:g} s")])


def _charts(alones: Mapping[int, Sequence[Alone]]) -> list[Chart]:
    def line(of: Callable[[Alone], float]) -> list[tuple[float, float]]:
        return [(length, statistics.median(map(of, those))) for length, those in sorted(alones.items())]

    def look_line(of: Callable[[Alone], list[float]]) -> list[tuple[float, float]]:
        return line(lambda a: percentile(of(a), 0.5))

    x = "finished sessions in the database"
    return [
        Chart(
            "looking-back",
            "Looking back, p50",
            x,
            "ms",
            {
                "a driver's history, over Kafka": look_line(lambda a: a.history_ms),
                "a driver's history, database alone": look_line(lambda a: a.store_ms),
                "first page of sessions, over HTTP": look_line(lambda a: a.page_ms),
                "page from the middle, over HTTP": look_line(lambda a: a.far_page_ms),
            },
            log_x=True,
        ),
        Chart(
            "start",
            "Start of Central",
            x,
            "s",
            {
                "until it listens": line(lambda a: a.listens_s),
                "until it answers a driver": line(lambda a: a.answers_s),
            },
            log_x=True,
        ),
    ]

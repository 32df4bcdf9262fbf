"""What history costs: the same work beside no finished sessions, beside many, and beside very many."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
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
from evcharge.protocol.topics import TO_CENTRAL, Topic
from evcharge.storage.store import Store
from evcharge.transport.kafka import Cluster
from evcharge.transport.kafka_settings import KafkaAccess
from figures import Chart, Figure, Goal, Part, at_least, at_most, require
from ground import Ground, start_central
from history import FREQUENT_DRIVER, SHARE_OF_FREQUENT
from measuring import memory_bytes, percentile, processor_s
from prepared import with_sessions
from readings import check_books, publish_encoded, readings_of, until_metered

SESSIONS = 1_000
"""Those that charge, beside the history."""
REQUESTS, REQUESTS_QUICK = 300, 100
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


@dataclass(frozen=True, slots=True)
class Trial:
    """What one Central did, from its start. Times of requests are in ms, one each."""

    listens_s: float
    answers_s: float
    request_ms: list[float]
    history_ms: list[float]
    store_ms: list[float]
    page_ms: list[float]
    far_page_ms: list[float]
    readings_s: float
    readings_processor_s: float
    memory_before_bytes: int
    memory_after_bytes: int


async def times_ms(count: int, ask: Callable[[], Awaitable[object]]) -> list[float]:
    """Ask one after the other."""
    found = []
    for _ in range(count):
        begun_s = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - begun_s) * 1000)
    return found


async def try_out(world: World, length: int, requests: int, records: list[tuple[str, bytes]]) -> Trial:
    """Start a Central in `world`, whose database has `length` finished sessions; ask it, and give it readings."""
    kafka = KafkaAccess(world.kafka)
    Cluster(kafka, LOG).begin_at_end(world.folder.name, TO_CENTRAL)
    link = DriverLink(kafka, "bench-driver", timeout_s=TIMEOUT_S, log=LOG, trace=None)
    async with link.opened([FREQUENT_DRIVER]):
        driver = Driver(FREQUENT_DRIVER, link)
        begun_s = time.monotonic()
        first = asyncio.ensure_future(driver.charge_points())  # It waits in Kafka for whoever starts.
        central = await asyncio.to_thread(start_central, world, "--kafka-group", world.folder.name)
        listens_s = time.monotonic() - begun_s
        await first
        answers_s = time.monotonic() - begun_s

        async def request() -> None:
            try:
                await driver.charge("H-CP00000", 1_000)
            except ChargePointUnavailable:
                return
            require(False, "a charge point that is away was promised")

        async def look_back() -> None:
            found = await driver.history(HISTORY_LENGTH)
            require(len(found) == min(HISTORY_LENGTH, length // SHARE_OF_FREQUENT), "a driver's history is short")

        request_ms = await times_ms(requests, request)
        history_ms = await times_ms(LOOKS, look_back)
    with world.http(central, history.TOKEN) as operator:
        page_ms = page_times_ms(operator, world, None)
        far_page_ms = page_times_ms(operator, world, (length + SESSIONS) // 2)
    store_ms = store_times_ms(world.folder / "evcharge.db")
    pid = central.process.pid
    memory_before_bytes = memory_bytes(pid)
    begun_s, used_s = time.monotonic(), processor_s(pid)
    publish_encoded(world.kafka, records)
    until_metered(world, len(records) // SESSIONS - 1)
    return Trial(
        listens_s,
        answers_s,
        request_ms,
        history_ms,
        store_ms,
        page_ms,
        far_page_ms,
        time.monotonic() - begun_s,
        processor_s(pid) - used_s,
        memory_before_bytes,
        memory_bytes(pid),
    )


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


def trial(ground: Ground, database: Path, length: int, number: int, records: list[tuple[str, bytes]]) -> Trial:
    """With a copy of `database`, in which `SESSIONS` more charge."""
    folder = ground.folder / f"growth-{length}-{number}"
    folder.mkdir()
    world = World(folder, ground.kafka)
    history.copy(database, folder / "evcharge.db")
    try:
        found = asyncio.run(try_out(world, length, REQUESTS_QUICK if ground.quick else REQUESTS, records))
    finally:
        world.stop()
    check_books(world, SESSIONS, len(records) // SESSIONS)
    (folder / "evcharge.db").unlink()
    return found


def seconds_of_python(code: str) -> float:
    """A process that runs `code`, by the clock; the median of some."""
    return statistics.median(
        _timed_ms(lambda: subprocess.run([sys.executable, "-c", code], check=True)) / 1000 for _ in range(5)
    )


Trials = dict[int, list[Trial]]
"""How long the history is -> the trials with it, in the order of the rounds."""


def measure(ground: Ground) -> Part:
    lengths = (0, 20_000, 200_000) if ground.quick else (0, 100_000, 2_000_000)
    rounds, each = (1, 50) if ground.quick else (3, 300)
    since = datetime.now(UTC)
    databases = {length: ground.folder / f"history-{length}.db" for length in lengths}
    for length, database in databases.items():
        history.make(database, length)
        sessions = with_sessions(database, SESSIONS, since)
    records = [(r.cp_id, messages.encode(r)) for r in readings_of(sessions, range(each), since)]
    ground.empty(Topic)
    trials: Trials = {length: [] for length in lengths}
    for number in range(rounds):
        # In turn, so that a machine that slows down slows all of them; the middle one once, for the charts.
        turn = lengths if number == 0 else (lengths[0], lengths[-1])
        for length in reversed(turn) if number % 2 == 0 else turn:
            trials[length].append(trial(ground, databases[length], length, number, records))
    python_s, imports_s = seconds_of_python("pass"), seconds_of_python(CENTRALS_IMPORTS)
    return Part(
        "growth",
        f"Growth: {lengths[-1]:,} finished sessions in the database",
        "the same Central with no finished session in its database, in turn with it; for looks back, which find"
        f" nothing then, the same with {lengths[1]:,}; for the start, a Python that imports the same modules",
        [*_compared(trials, len(records)), *_looked_back(trials), *_started(trials, imports_s)],
        [
            "each session that charges has the energy of its last reading, and its stored readings are right",
            "the pages of sessions are those that were asked for; a driver's history is as long as it should be",
        ],
        [
            f"{rounds} rounds; beside the history {SESSIONS:,} sessions charge, {len(records):,} readings a round",
            "the ratios that goals speak of are medians of the rounds, with the least and the most of them",
            "a request is for a charge at a charge point that is away: refused, and the refusal stored",
            f"an empty Python takes {python_s * 1000:.0f} ms of the start",
            "the database is in the system's file cache, as it is on a machine that has run for a while",
        ],
        _charts(trials, len(records)),
    )


def _compared(trials: Trials, total: int) -> Iterator[Figure]:
    """With the most beside with none."""
    none, most = trials[min(trials)], trials[max(trials)]

    def figure(
        what: str, unit: str, of: Callable[[Trial], float], goal: Callable[[Sequence[float]], Goal]
    ) -> Figure:
        ratios = [of(ours) / of(bare) for bare, ours in zip(none, most, strict=True)]
        return Figure(what, unit, _median(of, most), _median(of, none), [goal(ratios)])

    def not_less(ratios: Sequence[float]) -> Goal:
        return at_least(1 - GOAL_OF_NONE, statistics.median(ratios), f"at least 0.95 of none ({_spread(ratios)})")

    def not_more(ratios: Sequence[float]) -> Goal:
        return at_most(1 + GOAL_OF_NONE, statistics.median(ratios), f"at most 1.05 of none ({_spread(ratios)})")

    yield figure("readings a second of one core", "1/s", lambda t: total / t.readings_processor_s, not_less)
    yield figure("readings a second by the clock", "1/s", lambda t: total / t.readings_s, not_less)
    yield figure("answer to a request, p50", "ms", lambda t: percentile(t.request_ms, 0.5), not_more)
    yield figure("answer to a request, p99", "ms", lambda t: percentile(t.request_ms, 0.99), not_more)
    yield figure("memory before the readings", "MiB", lambda t: t.memory_before_bytes / MIB, not_more)
    yield figure("memory after the readings", "MiB", lambda t: t.memory_after_bytes / MIB, not_more)


def _looked_back(trials: Trials) -> Iterator[Figure]:
    """With the most beside with some; with none there is nothing to find."""
    _, some, most = (trials[length] for length in sorted(trials))
    history_of = f"a driver's last {HISTORY_LENGTH} of {max(trials) // SHARE_OF_FREQUENT:,}"
    looks: list[tuple[str, Callable[[Trial], list[float]]]] = [
        (f"{history_of}, over Kafka", lambda t: t.history_ms),
        (f"{history_of}, from the database alone", lambda t: t.store_ms),
        (f"the operators' first {PAGE_LENGTH} sessions, over HTTP", lambda t: t.page_ms),
        (f"{PAGE_LENGTH} sessions from the middle, over HTTP", lambda t: t.far_page_ms),
    ]
    for name, of in looks:
        ours, bare = ([one for trial in those for one in of(trial)] for those in (most, some))
        found = percentile(ours, 0.5)
        goals = [at_most(GOAL_LOOK_MS, found, f"at most {GOAL_LOOK_MS:g} ms")]
        yield Figure(f"{name}, p50", "ms", found, percentile(bare, 0.5), goals)
        yield Figure(f"{name}, p99", "ms", percentile(ours, 0.99), percentile(bare, 0.99))


def _started(trials: Trials, imports_s: float) -> Iterator[Figure]:
    starts: list[tuple[str, Callable[[Trial], float]]] = [
        ("start until it listens", lambda t: t.listens_s),
        ("start until it answers a driver", lambda t: t.answers_s),
    ]
    for what, of in starts:
        found = _median(of, trials[max(trials)])
        yield Figure(what, "s", found, imports_s, [at_most(GOAL_START_S, found, f"at most {GOAL_START_S:g} s")])


def _charts(trials: Trials, total: int) -> list[Chart]:
    def line(of: Callable[[Trial], float]) -> list[tuple[float, float]]:
        return [(length, _median(of, those)) for length, those in sorted(trials.items())]

    def look_line(of: Callable[[Trial], list[float]]) -> list[tuple[float, float]]:
        return line(lambda t: percentile(of(t), 0.5))

    x = "finished sessions in the database"
    return [
        Chart(
            "throughput",
            "Readings beside a history",
            x,
            "readings/s",
            {
                "of one core": line(lambda t: total / t.readings_processor_s),
                "by the clock": line(lambda t: total / t.readings_s),
            },
            log_x=True,
        ),
        Chart(
            "looking-back",
            "Looking back, p50",
            x,
            "ms",
            {
                "a driver's history, over Kafka": look_line(lambda t: t.history_ms),
                "a driver's history, database alone": look_line(lambda t: t.store_ms),
                "first page of sessions, over HTTP": look_line(lambda t: t.page_ms),
                "page from the middle, over HTTP": look_line(lambda t: t.far_page_ms),
            },
            log_x=True,
        ),
        Chart(
            "start",
            "Start of Central",
            x,
            "s",
            {
                "until it listens": line(lambda t: t.listens_s),
                "until it answers a driver": line(lambda t: t.answers_s),
            },
            log_x=True,
        ),
    ]


def _median(of: Callable[[Trial], float], trials: Sequence[Trial]) -> float:
    return statistics.median(map(of, trials))


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f}; {min(ratios):.3f} to {max(ratios):.3f}"

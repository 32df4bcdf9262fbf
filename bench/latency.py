"""How long a driver waits: from a charge request until its answer, and until the charge point is told to start."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from harness import World, eventually

from asking_drivers import ENERGY_WH, Asked
from crowds import Crowd, crowd_of
from figures import Chart, Figure, Goal, Part, at_most, require
from ground import Ground, start_central
from handled import Handled
from measuring import percentile
from prepared import with_sessions
from reading_flow import WH_A_READING

HERE = Path(__file__).parent
CHARGE_POINTS = 500
"""That are free, for those who ask."""
REQUESTS_A_SECOND = 40.0
WARM_UP_S = 1.0
LOADS, LOADS_QUICK = (0.1, 0.5, 0.8), (0.1, 0.5)
RATES = [4_000 * 1.25**step for step in range(20)]
RATES_QUICK = [8_000 * 1.5**step for step in range(10)]
KEPT_UP = 0.95
GOAL_LOAD = 0.5
GOAL_P50, GOAL_P99 = 1.5, 3.0
ENOUGH_FOR_P999 = 1000
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Sorted, in ms, each from when its request was due."""

    answers: list[float]
    starts: list[float]
    """Empty for the bare round trip, which starts nothing."""


class Flow:
    """The process that lets readings flow."""

    def __init__(self, kafka: str, sessions: int) -> None:
        command = [sys.executable, str(HERE / "reading_flow.py"), kafka, str(CHARGE_POINTS), str(sessions)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def at(self, rate: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{rate}\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """How many readings there were; all are in Kafka."""
        said, _ = self.process.communicate(timeout=DEADLINE_S)
        require(self.process.returncode == 0, "the readings did not all get into Kafka")
        return int(said)


@contextmanager
def flow_of(kafka: str, sessions: int) -> Iterator[Flow]:
    flow = Flow(kafka, sessions)
    try:
        yield flow
    finally:
        flow.process.kill()
        flow.process.wait()


def loads_of(ground: Ground) -> tuple[float, ...]:
    return LOADS_QUICK if ground.quick else LOADS


def ask(kafka: str, seconds: float) -> list[Asked]:
    """Have drivers ask, for so long and for the time of warming up; those of the latter are left out."""
    warm_up = round(WARM_UP_S * REQUESTS_A_SECOND)
    requests = warm_up + round(seconds * REQUESTS_A_SECOND)
    command = [sys.executable, str(HERE / "asking_drivers.py"), kafka, str(CHARGE_POINTS)]
    command += [str(REQUESTS_A_SECOND), str(requests)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = msgspec.json.decode(done.stdout, type=list[Asked])
    for asked in found:
        require(len(asked.answers) == 1, f"a request got {len(asked.answers)} answers")
        require(asked.answers[0][1], "a request for a charge point that is free was refused")
    return found[warm_up:]


def waits_of(found: list[Asked], crowd: Crowd | None) -> Waits:
    answers = [(asked.answers[0][0] - asked.due_ns) / 1e6 for asked in found]
    if crowd is None:
        return Waits(sorted(answers), [])
    eventually(lambda: all(asked.session_id in crowd.starts for asked in found), "all start commands have come")
    starts = [(crowd.starts[asked.session_id] - asked.due_ns) / 1e6 for asked in found]
    return Waits(sorted(answers), sorted(starts))


def highest_rate(kafka: str, flow: Flow, rates: Sequence[float], seconds: float) -> float:
    """Readings a second that all of it together keeps up with: who makes them, the broker, Central.

    Not what it makes of a backlog, whose large batches are cheaper, but the last of ever higher rates, each for so
    many seconds.
    """
    handled = Handled(kafka)
    kept = 0.0
    for rate in rates:
        flow.at(rate)
        time.sleep(WARM_UP_S)
        begun_s, before = time.monotonic(), handled.readings()
        time.sleep(seconds)
        if (handled.readings() - before) / (time.monotonic() - begun_s) < KEPT_UP * rate:
            break
        kept = rate
    flow.at(0)
    handled.close()
    require(kept > 0, f"Central does not keep up with {rates[0]:,.0f} readings a second")
    return kept


def measure_ours(ground: Ground, sessions: int, seconds: float) -> tuple[float, dict[float, Waits]]:
    """The highest rate of readings, and the waits under shares of it."""
    world = ground.network("latency")
    with_sessions(world.folder / "evcharge.db", sessions, datetime.now(UTC), first=CHARGE_POINTS)
    central = start_central(world)
    try:
        with (
            crowd_of(CHARGE_POINTS, central.port, ground.kafka, readings_at_once=1) as crowd,
            flow_of(ground.kafka, sessions) as flow,
        ):
            crowd.until_registered()
            rate = highest_rate(ground.kafka, flow, *((RATES_QUICK, 1.5) if ground.quick else (RATES, 4.0)))
            waits: dict[float, Waits] = {}
            asked: list[Asked] = []
            for load in loads_of(ground):
                flow.at(load * rate)
                found = ask(ground.kafka, seconds)
                asked += found
                waits[load] = waits_of(found, crowd)
            check_readings(world, sessions, flow.end())
            check_charges(world, crowd, asked)
    finally:
        world.stop()
    return rate, waits


def check_readings(world: World, sessions: int, total: int) -> None:
    """They went round; so the first sessions may have one more than the others."""
    each, more = divmod(total, sessions)
    energy = "SELECT sum(energy_wh) AS wh FROM sessions WHERE driver_id LIKE 'D-%'"
    eventually(lambda: world.rows(energy)[0]["wh"] == total * WH_A_READING, "no reading is lost", DEADLINE_S)
    counts = world.rows(
        "SELECT last_seq + 1 AS each, count(*) AS n FROM sessions"
        " WHERE driver_id LIKE 'D-%' AND energy_wh = (last_seq + 1) * ? GROUP BY last_seq",
        WH_A_READING,
    )
    found = {row["each"]: row["n"] for row in counts}
    wanted = {number: n for number, n in ((each, sessions - more), (each + 1, more)) if n}
    require(found == wanted, f"the sessions have not the energy of their last readings: {found}, not {wanted}")


def check_charges(world: World, crowd: Crowd, asked: list[Asked]) -> None:
    """A charge point that charged for another's session would have been refused its completion."""
    over = "SELECT count(*) AS n FROM sessions WHERE driver_id LIKE 'A%' AND status IN ('authorised', 'charging')"
    eventually(lambda: world.rows(over)[0]["n"] == 0, "all charges have ended", DEADLINE_S)
    rows = world.rows("SELECT session_id, cp_id, status, energy_wh FROM sessions WHERE driver_id LIKE 'A%'")
    charges = {row["session_id"]: (row["cp_id"], row["status"], row["energy_wh"]) for row in rows}
    for one in asked:
        found = charges.get(one.session_id.hex)
        require(found == (one.cp_id, "completed", ENERGY_WH), f"a charge at {one.cp_id} became {found}")
    require(not crowd.report.errors, f"charge points were refused: {crowd.report.errors}")


def measure_bare(ground: Ground, rate: float, sessions: int, seconds: float) -> dict[float, Waits]:
    """The bare round trip under the same flows of readings, and under none."""
    ground.network("bare-answers")
    command = [sys.executable, str(HERE / "bare_answers.py"), ground.kafka]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with flow_of(ground.kafka, sessions) as flow:
            waits: dict[float, Waits] = {}
            for load in (0.0, *loads_of(ground)):
                flow.at(load * rate)
                waits[load] = waits_of(ask(ground.kafka, seconds), None)
            total = flow.end()
        said, _ = process.communicate(timeout=DEADLINE_S)
        require(int(said) == total, f"the bare round trip had {said.strip()} readings, not {total}")
    finally:
        process.kill()
        process.wait()
    return waits


def measure(ground: Ground) -> Part:
    sessions, seconds = 10_000, 2.5 if ground.quick else 25.0
    rate, ours = measure_ours(ground, sessions, seconds)
    bare = measure_bare(ground, rate, sessions, seconds)
    samples = len(bare[GOAL_LOAD].answers)
    shares = {"p50": 0.5, "p99": 0.99}
    if samples >= ENOUGH_FOR_P999:
        shares["p99.9"] = 0.999
    figures = [
        Figure(f"bare round trip without load, {name}", "ms", percentile(bare[0.0].answers, share))
        for name, share in shares.items()
    ]
    lines: dict[str, list[tuple[float, float]]] = {}
    for load in loads_of(ground):
        for what in ("answer", "start command"):
            for name, share in shares.items():
                waits = ours[load].answers if what == "answer" else ours[load].starts
                value, baseline = percentile(waits, share), percentile(bare[load].answers, share)
                goals = goals_of(value / baseline, name) if load == GOAL_LOAD else []
                figures.append(Figure(f"{what} at {load:.0%} load, {name}", "ms", value, baseline, goals))
                lines.setdefault(f"{what}, {name}", []).append((load * 100, value))
                if what == "answer":
                    lines.setdefault(f"bare round trip, {name}", []).append((load * 100, baseline))
    remarks = [
        f"100 % load is {rate:,.0f} readings a second, the most that who makes them, broker and Central keep up"
        f" with together; {sessions:,} sessions",
        f"{samples:,} requests at each load, {REQUESTS_A_SECOND:g} a second by the clock; a wait counts from when"
        " its request was due",
    ]
    if samples < ENOUGH_FOR_P999:
        remarks.append(f"p99.9 is left out: it takes {ENOUGH_FOR_P999:,} requests")
    return Part(
        "latency",
        "Latency of a charge request",
        "a bare round trip: a process that takes requests and readings from the same broker, at the same rate and"
        " with the same settings of its clients, and produces a record for each, with no thought in between",
        figures,
        [
            "each request has exactly one answer, which accepts it",
            "each start command came to the charge point that was asked for, which then delivered exactly the"
            " energy that was asked for, and the session ended with it",
            "no reading is lost: each session has the energy of its last one",
        ],
        remarks,
        [Chart("latency", "From a charge request", "load, %", "ms", lines, log_y=True)],
    )


def goals_of(ratio: float, name: str) -> list[Goal]:
    most = {"p50": GOAL_P50, "p99": GOAL_P99}.get(name)
    return [at_most(most, ratio, f"at most {most:g} times the bare round trip")] if most is not None else []

"""Breaks real networks at random moments, and compares the books: `python tests/faults/run.py --help`."""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "faults")]

from books import Evidence, wrongs  # noqa: E402
from breaks import BREAKS, LONGER_THAN_A_TIMEOUT, Break, Heal  # noqa: E402
from crowd import CROWDS, Crowd, break_crowd  # noqa: E402
from evidence import gather  # noqa: E402
from harness import eventually  # noqa: E402
from machine import no_clock, no_small_disk  # noqa: E402
from network import CENTRAL_OF_A_CROWD, CLOCKS, DISKS, ChargePoint, Kafka, Network, some_wishes, wait_until  # noqa: E402

RESULTS = ROOT / ".faults" / "results.jsonl"
CHARGE_POINTS, DRIVERS = 2, 2
SETTLES_WITHIN_S = 40.0


@dataclass(frozen=True)
class Size:
    """How many charges each driver wants, and how often at the most the same is broken again in one run."""

    wishes: int
    most_rounds: int


LONG, SHORT = Size(3, 3), Size(2, 1)


@dataclass
class Result:
    """What came of one run."""

    at: str
    seed: int
    breaks: list[str]
    sessions: int
    energy_wh: int
    seconds: float
    wrong: list[str]

    def line(self) -> str:
        verdict = "ok" if not self.wrong else f"WRONG ({len(self.wrong)})"
        return (
            f"seed {self.seed:<11} {' + '.join(self.breaks):<50} {self.sessions:>2} sessions"
            f" {self.energy_wh:>6} Wh {self.seconds:6.1f} s  {verdict}"
        )


def possible(long: bool) -> list[str]:
    """The breaks that can be done on this machine; says why the others cannot."""
    cannot: dict[str, str] = {}
    if reason := no_small_disk():
        cannot |= {f"fill-{disk}": reason for disk in DISKS}
    if reason := no_clock():
        cannot |= {each.name: reason for each in BREAKS.values() if each.hits in CLOCKS}
    for name, reason in cannot.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    breaks = [each.name for each in BREAKS.values() if each.name not in cannot and (long or not each.long)]
    return [*breaks, *(CROWDS if long else ())]


def drawn(seed: int, table: list[str]) -> list[str]:
    """One break, or two that hit different things. Seeds in a row take the breaks of the table in turn."""
    first = table[seed % len(table)]
    rng = random.Random(f"breaks of {seed}")
    if first in CROWDS or rng.random() < 0.5:
        return [first]
    return [
        first,
        rng.choice([name for name in table if name in BREAKS and BREAKS[name].hits != BREAKS[first].hits]),
    ]


def run(seed: int, breaks: list[Break], kafka: Kafka, folder: Path, size: Size) -> Result:
    """One network, broken and healed; what is in `folder` is its story."""
    rng = random.Random(seed)
    hits = frozenset(each.hits for each in breaks)

    def story(network: Network) -> list[str]:
        network.start(CHARGE_POINTS)
        for number in range(1, DRIVERS + 1):
            network.start_driver(f"D{number}", some_wishes(network, rng, size.wishes))
        wrong: list[str] = []
        for _ in range(rng.randint(1, size.most_rounds)):
            network.until(lambda: network.is_charging() or network.drivers_are_done(), "somebody charges")
            wrong += _break(network, breaks, rng)
        # The harm of a wire that has lost bytes is seen only now, when somebody has been silent for too long.
        wait_until(time.monotonic() + LONGER_THAN_A_TIMEOUT[0])
        return wrong + _settle(network)

    network = Network(_name(seed), folder, kafka, hits)
    return _told(seed, [each.name for each in breaks], network, story)


def run_crowd(seed: int, crowd: Crowd, kafka: Kafka, folder: Path) -> Result:
    """The same, of a crowd."""
    network = Network(_name(seed), folder, kafka, central_options=CENTRAL_OF_A_CROWD)
    return _told(seed, [crowd.name], network, lambda network: break_crowd(network, crowd))


def _name(seed: int) -> str:
    """Another one for each run, also of the same seed: a Kafka keeps what was."""
    return f"R{seed % 2**32:x}-{random.SystemRandom().randrange(16**4):04x}"


def _told(seed: int, names: list[str], network: Network, story: Callable[[Network], list[str]]) -> Result:
    """What the story leads to, and what the books say of it."""
    begun_s = time.monotonic()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    evidence = Evidence()
    wrong: list[str] = []
    try:
        wrong += story(network)
        evidence = gather(network)
        wrong += wrongs(evidence)
    except AssertionError as problem:
        wrong.append(f"the run broke off: {problem}")
    except Exception:  # noqa: BLE001  # the runner's own fault must not end the campaign, nor pass for success
        wrong.append(f"the run broke off: {traceback.format_exc()}")
    finally:
        network.heal()
        network.stop()
    seconds = round(time.monotonic() - begun_s, 1)
    energy_wh = sum(row["energy_wh"] for row in evidence.sessions)
    return Result(at, seed, names, len(evidence.sessions), energy_wh, seconds, wrong)


def _break(network: Network, breaks: list[Break], rng: random.Random) -> list[str]:
    """Strike at random moments, one break after the other, and heal each when it has lasted."""
    now_s = time.monotonic()
    wrong = []
    impatient = rng.random() < 0.5
    open_ends: list[tuple[float, Heal]] = []
    for each in breaks:
        now_s += rng.uniform(0.0, 2.0)
        wait_until(now_s)
        cp = _busy(network, rng)
        struck_s = time.monotonic()
        heal = each.strike(network, cp, rng)
        open_ends.append((struck_s + rng.uniform(*each.lasts_s), heal))
        if each.shows is not None and len(breaks) == 1:
            try:
                eventually(_shows(network, cp.cp_id, each.shows.status), "shown", each.shows.within_s)
            except AssertionError:
                wrong.append(
                    f"{each.shows.within_s:g} s after {each.name}, {cp.cp_id} was shown"
                    f" {network.status(cp.cp_id)}, not {each.shows.status}"
                )
    if impatient:
        _somebody_stops(network, rng)
    for at_s, heal in sorted(open_ends, key=lambda end: end[0]):
        wait_until(at_s)
        heal()
    return wrong


def _shows(network: Network, cp_id: str, status: str) -> Callable[[], bool]:
    return lambda: network.status(cp_id) == status


def _busy(network: Network, rng: random.Random) -> ChargePoint:
    """A charge point that charges, if one does."""
    rows = network.rows("SELECT cp_id FROM sessions WHERE ended_at IS NULL")
    busy = {row["cp_id"] for row in rows}
    return rng.choice([cp for cp in network.charge_points if cp.cp_id in busy] or network.charge_points)


def _somebody_stops(network: Network, rng: random.Random) -> None:
    """A driver asks for the end of his charge, in the midst of it all, and does not wait for the answer."""
    rows = network.rows("SELECT driver_id, cp_id, session_id FROM sessions WHERE ended_at IS NULL")
    if rows:
        row = rng.choice(rows)
        request = {
            "type": "stop_charging_request",
            "message_id": str(uuid.uuid4()),
            "timestamp": datetime.now(UTC).isoformat(),
            "driver_id": row["driver_id"],
            "cp_id": row["cp_id"],
            "session_id": str(uuid.UUID(row["session_id"])),
        }
        network.hand.produce("driver_stop_requests", json.dumps(request).encode(), row["cp_id"])
        network.hand.poll(0)


def _settle(network: Network) -> list[str]:
    """Wait until all is quiet; then each charge point must charge again."""
    for program in network.drivers:
        try:
            program.wait(SETTLES_WITHIN_S)
        except Exception:  # noqa: BLE001
            return [
                f"{program.name} still waits {SETTLES_WITHIN_S:g} s after all was healed",
                *_unsettled(network),
            ]
    if stuck := _unsettled(network):
        return stuck
    last = network.start_driver("last", [(cp.cp_id, 0.05) for cp in network.charge_points])
    code = last.wait(SETTLES_WITHIN_S)
    wrong = [f"the last charge at each charge point failed: {last.output} {last.log}"] if code else []
    return [*wrong, *_unsettled(network)]


def _unsettled(network: Network) -> list[str]:
    try:
        eventually(network.is_settled, "settled", SETTLES_WITHIN_S)
    except AssertionError:
        return [f"not settled {SETTLES_WITHIN_S:g} s after all was healed"]
    return []


def main() -> int:
    arguments = _arguments()
    first = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    table = possible(long=not arguments.short)
    if left_out := sorted(set(arguments.breaks or ()) - set(table)):
        print(f"{', '.join(left_out)}: left out here, see above; name others with --breaks", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="evcharge-faults-"))
    kafka = Kafka(folder / "kafka")
    verdicts: Counter[tuple[str, bool]] = Counter()
    try:
        for seed in range(first, first + arguments.runs):
            place = folder / str(seed)
            place.mkdir()
            names = arguments.breaks or drawn(seed, table)
            if names[0] in CROWDS:
                result = run_crowd(seed, CROWDS[names[0]], kafka, place)
            else:
                result = run(seed, [BREAKS[name] for name in names], kafka, place, LONG)
            with arguments.results.open("a") as results:
                results.write(json.dumps(asdict(result)) + "\n")
            print(result.line(), flush=True)
            verdicts.update((name, not result.wrong) for name in result.breaks)
            if result.wrong:
                print(*(f"    {sentence}" for sentence in result.wrong), sep="\n")
                print(f"    again: make faults RUNS=1 SEED={seed} BREAKS={','.join(names)}")
                print(f"    its files: {place}", flush=True)
            elif not arguments.keep:
                shutil.rmtree(place)
    finally:
        kafka.close()
    print()
    for name in (*BREAKS, *CROWDS):
        good, bad = verdicts[name, True], verdicts[name, False]
        if good + bad:
            print(f"{name:<30} {good + bad:>4} runs {bad:>4} wrong")
    failed = any(not good for _, good in verdicts)
    if not failed and not arguments.keep:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0] + ".")
    add = parser.add_argument
    add("--runs", type=int, default=20, help="how many networks to break (default: %(default)s)")
    add("--seed", type=int, help="of the first run, each next is one more; without it, a random one")
    add("--breaks", type=_breaks, help="these, with commas between, in each run; without it, the seed draws them")
    add("--short", action="store_true", help="without those that take a minute or more")
    add("--keep", action="store_true", help="keep the files of every run, not of those alone that fail")
    add("--results", type=Path, default=RESULTS, help="where to append them (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    return arguments


def _breaks(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - BREAKS.keys() - CROWDS.keys()):
        known = ", ".join([*BREAKS, *CROWDS])
        raise argparse.ArgumentTypeError(f"there is no break {', '.join(unknown)}; there are {known}")
    if len(names) > 1 and CROWDS.keys() & set(names):
        raise argparse.ArgumentTypeError("a crowd is broken by itself alone")
    return names


if __name__ == "__main__":
    sys.exit(main())

"""Measure, check, and write the report.

make bench [QUICK=1] [ONLY=readings,latency]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import connections
import growth
import latency
import palo_alto
import peer
import readings
import sessions
import steady
from charts import draw_all
from figures import Part, WrongResult
from ground import Ground
from kafka_broker import Broker, free_port
from measuring import machine
from report import Report, commit, summary, write

ROOT = Path(__file__).resolve().parent.parent

PARTS: dict[str, Callable[[Ground], Part]] = {
    "readings": readings.measure,
    "latency": latency.measure,
    "peer": peer.measure,
    "growth": growth.measure,
    "steady": steady.measure,
    "palo-alto": palo_alto.measure,
    "sessions": sessions.measure,
    "connections": connections.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure evcharge beside what limits it, in one run.")
    parser.add_argument("--quick", action="store_true", help="in 3 minutes instead of 20, less exactly")
    parser.add_argument("--only", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--report", type=Path, default=Path(".bench"), help="folder to write to (%(default)s)")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := sorted(set(names) - PARTS.keys()):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    given.report.mkdir(exist_ok=True)
    began_at, begun_s = datetime.now(UTC), time.monotonic()
    parts: list[Part] = []
    wrong: dict[str, str] = {}
    try:
        measure(names, given.quick, parts, wrong)
    finally:  # What was measured is worth keeping, whatever has happened since.
        report = Report(began_at, machine(), commit(ROOT), given.quick, time.monotonic() - begun_s, parts, wrong)
        draw_all(parts, given.report)
        write(report, given.report)
        print(summary(report))
        print(f"The report: {given.report / 'report.md'}")
    return 1 if wrong else 0


def measure(names: list[str], quick: bool, parts: list[Part], wrong: dict[str, str]) -> None:
    """Add what is found to `parts`, or what is wrong to `wrong`."""
    with tempfile.TemporaryDirectory(prefix="evcharge-bench-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port())
        broker.start()
        ground = Ground(Path(folder), broker.bootstrap, quick)
        try:
            for name in names:
                begun_s = time.monotonic()
                print(f"{name} …", file=sys.stderr, flush=True)
                try:
                    parts.append(PARTS[name](ground))
                except (WrongResult, AssertionError) as problem:
                    wrong[name] = str(problem)
                print(f"{name}: {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
        finally:
            broker.stop()


if __name__ == "__main__":
    sys.exit(main())

"""Measure, check, and write the report.

make bench [QUICK=1] [ONLY=readings,latency]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import readings
from figures import Part, WrongResult
from ground import Ground
from kafka_broker import Broker, free_port

PARTS: dict[str, Callable[[Ground], Part]] = {
    "readings": readings.measure,
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
    parts: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="evcharge-bench-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port())
        broker.start()
        ground = Ground(Path(folder), broker.bootstrap, given.quick)
        try:
            for name in names:
                begun_s = time.monotonic()
                print(f"{name} …", file=sys.stderr, flush=True)
                parts.append(PARTS[name](ground))
                print(f"{name}: {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
        except WrongResult as problem:
            print(f"No speed is worth anything here: {problem}", file=sys.stderr)
            return 1
        finally:
            broker.stop()
    for part in parts:
        for figure in part.figures:
            print(figure)
        print(part.remarks)
    return 0


if __name__ == "__main__":
    sys.exit(main())

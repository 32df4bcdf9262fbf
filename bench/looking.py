"""What looking costs: Central's processor time with viewers of its live state, and without.

    .venv/bin/python bench/looking.py

Starts a Kafka, a Central and a fleet of its own, in which some charge points charge, with a reading each second.
Then it lets 10 viewers follow /v1/events, from another process, and lets them go, several times over.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "e2e")]

from harness import Program, World, eventually  # noqa: E402

from kafka_broker import Broker, free_port  # noqa: E402
from measuring import processor_s  # noqa: E402

GOAL = 1.10
WARM_UP_S = 20.0
MOST_SILENCE_S = 5.0
"""Where something changes each second, a viewer who hears nothing for so long does not look."""


def load(central: Program, seconds: float) -> float:
    """The share of one processor that Central uses over this time."""
    begun_s, used_s = time.monotonic(), processor_s(central.process.pid)
    time.sleep(seconds)
    return (processor_s(central.process.pid) - used_s) / (time.monotonic() - begun_s)


async def view(url: str, token: str, count: int) -> None:
    """Follow the stream `count` times, until killed. It does no more than it must: it is not what is measured."""
    address = urlsplit(url)

    async def follow() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"GET /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
        if not (await reader.readline()).startswith(b"HTTP/1.1 200"):
            raise SystemExit("Central does not let us look")
        data = b"its head"
        while data:
            async with asyncio.timeout(MOST_SILENCE_S):
                data = await reader.read(2**16)
        raise SystemExit("the stream has ended")

    await asyncio.gather(*(follow() for _ in range(count)))


def with_viewers(central: Program, url: str, token: str, count: int, seconds: float) -> float:
    viewers = subprocess.Popen([sys.executable, __file__, "--view", url, token, str(count)])
    try:
        time.sleep(2)
        found = load(central, seconds)
        if viewers.poll() is not None:
            raise SystemExit("the viewers have not stayed")
        return found
    finally:
        viewers.kill()
        viewers.wait()


def measure(world: World, points: int, charging: int, viewers: int, seconds: float, rounds: int) -> float:
    central = world.start(  # and not `world.central`, which has it write a trace
        "central",
        *("central", "--host", "127.0.0.1", "--port", "0", "--port-file", "central.port"),
        *("--http", "127.0.0.1:0", "--http-port-file", "central.http"),
        *("--kafka", world.kafka, "--db", "evcharge.db", "--open-registration"),
    )
    operator = world.operator(central)
    token = operator.headers["Authorization"].partition(" ")[2]
    world.start(
        "fleet",
        *("fleet", "--count", str(points), "--central", f"127.0.0.1:{central.port}", "--kafka", world.kafka),
    )
    ready = "SELECT count(*) AS n FROM charge_points WHERE status = 'ACTIVE'"
    eventually(lambda: (rows := world.rows(ready)) and rows[0]["n"] == points, "the fleet is there", 120)
    page = operator.get("/v1/charge-points", params={"limit": charging}).json()["charge_points"]
    for number, cp in enumerate(page):
        answer = operator.post(f"/v1/charge-points/{cp['cp_id']}/start", json={"driver_id": f"D{number}"})
        answer.raise_for_status()
    underway = "SELECT count(*) AS n FROM sessions WHERE status = 'charging'"
    eventually(lambda: world.rows(underway)[0]["n"] == charging, "they charge", 60)
    print(f"{points} charge points, {charging} of them charging, {viewers} viewers; {seconds:g} s each")
    url = str(operator.base_url)
    load(central, WARM_UP_S)
    before = load(central, seconds)
    ratios = []
    for _ in range(rounds):
        looking = with_viewers(central, url, token, viewers, seconds)
        after = load(central, seconds)
        # Both neighbours, as the load drifts.
        ratios.append(looking / ((before + after) / 2))
        print(f"  without {before:6.1%}   with {looking:6.1%}   without {after:6.1%}", flush=True)
        before = after
    return sum(ratios) / len(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description="What viewers cost Central.")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--charging", type=int, default=100)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--view", nargs=3, metavar=("URL", "TOKEN", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.view:
        with suppress(KeyboardInterrupt):
            asyncio.run(view(given.view[0], given.view[1], int(given.view[2])))
        return 0
    with tempfile.TemporaryDirectory(prefix="evcharge-looking-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port())
        broker.start()
        world = World(Path(folder), broker.bootstrap)
        try:
            ratio = measure(world, given.points, given.charging, given.viewers, given.seconds, given.rounds)
        finally:
            world.stop()
            broker.stop()
    print(f"looking costs {ratio:.2f} times the processor time of not looking (goal: less than {GOAL:.2f})")
    return 0 if ratio < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())

"""More than Central can take at once, and what it costs."""

import json
import socket
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from harness import World, eventually
from test_charging import FAST

FRAMES = 60_000
BURST = 20_000


def heartbeat(cp_id: str) -> bytes:
    request = {
        "type": "heartbeat_request",
        "message_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).isoformat(),
        "cp_id": cp_id,
    }
    return json.dumps(request).encode()


def test_a_flood_on_one_connection_harms_nobody_else(world: World) -> None:
    """More messages than may wait inside, as fast as they go: each is answered, and the others are served."""
    central = world.central("--max-messages-per-second", "1000000")
    world.charge_point("CP001", central, engine=FAST)
    line = heartbeat("CP001")
    with socket.create_connection(("127.0.0.1", central.port)) as flood, ThreadPoolExecutor(1) as reader:
        lines = flood.makefile("rb")
        answers = reader.submit(lambda: [b"not_authenticated" in lines.readline() for _ in range(FRAMES)])
        flood.sendall((line + b"\n") * FRAMES)
        charge = world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait")
        assert all(answers.result(60))
    assert charge["energy_wh"] == 100


def test_whoever_sends_too_much_is_read_more_slowly_and_told_so_once(world: World) -> None:
    """A burst is let through; what goes beyond it is answered as well, but takes its time."""
    central = world.central("--max-messages-per-second", "1000")
    frames = BURST + 3_000
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", central.port)) as flood, ThreadPoolExecutor(1) as reader:
        lines = flood.makefile("rb")
        answers = reader.submit(lambda: Counter(json.loads(lines.readline())["code"] for _ in range(frames + 1)))
        flood.sendall((heartbeat("CP001") + b"\n") * frames)
        assert answers.result(60) == {"not_authenticated": frames, "too_many_messages": 1}
    assert time.monotonic() - began_s > 2
    assert '"too_many_messages"' in central.log


def test_memory_does_not_grow_with_finished_sessions(world: World) -> None:
    """What 300 sessions have left behind in memory is not what 300 more leave."""
    central = world.central()
    (world.folder / "sessions.csv").write_text(
        "session_id,charge_point_id,driver_id,plugged_in_at,charging_seconds,energy_kwh\n"
        + "".join(
            f"S-{n},PORT-{n % 10},D-{n % 10},2011-07-29T08:00:00-07:00,3600,{1 + n / 1000:.3f}\n"
            for n in range(300)
        )
    )
    sizes = []
    for turn in range(3):
        replay = world.start(
            f"replay-{turn}",
            *("replay", "sessions.csv", "--kafka", world.kafka, "--central", f"127.0.0.1:{central.port}"),
            *("--speed", "1000000", "--json"),
        )
        assert replay.wait(60) == 0, replay.output + replay.log
        assert json.loads(replay.output)["done"] == 300
        eventually(lambda: not world.rows("SELECT 1 FROM sessions WHERE receipt_sent < revision"), "receipts sent")
        sizes.append(central.memory_bytes())
    assert sizes[2] - sizes[1] < 3 * 2**20, sizes

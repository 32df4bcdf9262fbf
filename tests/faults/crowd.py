"""A crowd: many charge points in one program, and a Central that dies under them."""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from network import Network
from records import publish

TARGET_WH = 3000
"""At the time scale of the suite 16 s of charging."""
START_S = 60.0
END_S = 90.0
SERVES_WITHIN_S = 10.0
"""From Central's start until a driver has an answer, with every session known."""


@dataclass(frozen=True)
class Crowd:
    """So many charge points, of which so many charge; all must be back so soon after Central is."""

    name: str
    charge_points: int
    charging: int
    back_within_s: float


CROWDS = {
    crowd.name: crowd
    for crowd in (
        Crowd("kill-central-while-500-charge", 1000, 500, 15.0),
        Crowd("kill-central-of-2000", 2000, 100, 30.0),
    )
}


def break_crowd(network: Network, crowd: Crowd) -> list[str]:
    """Let them charge, kill Central in the midst of it, and see how soon all is as it was."""
    network.start_crowd(crowd.charge_points)
    publish(
        network.kafka.broker.bootstrap,
        [
            ("driver_charge_requests", cp_id, _charge_request(cp_id, f"{network.name}-D{number}"))
            for number, cp_id in enumerate(network.cp_ids[: crowd.charging])
        ],
    )
    charging = "SELECT count(*) FROM sessions WHERE status = 'charging' AND energy_wh > 0"
    network.until(lambda: network.rows(charging)[0][0] == crowd.charging, "all charge", START_S)
    network.kill("central")
    start_s = time.monotonic()
    network.start_program("central")
    back_s = time.monotonic()
    network.world.ask(f"{network.name}-watcher", "list")
    serves_s = time.monotonic() - start_s
    back = "SELECT count(*) FROM charge_points WHERE status IN ('ACTIVE', 'CHARGING')"
    network.until(lambda: network.rows(back)[0][0] == crowd.charge_points, "all are back", START_S)
    took_s = time.monotonic() - back_s
    network.until(network.is_settled, "all charges have ended, and have their receipts", END_S)
    wrong = []
    if serves_s > SERVES_WITHIN_S:
        wrong.append(
            f"{serves_s:.1f} s after Central's start the first driver was served, not {SERVES_WITHIN_S:g} s"
        )
    if f'"open_sessions": {crowd.charging}' not in network.running["central"].log:
        wrong.append(f"Central came back without all of the {crowd.charging} sessions")
    if took_s > crowd.back_within_s:
        wrong.append(
            f"{took_s:.1f} s after Central's return the last charge point was back, not {crowd.back_within_s:g} s"
        )
    return wrong


def _charge_request(cp_id: str, driver_id: str) -> dict[str, object]:
    return {
        "type": "charge_request",
        "message_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).isoformat(),
        "driver_id": driver_id,
        "cp_id": cp_id,
        "energy_wh": TARGET_WH,
    }

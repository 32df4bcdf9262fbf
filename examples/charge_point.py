"""A charge point in nothing but the documented protocol (docs/protocol.md) and the standard library.

    python examples/charge_point.py HOST PORT CP_ID [KEY]

It gives 11 kW on a clock that runs 300 times too fast, so a kWh takes about a second. A real one would connect
again when the connection breaks, and would keep its charge and its completion on disk until the receipt is there.
"""

import json
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

POWER_W, SPEED, VEHICLE_WH = 11_000, 300, 40_000
TICK_S, HEARTBEAT_S = 0.5, 30

Message = dict[str, Any]


def incoming(link: socket.socket) -> Iterator[Message]:
    """Central's messages, one JSON object a line; an empty one whenever `TICK_S` pass without any."""
    rest = b""
    link.settimeout(TICK_S)
    while True:
        try:
            data = link.recv(65536)
        except TimeoutError:
            yield {}
            continue
        if not data:
            sys.exit("Central has closed the connection.")
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def utc() -> str:
    return datetime.now(UTC).isoformat()


def run(link: socket.socket, cp_id: str, key: str = "") -> None:
    def send(type_: str, **fields: Any) -> Message:
        message = {"type": type_, "message_id": str(uuid4()), "timestamp": utc(), "cp_id": cp_id, **fields}
        link.sendall(json.dumps(message).encode() + b"\n")
        return message

    charge: Message = {}  # while one runs: session_id, driver_id, and the number of the next reading
    target_wh, at_target, began, began_at = 0, "", 0.0, ""
    completion: Message = {}  # while its receipt is missing
    heartbeat_at = float("inf")
    send("auth_request", key=key)
    for heard in incoming(link):
        stop = False
        match heard.get("type"):
            case "auth_response" | "register_response" if not heard["accepted"]:
                sys.exit(f"Central refuses {cp_id}: {heard['reason']}")
            case "auth_response":
                price: Message = {"price_per_kwh": "0.30", "currency": "EUR"}
                send("register_request", location="here", max_power_w=POWER_W, **price)
            case "register_response":
                send("status_update", status="ACTIVE", engine_connected=True)
                heartbeat_at = time.monotonic() + HEARTBEAT_S
                print(f"{cp_id} is registered.")
            case "start_charging_command" | "stop_charging_command" as command:
                starts = command == "start_charging_command"
                if starts and not charge:
                    charge = {"session_id": heard["session_id"], "driver_id": heard["driver_id"], "seq": 0}
                    target_wh, at_target = heard["energy_wh"], "target_reached"
                    if target_wh is None:
                        target_wh, at_target = VEHICLE_WH, "battery_full"
                    began, began_at = time.monotonic(), utc()
                # Should the same command come twice, the answer is the same, and nothing happens twice.
                mine = heard["session_id"] == charge.get("session_id")
                code = None if mine else "charge_point_busy" if starts else "unknown_session"
                ids = {"in_reply_to": heard["message_id"], "session_id": heard["session_id"]}
                send("command_response", accepted=mine, code=code, **ids)
                stop = mine and not starts
            case "charge_completion_response" if completion and heard["in_reply_to"] == completion["message_id"]:
                charge, completion = {}, {}
                print(f"{heard['end_reason']}: {heard['energy_wh']} Wh, {heard['cost']} {heard['currency']}")
            case "error_response":
                print(f"Central says {heard['code']}: {heard['reason']}")

        if completion:
            send("charge_completion", **completion)  # again, with the message_id that it had
        elif charge:
            energy_wh = min(target_wh, int((time.monotonic() - began) * SPEED * POWER_W / 3600))
            if energy_wh < target_wh and not stop:
                send("charging_data", energy_wh=energy_wh, power_w=POWER_W, **charge)
            else:
                end = {"started_at": began_at, "ended_at": utc(), "end_reason": "stopped" if stop else at_target}
                completion = send("charge_completion", energy_wh=energy_wh, **end, **charge)
            charge["seq"] += 1
        if time.monotonic() >= heartbeat_at:
            send("heartbeat_request")
            heartbeat_at += HEARTBEAT_S


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: python examples/charge_point.py HOST PORT CP_ID [KEY]")
    try:
        run(socket.create_connection((sys.argv[1], int(sys.argv[2]))), *sys.argv[3:])
    except OSError as problem:
        sys.exit(f"The connection to Central failed: {problem}")
    except KeyboardInterrupt:
        sys.exit(0)

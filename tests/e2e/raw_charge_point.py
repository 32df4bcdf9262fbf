"""A charge point in nothing but docs/protocol.md, so that a test can have it say whatever it likes."""

import json
import socket
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4


class RawChargePoint:
    """On a connection of its own, until the `with` ends."""

    def __init__(self, cp_id: str, port: int, key: str = "") -> None:
        self.cp_id = cp_id
        self._link = socket.create_connection(("127.0.0.1", port))
        self._link.settimeout(30)
        self._lines = self._link.makefile("rb")
        self.say("auth_request", key=key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close()

    def say(self, type_: str, **fields: Any) -> dict[str, Any]:
        head = {"type": type_, "message_id": str(uuid4()), "timestamp": datetime.now(UTC).isoformat()}
        message = {**head, "cp_id": self.cp_id, **fields}
        self._link.sendall(json.dumps(message).encode() + b"\n")
        return message

    def hear(self, *types: str) -> dict[str, Any]:
        """The next message of one of these types; fails at the end of the connection."""
        for line in self._lines:
            message: dict[str, Any] = json.loads(line)
            if message["type"] in types:
                return message
        raise AssertionError(f"the connection ended before any {types}")

    def register(self, **fields: Any) -> dict[str, Any]:
        """Central's answer."""
        own = {"location": "A", "price_per_kwh": "0.30", "currency": "EUR", "max_power_w": 22_000}
        self.say("register_request", **(own | fields))
        return self.hear("register_response")

    def be_ready(self) -> None:
        assert self.register()["accepted"]
        self.say("status_update", status="ACTIVE", engine_connected=True)

    def answer(self, command: dict[str, Any], code: str | None = None) -> None:
        self.say(
            "command_response",
            in_reply_to=command["message_id"],
            session_id=command["session_id"],
            accepted=code is None,
            code=code,
        )

    def begin(self, driver_id: str, **fields: Any) -> dict[str, Any]:
        """A charge that a driver has asked for here, and that runs: the ids of its readings."""
        self.say("charge_request", driver_id=driver_id, **fields)
        command = self.hear("start_charging_command")
        self.answer(command)
        return {"session_id": command["session_id"], "driver_id": driver_id}

    def complete(self, charge: dict[str, Any], energy_wh: int, seq: int = 1) -> dict[str, Any]:
        """The receipt, or the refusal."""
        now = datetime.now(UTC).isoformat()
        self.say(
            "charge_completion",
            **charge,
            seq=seq,
            energy_wh=energy_wh,
            end_reason="stopped",
            started_at=now,
            ended_at=now,
        )
        return self.hear("charge_completion_response", "error_response")

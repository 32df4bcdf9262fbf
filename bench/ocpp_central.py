"""The peer: a central system as a user of the package `ocpp` would begin it, for OCPP 1.6 on `websockets`.

    python bench/ocpp_central.py [--skip-schema-validation]

Has a handler for each of the four messages that a charge needs, and stores nothing. Prints its port.
"""

import asyncio
import itertools
import sys
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result
from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import Action, AuthorizationStatus, RegistrationStatus
from websockets.asyncio.server import ServerConnection, serve

SKIP = "--skip-schema-validation" in sys.argv
INTERVAL_S = 30
transaction_ids = itertools.count(1)


def now() -> str:
    return datetime.now(UTC).isoformat()


class AtCentral(ChargePoint):
    @on(Action.boot_notification, skip_schema_validation=SKIP)
    def on_boot_notification(self, **_: Any) -> call_result.BootNotification:
        return call_result.BootNotification(now(), INTERVAL_S, RegistrationStatus.accepted)

    @on(Action.heartbeat, skip_schema_validation=SKIP)
    def on_heartbeat(self) -> call_result.Heartbeat:
        return call_result.Heartbeat(now())

    @on(Action.start_transaction, skip_schema_validation=SKIP)
    def on_start_transaction(self, **_: Any) -> call_result.StartTransaction:
        return call_result.StartTransaction(next(transaction_ids), IdTagInfo(AuthorizationStatus.accepted))

    @on(Action.meter_values, skip_schema_validation=SKIP)
    def on_meter_values(self, **_: Any) -> call_result.MeterValues:
        return call_result.MeterValues()


async def take(connection: ServerConnection) -> None:
    assert connection.request is not None
    await AtCentral(connection.request.path.strip("/"), connection).start()


async def main() -> None:
    async with serve(take, "127.0.0.1", 0, subprotocols=["ocpp1.6"], backlog=4096) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""The echo server of asyncio's documentation, for as long as a connection lasts: what a connection costs anybody.

    python bench/echo_server.py PORT PORT_FILE

The event loop is uvloop, as Central's.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from evcharge.open_files import allow_open_files


async def handle_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main(port: int, port_file: Path) -> None:
    server = await asyncio.start_server(handle_echo, "127.0.0.1", port, backlog=4096)
    port_file.write_text(str(port))  # noqa: ASYNC240  # nobody is there yet
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    allow_open_files(20_000)
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))

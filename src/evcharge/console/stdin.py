"""Lines from stdin, read in a thread of its own."""

import asyncio
import os
import sys
import threading

READ_BYTES = 65536


def lines_of_stdin() -> "asyncio.Queue[str | None]":
    """Each line as it comes, and None at the end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    threading.Thread(target=_read, args=(lines, asyncio.get_running_loop()), name="stdin", daemon=True).start()
    return lines


def _read(lines: "asyncio.Queue[str | None]", loop: asyncio.AbstractEventLoop) -> None:
    # Not through sys.stdin: a thread that waits in it would keep the interpreter from ending.
    rest = b""
    try:
        # Without a stdin its number may be another file's by now.
        while sys.stdin is not None and (data := _some()):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace"))
        if rest:
            loop.call_soon_threadsafe(lines.put_nowait, rest.decode(errors="replace"))
        loop.call_soon_threadsafe(lines.put_nowait, None)
    except RuntimeError:
        return  # the program has ended


def _some() -> bytes:
    try:
        return os.read(0, READ_BYTES)
    except OSError:
        return b""  # no stdin, or its terminal has gone

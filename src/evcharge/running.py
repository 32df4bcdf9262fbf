"""How every program starts, stops and fails: signals and exit codes."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TextIO

import uvloop

from evcharge.errors import EnvironmentFault, EvchargeError, UsageError

LOWEST_FREE_DESCRIPTOR = 3

SERVICE_ENDS_WITHIN_S = 4.8

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 128 + signal.SIGINT


def open_standard_streams() -> None:
    """Give a program that was started with stdin, stdout or stderr closed, as some daemons are, empty ones.

    Their numbers would become those of the next sockets, which the program would then read and write by mistake.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < LOWEST_FREE_DESCRIPTOR:
        pass
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode))


def let_go(stream: TextIO) -> None:
    """Whoever read it has left: what is still written goes nowhere, and no flush at the end fails."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _end_at_last(after_s: float, code: int) -> None:
    """Should something still hold the program up then, such as a disk that hangs."""

    def end() -> None:
        with suppress(OSError):
            os.write(2, b"evcharge: it could not end in order in time, and was ended\n")
        os._exit(code)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()


def exit_code_of(error: EvchargeError) -> int:
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_ENVIRONMENT if isinstance(error, EnvironmentFault) else EXIT_FAILED


def run_until_signal(program: Callable[[asyncio.Event], Awaitable[int]], end_within_s: float | None = None) -> int:
    """Run `program`, which ends in order soon after its event is set; the exit code says how it ended.

    With `end_within_s` it is ended then, in order or not: what it has promised is on disk.

    0 or what `program` returns if it ended by itself, 130 after Ctrl-C, 143 after SIGTERM, 129 when its terminal
    is closed, unless that is ignored (`nohup`). A second Ctrl-C or SIGTERM ends the process at once.
    """
    signals: list[signal.Signals] = []

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopped_by(number: signal.Signals) -> None:
            signals.append(number)
            stop.set()
            if end_within_s is not None:
                _end_at_last(end_within_s, 128 + number)
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)
            if number is signal.SIGHUP:
                # A terminal that closes says so more than once, and would end us while we end in order.
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

        hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
        for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
            loop.add_signal_handler(number, stopped_by, number)
        return await program(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(main())
    return 128 + signals[0] if signals else code

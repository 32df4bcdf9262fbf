"""How every program starts, stops and fails: signals, exit codes, logs."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop
from structlog.typing import FilteringBoundLogger, Processor

from evcharge.errors import EnvironmentFault, EvchargeError, UsageError

LOWEST_FREE_DESCRIPTOR = 3

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 128 + signal.SIGINT

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def make_log(program: str, level: str) -> FilteringBoundLogger:
    """A log on stderr: for people on a terminal, else one JSON object a line."""
    for_people = sys.stderr.isatty()
    render: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if for_people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not for_people),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LOG_LEVELS[level]),
    ).bind(program=program)
    return log


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


def exit_code_of(error: EvchargeError) -> int:
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_ENVIRONMENT if isinstance(error, EnvironmentFault) else EXIT_FAILED


def run_until_signal(program: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run `program`, which ends in order soon after its event is set; the exit code says how it ended.

    0 or what `program` returns if it ended by itself, 130 after Ctrl-C, 143 after SIGTERM. A second signal
    ends the process at once.
    """
    signals: list[signal.Signals] = []

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopped_by(number: signal.Signals) -> None:
            signals.append(number)
            stop.set()
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped_by, number)
        return await program(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(main())
    return 128 + signals[0] if signals else code

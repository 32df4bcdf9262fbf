"""How a program ends: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evcharge.errors import (
    AddressInUse,
    DatabaseUnusable,
    EnvironmentFault,
    EvchargeError,
    IllegalTransition,
    UnknownDriver,
    UsageError,
)
from evcharge.running import exit_code_of

DEADLINE_S = 20

PROGRAM = """
import asyncio, sys
from evcharge.running import run_until_signal

async def program(stop):
    print("running", flush=True)
    {body}

sys.exit(run_until_signal(program{more}))
"""
WAITS_FOR_STOP = 'await stop.wait(); print("stopped in order", flush=True); return 0'
IGNORES_STOP = 'await stop.wait(); print("asked to stop", flush=True); await asyncio.Event().wait()'


@contextmanager
def started(body: str, more: str = "") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body, more=more)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests may have been told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program_in_order_and_names_itself_in_the_exit_code(
    number: signal.Signals, code: int
) -> None:
    with started(WAITS_FOR_STOP) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert out == "stopped in order\n"
    assert err == ""
    assert process.returncode == code


@pytest.mark.parametrize(
    "stuck", [IGNORES_STOP, "import time; await stop.wait(); await asyncio.to_thread(time.sleep, 60)"]
)
def test_a_service_that_is_stuck_ends_all_the_same_within_its_time(stuck: str) -> None:
    with started(stuck, more=", end_within_s=0.3") as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 143
    assert "in time" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_program_at_once(number: signal.Signals) -> None:
    with started(IGNORES_STOP) as process:
        assert process.stdout is not None
        process.send_signal(number)
        assert process.stdout.readline() == "asked to stop\n"
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    # What a shell makes of a process that a signal has ended, or the same code from the process itself.
    assert process.returncode in (-number, 128 + number)


def test_a_terminal_that_is_closed_ends_the_program_in_order_however_often_it_says_so() -> None:
    with started('await stop.wait(); print("asked", flush=True); sys.stdin.readline(); return 0') as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "asked\n"
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 129


def test_a_program_that_is_told_to_ignore_it_outlives_its_terminal() -> None:
    program = PROGRAM.format(body=WAITS_FOR_STOP, more="")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 143


@pytest.mark.parametrize("code", [0, 1, 5])
def test_a_program_that_ends_by_itself_says_how(code: int) -> None:
    with started(f"return {code}") as process:
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_real_program_ends_so_too(tmp_path: Path, number: signal.Signals, code: int) -> None:
    arguments = ["monitor", "CP001", "--engine", "127.0.0.1:1", "--central", "127.0.0.1:2"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from evcharge.cli import main; main()", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("EVCHARGE_")},
    )
    with process:
        try:
            assert process.stderr is not None
            assert "waiting_for_peer" in process.stderr.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert "Traceback" not in err
    assert process.returncode == code


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_program_without_stdin_or_stdout_ends_as_any_other(tmp_path: Path, closed: str) -> None:
    """As a daemon is started that has its descriptors closed: their numbers must not become a socket's."""
    with shell(
        closed, tmp_path, "monitor", "CP001", "--engine", "127.0.0.1:1", "--central", "127.0.0.1:2"
    ) as process:
        assert process.stderr is not None
        assert "waiting_for_peer" in process.stderr.readline()
        process.terminate()
        err = process.stderr.read()
        assert process.wait(DEADLINE_S) == 143
    assert "Assertion" not in err


def test_a_program_without_stderr_works(tmp_path: Path) -> None:
    with shell("2>&-", tmp_path, "engine", "--kafka", "127.0.0.1:1") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("engine listens on port ")
        process.terminate()
        assert process.wait(DEADLINE_S) == 143


@contextmanager
def shell(redirections: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-c", "from evcharge.cli import main; main()", *arguments]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("EVCHARGE_")},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (EnvironmentFault("x"), 3),
        (AddressInUse("x"), 3),
        (DatabaseUnusable("x"), 3),
        (EvchargeError("x"), 1),
        (IllegalTransition("x"), 1),
        (UnknownDriver("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: EvchargeError, code: int) -> None:
    assert exit_code_of(error) == code

"""A console without a screen: commands from a pipe or at a prompt; which of its forms a console takes."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from evcharge.console import front
from evcharge.console.events import EventLog
from evcharge.console.front import Front, attended, run_front
from evcharge.console.shell import Commands
from evcharge.errors import AddressInUse

DEADLINE_S = 20

PROGRAM = """
import asyncio, sys
from rich.text import Text
from evcharge.console.events import EventLog
from evcharge.console.front import Front, attended, run_front
from evcharge.console.shell import Command, Commands

async def say(words):
    return repr(words)

async def happen(words):
    events.tell(" ".join(words))
    return ""

events = EventLog()
commands = {"say": Command("WORDS", "repeat", say), "happen": Command("WORDS", "tell an event", happen)}
shown = Front("a test", Commands(commands, "leave"), lambda width, height: Text("panels"), events, %(ends)s)

async def server():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stop.set)
    print("serving", flush=True)
    await attended(stop.wait(), shown, stop)

async def user():
    await run_front(shown, asyncio.Event())

asyncio.run(%(main)s())
print("ended")
"""
USER = [sys.executable, "-c", PROGRAM % {"ends": True, "main": "user"}]
SERVER = [sys.executable, "-c", PROGRAM % {"ends": False, "main": "server"}]


def run(program: list[str], typed: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(program, input=typed, capture_output=True, timeout=DEADLINE_S, check=False)


# From a pipe


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        (
            b"say a\nnonsense\nsay b",
            "['a']\nerror: there is no command 'nonsense'; 'help' lists the commands\n['b']\n",
        ),
        (b"say a\n  quit  \nsay b\n", "['a']\n"),
        (b"\n\nsay \xff\r\nexit\n", "['\ufffd']\n"),
        (b"happen it rains\nsay a\n", "it rains\n['a']\n"),
        (b"nonsense\x1b[31m\n", "error: there is no command 'nonsense\\x1b[31m'; 'help' lists the commands\n"),
        (b"", ""),
    ],
    ids=["lines", "quit", "bytes", "events", "control characters", "nothing"],
)
def test_commands_come_from_a_pipe_without_a_prompt(typed: bytes, printed: str) -> None:
    done = run(USER, typed)
    assert done.stdout.decode() == printed + "ended\n"
    assert done.stderr == b""
    assert done.returncode == 0


def test_quit_ends_a_server() -> None:
    done = run(SERVER, b"happen it rains\nsay a\nquit\n")
    assert done.stdout == b"serving\n['a']\nended\n"


@pytest.mark.parametrize("ends_with_stdin", [False, True])
@pytest.mark.parametrize(("lines", "stops"), [([None], False), (["status", None], False), (["quit"], True)])
def test_only_quit_stops_a_server(
    monkeypatch: pytest.MonkeyPatch, ends_with_stdin: bool, lines: list[str | None], stops: bool
) -> None:
    async def run() -> bool:
        stdin: asyncio.Queue[str | None] = asyncio.Queue()
        for line in lines:
            stdin.put_nowait(line)
        monkeypatch.setattr(front, "lines_of_stdin", lambda: stdin)
        monkeypatch.setattr(front, "is_full_screen", lambda: False)
        stop = asyncio.Event()
        await run_front(Front("", Commands({}, ""), lambda width, height: "", EventLog(), ends_with_stdin), stop)
        return stop.is_set()

    assert asyncio.run(run()) == (stops and not ends_with_stdin)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_attended_ends_its_console(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        if fails:
            raise AddressInUse("the address is taken")
        return 5

    async def run() -> int:
        shown = Front("", Commands({}, ""), lambda width, height: "", EventLog())
        result = await attended(work(), shown, asyncio.Event())
        await asyncio.sleep(0)  # what was cancelled ends
        assert len(asyncio.all_tasks()) == 1
        return result

    monkeypatch.setattr(front, "lines_of_stdin", asyncio.Queue)
    if fails:
        with pytest.raises(AddressInUse):
            asyncio.run(run())
    else:
        assert asyncio.run(run()) == 5


@contextmanager
def serving() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"serving\n"
            yield process
        finally:
            process.kill()


def test_a_server_whose_stdout_nobody_reads_any_more_goes_on() -> None:
    with serving() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"say a\nsay b\nquit\n")
        process.stdin.flush()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_S) == 0


def test_without_any_stdin_it_ends_as_if_that_were_empty() -> None:
    """As a daemon is started that has its descriptors closed."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *USER], capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert (done.stdout.decode(), done.stderr.decode()) == ("ended\n", "")


# At a prompt


def test_at_a_terminal_without_a_screen_it_prompts_and_each_answer_comes_at_once() -> None:
    terminal, stdin = pty.openpty()
    with subprocess.Popen(USER, stdin=stdin, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(2) == "> "
            os.write(terminal, b"say a\n")
            assert process.stdout.read(8) == "['a']\n> "
            os.write(terminal, b"quit\n")
            assert process.stdout.read() == "ended\n"
        finally:
            process.kill()
            os.close(terminal)
            os.close(stdin)


# Which form it takes


class Stream:
    def __init__(self, terminal: bool) -> None:
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("term", "stdin", "stdout", "background", "headless", "full"),
    [
        ("xterm", True, True, False, False, True),
        ("dumb", True, True, False, False, False),
        ("", True, True, False, False, False),
        (None, True, True, False, False, False),
        ("xterm", False, True, False, False, False),
        ("xterm", True, False, False, False, False),
        ("xterm", True, True, True, False, False),
        ("xterm", True, True, False, True, False),
    ],
)
def test_a_screen_needs_a_terminal_that_can_do_it(
    monkeypatch: pytest.MonkeyPatch,
    term: str | None,
    stdin: bool,
    stdout: bool,
    background: bool,
    headless: bool,
    full: bool,
) -> None:
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stdin", Stream(stdin))
    monkeypatch.setattr(sys, "stdout", Stream(stdout))
    monkeypatch.setattr(front, "_in_background", lambda: background)
    assert front.is_full_screen(headless) == full


def test_no_program_loads_the_screen_before_it_needs_it() -> None:
    """It would cost a driver's command more time than all else."""
    look = "import sys, evcharge.cli; print([name for name in sys.modules if name.startswith('textual')])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, timeout=DEADLINE_S, check=True)
    assert done.stdout == b"[]\n"


def test_a_program_in_the_background_leaves_the_terminal_alone() -> None:
    """As with `&` in a shell: it would be stopped if it read, or drew."""
    script = f'exec 2>&1; set -m; {sys.executable} -c "$PROGRAM" & wait $!; echo code $?'
    pid, terminal = pty.fork()
    if pid == 0:
        environment = os.environ | {"TERM": "xterm", "PROGRAM": PROGRAM % {"ends": True, "main": "user"}}
        os.execve("/bin/bash", ["bash", "--norc", "-c", script], environment)
    said = b""
    try:
        while b"code" not in said:
            said += os.read(terminal, 1000)
    except OSError:
        pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"ended" in said
    assert b"code 0" in said

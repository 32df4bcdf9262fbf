"""The command line of the consoles: one command a line, one answer each, and no line that ends it but `quit`."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.console.shell import MAX_KWH, Command, Shell, energy_wh_of, number
from evcharge.errors import EvchargeError, UsageError


async def echo(words: list[str]) -> str:
    return repr(words)


async def refuse(words: list[str]) -> str:
    raise UsageError("say: refuse NOTHING")


async def fail(words: list[str]) -> str:
    raise EvchargeError("Central does not answer")


async def silent(words: list[str]) -> str:
    return ""


COMMANDS = {
    "charge": Command("CP_ID [KWH]", "ask for a charge", echo),
    "status": Command("", "how it stands", echo),
    "refuse": Command("", "say no", refuse),
    "fail": Command("", "not work", fail),
    "silent": Command("", "say nothing", silent),
}


def answer(line: str) -> str:
    return asyncio.run(Shell(COMMANDS).answer(line))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("charge", []),
        ("charge CP001 5", ["CP001", "5"]),
        ("  charge \t CP001  ", ["CP001"]),
        ("charge \"Main Street\" 'a b'", ["Main Street", "a b"]),
        ("charge CP001 # a comment", ["CP001"]),
        ("charge ''", [""]),
        ("charge é", ["é"]),
    ],
)
def test_a_command_gets_its_words(line: str, words: list[str]) -> None:
    assert answer(line) == repr(words)


@pytest.mark.parametrize("line", ["", "   ", "# only a comment", "\t", "\r"])
def test_an_empty_line_gets_no_answer(line: str) -> None:
    assert answer(line) == ""


def test_a_command_may_have_nothing_to_say() -> None:
    assert answer("silent") == ""


@pytest.mark.parametrize(
    ("line", "near"), [("charg CP001", "charge"), ("chrage", "charge"), ("stats", "status"), ("STATUS", None)]
)
def test_an_unknown_command_names_the_nearest(line: str, near: str | None) -> None:
    said = answer(line)
    assert said.startswith(f"error: there is no command '{line.split()[0]}'; ")
    assert (f"did you mean '{near}'?" in said) == (near is not None)


def test_a_command_unlike_any_other_is_sent_to_help() -> None:
    assert answer("xyzzy") == "error: there is no command 'xyzzy'; 'help' lists the commands"


def test_an_unknown_command_is_shown_without_control_characters() -> None:
    assert answer("\x1b[31mred") == "error: there is no command '\\x1b[31mred'; 'help' lists the commands"


@pytest.mark.parametrize("line", ['charge "CP001', "charge 'CP001", "charge CP001\\"])
def test_a_quote_that_does_not_end_is_told(line: str) -> None:
    assert answer(line).startswith("error: No ")


def test_what_a_command_says_against_it_is_the_answer() -> None:
    assert answer("refuse") == "error: say: refuse NOTHING"
    assert answer("fail") == "error: Central does not answer"


def test_help_lists_each_command_with_what_it_takes() -> None:
    lines = answer("help").splitlines()
    assert [line.split()[0] for line in lines] == [*COMMANDS, "help", "quit"]
    assert lines[0] == "charge CP_ID [KWH]  ask for a charge"
    assert {line.index(text) for line, text in zip(lines, ("ask for", "how it", "say no"), strict=False)} == {20}


@given(st.text(max_size=50))
def test_no_line_ends_the_shell(line: str) -> None:
    said = answer(line)
    assert isinstance(said, str)


# From a pipe

PROGRAM = """
import asyncio
from evcharge.console.shell import Command, Shell

async def echo(words):
    return repr(words)

asyncio.run(Shell({"say": Command("WORDS", "repeat", echo)}, prompt="> ").run())
print("ended")
"""


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        (
            b"say a\nnonsense\nsay b",
            "['a']\nerror: there is no command 'nonsense'; 'help' lists the commands\n['b']\n",
        ),
        (b"say a\n  quit  \nsay b\n", "['a']\n"),
        (b"\n\nsay \xff\r\nexit\n", "['\ufffd']\n"),
        (b"", ""),
    ],
    ids=["lines", "quit", "bytes", "nothing"],
)
def test_commands_come_from_a_pipe_without_a_prompt(typed: bytes, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=typed, capture_output=True, timeout=20, check=False
    )
    assert done.stdout.decode() == printed + "ended\n"
    assert done.stderr == b""
    assert done.returncode == 0


def test_at_a_terminal_it_prompts_and_each_answer_comes_at_once() -> None:
    terminal, stdin = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=stdin, stdout=subprocess.PIPE, text=True
    ) as shell:
        try:
            assert shell.stdout is not None
            assert shell.stdout.read(2) == "> "
            os.write(terminal, b"say a\n")
            assert shell.stdout.read(8) == "['a']\n> "
            os.write(terminal, b"quit\n")
            assert shell.stdout.read() == "ended\n"
        finally:
            shell.kill()
            os.close(terminal)
            os.close(stdin)


def test_a_shell_without_any_stdin_ends_as_if_it_were_empty() -> None:
    """As a daemon is started that has its descriptors closed."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, PROGRAM],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.stdout.decode(), done.stderr.decode()) == ("ended\n", "")


# Numbers


@pytest.mark.parametrize(
    ("text", "wh"),
    [("1", 1000), ("0.001", 1), ("1000", 1_000_000), ("7.5", 7500), ("0.0015", 2), ("1e1", 10_000), (" 2 ", 2000)],
)
def test_an_energy_in_kwh_is_taken_in_wh(text: str, wh: int) -> None:
    assert energy_wh_of(text) == wh


@pytest.mark.parametrize(
    "text", ["0", "0.0009", "-1", "1000.001", "nan", "inf", "-inf", "1e400", "", "five", "5 kWh", "0x10", "1,5"]
)
def test_what_is_no_energy_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        energy_wh_of(text)
    assert str(caught.value) == f"the energy in kWh must be a number from 0.001 to 1000, not {text!a}"


def test_the_most_energy_is_what_a_message_can_carry() -> None:
    assert MAX_KWH * 1000 <= 10**9


@given(st.floats(0, 100))
def test_a_number_within_its_range_is_taken(value: float) -> None:
    assert number(repr(value), "the state of charge", 0, 100) == value


@given(st.floats(max_value=-0.001) | st.floats(min_value=100.001) | st.just(float("nan")))
def test_a_number_out_of_its_range_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="the state of charge must be a number from 0 to 100, not"):
        number(repr(value), "the state of charge", 0, 100)


@given(st.text(max_size=10))
def test_whatever_is_typed_is_a_number_or_refused_in_printable_words(text: str) -> None:
    assert outcome(text).isprintable()


def outcome(text: str) -> str:
    try:
        value = number(text, "it", 0, 100)
    except UsageError as refused:
        return str(refused)
    assert 0 <= value <= 100
    return "taken"

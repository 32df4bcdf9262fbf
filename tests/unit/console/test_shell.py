"""What one can say to a console: one command a line, one answer each, completion, help, and numbers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.console.shell import (
    MAX_KWH,
    Command,
    Commands,
    energy_wh_of,
    is_quit,
    no_more,
    number,
    whole_number,
)
from evcharge.errors import EvchargeError, UsageError


async def echo(words: list[str]) -> str:
    return repr(words)


async def refuse(words: list[str]) -> str:
    raise UsageError("say: refuse NOTHING")


async def fail(words: list[str]) -> str:
    raise EvchargeError("Central does not answer")


async def silent(words: list[str]) -> str:
    return ""


async def broken(words: list[str]) -> str:
    return {"y": "z"}["x"]


POINTS = ["CP001", "CP002", "STATION:1"]
COMMANDS = {
    "charge": Command("CP_ID [KWH]", "ask for a charge", echo, (lambda: POINTS, lambda: ["5", "10"])),
    "status": Command("", "how it stands", echo),
    "refuse": Command("", "say no", refuse),
    "fail": Command("", "not work", fail),
    "silent": Command("", "say nothing", silent),
    "broken": Command("", "show a bug", broken),
}


def answer(line: str) -> str:
    return asyncio.run(Commands(COMMANDS, "leave").answer(line))


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
    assert answer(line).startswith("error: no ")


def test_what_a_command_says_against_it_is_the_answer() -> None:
    assert answer("refuse") == "error: say: refuse NOTHING"
    assert answer("fail") == "error: Central does not answer"


def test_help_shows_one_command() -> None:
    assert answer("help charge") == "charge CP_ID [KWH]  ask for a charge"
    assert answer("help quit") == "quit  leave"
    assert answer("help chrage") == "error: there is no command 'chrage'; did you mean 'charge'?"
    assert answer("help charge stop") == "error: say: help [COMMAND]"


def test_help_lists_each_command_with_what_it_takes() -> None:
    lines = answer("help").splitlines()
    assert [line.split()[0] for line in lines] == [*COMMANDS, "help", "quit"]
    assert lines[0] == "charge CP_ID [KWH]  ask for a charge"
    assert {line.index(text) for line, text in zip(lines, ("ask for", "how it", "say no"), strict=False)} == {20}


@given(st.text(max_size=50))
def test_no_line_ends_the_shell(line: str) -> None:
    said = answer(line)
    assert isinstance(said, str)


# What went wrong


def run(line: str) -> str:
    return asyncio.run(Commands(COMMANDS, "leave").run(line))


def test_one_can_be_told_an_error_as_such() -> None:
    assert run("charge CP001") == "['CP001']"
    with pytest.raises(UsageError, match="did you mean 'charge'"):
        run("charg CP001")
    with pytest.raises(EvchargeError, match="Central does not answer"):
        run("fail")
    with pytest.raises(UsageError, match="no closing quotation"):
        run("charge 'CP001")


def test_a_bug_in_a_command_is_an_answer_that_names_it() -> None:
    assert answer("broken") == "error: this command has a bug, KeyError: 'x'"


# Completion


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("", [*COMMANDS, "help", "quit"]),
        ("s", ["status", "silent"]),
        ("ch", ["charge"]),
        ("charge", []),
        ("charge ", ["charge CP001", "charge CP002", "charge STATION:1"]),
        ("charge CP", ["charge CP001", "charge CP002"]),
        ("charge CP001", []),
        ("charge  ST", ["charge  STATION:1"]),
        ("charge CP001 ", ["charge CP001 5", "charge CP001 10"]),
        ("charge CP001 5 ", []),
        ("charge x 1", ["charge x 10"]),
        ("nonsense ", []),
        ("status ", []),
        ("help st", ["help status"]),
        ("xyz", []),
    ],
)
def test_a_line_is_completed(line: str, lines: list[str]) -> None:
    assert Commands(COMMANDS, "leave").complete(line) == lines


def test_what_an_argument_may_be_is_asked_for_each_time() -> None:
    ids = ["CP001"]
    commands = Commands({"charge": Command("CP_ID", "ask", echo, (lambda: ids,))}, "leave")
    assert commands.complete("charge ") == ["charge CP001"]
    ids.append("CP002")
    assert commands.complete("charge ") == ["charge CP001", "charge CP002"]


@given(st.text(max_size=20))
def test_whatever_is_completed_goes_on_with_the_line(line: str) -> None:
    assert all(whole.startswith(line) for whole in Commands(COMMANDS, "leave").complete(line))


# To leave


@pytest.mark.parametrize(
    ("line", "leaves"), [("quit", True), (" exit ", True), ("quit now", False), ("", False), ("QUIT", False)]
)
def test_quit_leaves(line: str, leaves: bool) -> None:
    assert is_quit(line) == leaves


# Numbers


@pytest.mark.parametrize(
    ("text", "wh"),
    [("1", 1000), ("0.001", 1), ("1000", 1_000_000), ("7.5", 7500), ("0.0015", 2), ("007", 7000)],
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
    assert number(f"{value:.20f}", "the state of charge", 0, 100) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1_0", "٣", " 2 ", "2\n", ".5", "5.", "+2", "1e1", "0x2", "2,5", "１"])
def test_a_number_in_another_notation_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"the energy in kWh must be a number from 0\.001 to 1000, not"):
        energy_wh_of(text)


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


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("20", 20), ("007", 7)])
def test_a_whole_number_is_taken(text: str, value: int) -> None:
    assert whole_number(text, "how many", 1, 20) == value


@pytest.mark.parametrize("text", ["0", "21", "-1", "1.0", "", "many", "1e1", "٣", "²", "9" * 5000])
def test_what_is_no_whole_number_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        whole_number(text, "how many", 1, 20)
    assert str(caught.value) == f"how many must be a whole number from 1 to 20, not {text!a}"


def test_a_command_without_arguments_takes_none() -> None:
    no_more([], "status")
    with pytest.raises(UsageError, match="status takes nothing more, not 'now please'"):
        no_more(["now", "please"], "status")

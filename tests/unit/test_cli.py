"""The `evcharge` command: every option is explained, has a variable, and says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer.main

from evcharge import __version__, cli, options
from evcharge.central.arguments import day_of, kind_and_id, price_of, session_id_of
from evcharge.driver.answers import read_wishes
from evcharge.errors import UsageError
from evcharge.fleet import fleet_ids
from evcharge.transport.tcp import Address

# What the commands cannot do without.
ARGUMENTS = {"cp_id": "CP001", "driver_id": "D1", "driver_ids": "D1", "file": "sessions.csv", "name": "maria"}
OPTIONS = {"--engine": "localhost:1", "--count": "3", "--role": "viewer"}

# A value other than the default, for the options that do not take just any text.
OTHER = {
    "--zone": "Europe/Berlin",
    "--kafka": "kafka:9093",
    "--central": "central:5001",
    "--engine": "engine:5002",
    "--price": "0.45",
    "--currency": "CHF",
    "--topic-prefix": "north.",
    "--prefix": "STATION",
    "--log-level": "debug",
    "--on-central-loss": "stop",
    "--energy": "7.5",
    "--http": "localhost:8081",
    "--role": "operator",
    "--current": "dc",
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What went to stderr, without the frame and the line breaks that it is drawn with."""
        return " ".join(re.sub("[│╭╮╰╯─]", " ", self.err).split())


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `evcharge` with these arguments, in an empty folder and without settings of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str, program: Callable[[], None] = cli.main) -> Done:
        monkeypatch.setattr(sys, "argv", ["evcharge", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVCHARGE_")]:
        monkeypatch.delenv(name)


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from walk(child, (*path, name))
    else:
        yield path, command


COMMANDS = dict(walk(typer.main.get_command(cli.app)))
PATHS = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def options_of(path: tuple[str, ...]) -> list[Any]:
    return [param for param in COMMANDS[path].params if param.param_type_name == "option"]


ALL_OPTIONS = [(path, option.opts[0]) for path in COMMANDS for option in options_of(path)]
EVERY_OPTION = pytest.mark.parametrize(
    ("path", "flag"), ALL_OPTIONS, ids=[" ".join([*path, flag]) for path, flag in ALL_OPTIONS]
)


def option_of(path: tuple[str, ...], flag: str) -> Any:
    return next(option for option in options_of(path) if flag in option.opts)


def required(path: tuple[str, ...]) -> list[str]:
    words: list[str] = []
    for param in COMMANDS[path].params:
        if param.required and param.param_type_name == "argument":
            words.append(ARGUMENTS[param.name])
        elif param.required:
            words += [param.opts[0], OPTIONS[param.opts[0]]]
    return words


def parsed(path: tuple[str, ...], *more: str) -> dict[str, Any]:
    """What the command would be called with; nothing of it is run."""
    context = COMMANDS[path].make_context(path[-1], [*required(path), *more])
    assert isinstance(context.params, dict)
    return context.params


def other_value(option: Any) -> str:
    if option.is_flag:
        return "true"
    if option.opts[0] in OTHER:
        return OTHER[option.opts[0]]
    return "7" if option.default != 7 else "8"


# Help


def test_all_programs_of_the_seed_are_there() -> None:
    assert {("central",), ("monitor",), ("engine",), ("driver",)} <= set(COMMANDS)


@PATHS
def test_help_shows_each_option_with_its_default_and_its_variable(run: Run, path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.code == 0
    lines = shown.out.splitlines()
    for option in options_of(path):
        (line,) = [line for line in lines if re.search(rf" {option.opts[0]} ", line)]
        assert f"[env var: {option.envvar}]" in line
        assert option.help.split(".")[0] in line
        if option.default not in (None, False, "") and not option.required:
            assert f"[default: {option.default}]" in line
        if option.required:
            assert "[required]" in line


@PATHS
def test_help_says_what_the_command_is_for(run: Run, path: tuple[str, ...]) -> None:
    assert len(COMMANDS[path].help.splitlines()[0]) > 10
    assert " ".join(COMMANDS[path].help.split()) in " ".join(run(*path, "--help").out.split())


def test_the_key_is_not_shown_as_a_default(run: Run) -> None:
    (line,) = [line for line in run("monitor", "--help").out.splitlines() if " --key " in line]
    assert "default" not in line


@pytest.mark.parametrize("arguments", [(), ("cp",), ("drivers",)])
def test_without_a_command_there_is_help(run: Run, arguments: tuple[str, ...]) -> None:
    shown = run(*arguments)
    assert shown.code == 2
    assert "Usage: evcharge" in shown.out + shown.err
    assert "--help" in shown.out + shown.err


PROGRAMS = {
    "evcharge": cli.main,
    "EV_Central": cli.ev_central,
    "EC_CP_M": cli.ec_cp_m,
    "EV_CP_E": cli.ev_cp_e,
    "EV_Driver": cli.ev_driver,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_tells_its_version(run: Run, name: str) -> None:
    shown = run("--version", program=PROGRAMS[name])
    assert (shown.code, shown.out) == (0, f"{name} {__version__}\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_helps_with_a_single_letter(run: Run, name: str) -> None:
    shown = run("-h", program=PROGRAMS[name])
    assert shown.code == 0
    assert f"Usage: {name} " in shown.out
    assert "--version" in shown.out


@pytest.mark.parametrize("words", [(), ("cp",), ("drivers",), ("token",), *COMMANDS], ids=" ".join)
def test_every_command_has_a_short_help_and_shows_flags_as_flags(run: Run, words: tuple[str, ...]) -> None:
    short, long = run(*words, "-h"), run(*words, "--help")
    assert (short.code, short.out) == (0, long.out)
    assert not re.search("bool", short.out, re.I), "a flag takes no value"
    if words in COMMANDS:
        for option in options_of(words):
            assert option.opts[0] in short.out
            assert option.envvar is None or f"[env var: {option.envvar}]" in short.out


@pytest.mark.parametrize(
    ("program", "option"),
    [
        (cli.ev_central, "--heartbeat-timeout"),
        (cli.ec_cp_m, "--engine"),
        (cli.ev_cp_e, "--journal"),
        (cli.ev_driver, "--wait"),
    ],
)
def test_the_programs_go_by_the_names_of_the_seed_too(run: Run, program: Callable[[], None], option: str) -> None:
    shown = run("--help", program=program)
    assert shown.code == 0
    assert option in shown.out


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (cli.ev_central, "EV_Central"),
        (cli.ec_cp_m, "EC_CP_M"),
        (cli.ev_cp_e, "EV_CP_E"),
        (cli.ev_driver, "EV_Driver"),
    ],
)
def test_under_its_own_name_a_program_speaks_of_itself_by_it(
    run: Run, program: Callable[[], None], name: str
) -> None:
    assert f"Usage: {name} [OPTIONS]" in run("--help", program=program).out
    assert f"Try '{name} --help'" in run("--fly", program=program).err


# Defaults and the environment


@PATHS
def test_a_command_needs_nothing_but_what_it_calls_required(path: tuple[str, ...]) -> None:
    params = parsed(path)
    for option in options_of(path):
        if not option.required:
            assert params[option.name] == option.default


@EVERY_OPTION
def test_every_option_has_the_variable_of_its_name(path: tuple[str, ...], flag: str) -> None:
    assert option_of(path, flag).envvar == "EVCHARGE_" + flag.removeprefix("--").replace("-", "_").upper()


@EVERY_OPTION
def test_every_variable_is_taken_as_the_option_would_be(
    path: tuple[str, ...], flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = option_of(path, flag)
    value = other_value(option)
    words = [flag] if option.is_flag else [flag, value]
    monkeypatch.delitem(OPTIONS, flag, raising=False)
    monkeypatch.setattr(option, "required", False)
    given = parsed(path, *words)[option.name]
    assert given != option.default
    monkeypatch.setenv(option.envvar, value)
    assert parsed(path)[option.name] == given


def test_what_is_typed_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVCHARGE_PORT", "7001")
    assert parsed(("central",), "--port", "7002")["port"] == 7002


def test_the_database_of_the_environment_is_used(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVCHARGE_DB", str(tmp_path / "elsewhere.db"))
    assert run("drivers", "add", "D1").code == 0
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "evcharge.db").exists()


def test_a_wrong_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVCHARGE_PRICE", "NaN")
    done = run("monitor", "CP001", "--engine", "localhost:1", "--central", "localhost:2")
    assert done.code == 2
    assert "EVCHARGE_PRICE" in done.said
    assert "'NaN'" in done.said


# Wrong arguments

MONITOR = ("monitor", "CP001", "--engine", "localhost:1", "--central", "localhost:2")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fly",), "No such command 'fly'"),
        (("cp", "fly"), "No such command 'fly'"),
        (("central", "--fly"), "No such option: --fly"),
        (("central", "now"), "unexpected extra argument"),
        (("monitor",), "Missing argument 'CP_ID'"),
        (("monitor", "CP001"), "Missing option '--engine'"),
        (
            ("monitor", "no id", "--engine", "localhost:1"),
            "'no id' is no id; an id has 1 to 64 letters, digits or",
        ),
        (("monitor", "", "--engine", "localhost:1"), "'' is no id"),
        (("monitor", "x" * 65, "--engine", "localhost:1"), "is no id"),
        (("monitor", "A/B", "--engine", "localhost:1"), "'A/B' is no id"),
        (("monitor", "A\n", "--engine", "localhost:1"), "'A\\n' is no id"),
        (("monitor", "é", "--engine", "localhost:1"), "'\\xe9' is no id"),
        (("cp", "add", "a b"), "'a b' is no id"),
        (("cp", "remove", "a b"), "'a b' is no id"),
        (("drivers", "add", "a b"), "'a b' is no id"),
        (("drivers", "remove", "a b"), "'a b' is no id"),
        (("driver", "a b", "list"), "'a b' is no id"),
        (("driver", "D1", "charge", "a b"), "'a b' is no id"),
        (("monitor", "CP001", "--engine", "localhost"), "expected HOST:PORT, not 'localhost'"),
        (("monitor", "CP001", "--engine", ":1"), "expected HOST:PORT, not ':1'"),
        (("monitor", "CP001", "--engine", "localhost:"), "expected HOST:PORT"),
        (("monitor", "CP001", "--engine", "localhost:0"), "expected HOST:PORT"),
        (("monitor", "CP001", "--engine", "localhost:65536"), "expected HOST:PORT"),
        (("monitor", "CP001", "--engine", "localhost:-1"), "expected HOST:PORT"),
        (("monitor", "CP001", "--engine", "localhost:http"), "expected HOST:PORT"),
        (("monitor", "CP001", "--engine", "localhost:" + "9" * 5000), "--engine"),
        ((*MONITOR, "--central", "nowhere"), "expected HOST:PORT, not 'nowhere'"),
        (("central", "--kafka", "nowhere"), "expected HOST:PORT, not 'nowhere'"),
        (("central", "--kafka", "one:1,two"), "expected HOST:PORT, not 'two'"),
        (("central", "--kafka", ""), "expected HOST:PORT, not ''"),
        (("central", "--port", "-1"), "--port"),
        (("central", "--port", "65536"), "--port"),
        (("central", "--port", "http"), "--port"),
        (("central", "--partitions", "0"), "--partitions"),
        (("central", "--heartbeat-timeout", "-1"), "--heartbeat-timeout"),
        (("central", "--heartbeat-timeout", "soon"), "--heartbeat-timeout"),
        (("central", "--log-level", "loud"), "expected debug, info, warning or error, not 'loud'"),
        ((*MONITOR, "--price", "NaN"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "sNaN"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "Infinity"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "-0.01"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "1000.01"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "0.1234567"), "at most 6 decimals, not '0.1234567'"),
        ((*MONITOR, "--price", "1E+999999999"), "expected a price from 0 to 1000"),
        ((*MONITOR, "--price", "free"), "not 'free'"),
        ((*MONITOR, "--price", ""), "not ''"),
        ((*MONITOR, "--currency", "euro"), "expected a currency of ISO 4217 such as EUR, not 'euro'"),
        ((*MONITOR, "--currency", "eur"), "expected a currency of ISO 4217"),
        ((*MONITOR, "--currency", "E1R"), "expected a currency of ISO 4217"),
        ((*MONITOR, "--currency", "ABC"), "expected a currency of ISO 4217 such as EUR, not 'ABC'"),
        ((*MONITOR, "--currency", "XAU"), "expected a currency of ISO 4217"),
        (("fleet", "--count", "2", "--currency", "ABC"), "expected a currency of ISO 4217"),
        ((*MONITOR, "--currency", "ÉUR"), "expected a currency of ISO 4217"),
        ((*MONITOR, "--on-central-loss", "panic"), "expected continue or stop, not 'panic'"),
        ((*MONITOR, "--max-power", "0"), "--max-power"),
        ((*MONITOR, "--location", "x" * 501), "--location"),
        ((*MONITOR, "--location", "a\x1bb"), "--location"),
        ((*MONITOR, "--location", "a\udcffb"), "--location"),
        ((*MONITOR, "--key", "x" * 501), "--key"),
        ((*MONITOR, "--key", "a\udcffb"), "--key"),
        (("central", "--zone", "Europe/Atlantis"), "expected a time zone's name (IANA) such as Europe/Berlin"),
        (("engine", "--soc", "101"), "--soc"),
        (("engine", "--battery", "-5"), "--battery"),
        (("engine", "--time-scale", "0"), "--time-scale"),
        (("fleet",), "Missing option '--count'"),
        (("fleet", "--count", "0"), "--count"),
        (("fleet", "--count", "-3"), "--count"),
        (("fleet", "--count", "3", "--prefix", "a b"), "'a b' is no id"),
        (("driver", "D1", "--limit", "0"), "--limit"),
        (("driver", "D1", "--timeout", "-1"), "--timeout"),
    ],
    ids=lambda value: (
        " ".join(value)[-40:].encode("ascii", "replace").decode() if isinstance(value, tuple) else ""
    ),
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    run: Run, arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(program: object) -> None:
        raise AssertionError("it was taken, and the program started")

    monkeypatch.setattr(cli, "run_until_signal", started)
    done = run(*arguments)
    assert done.code == 2
    assert sentence in done.said
    assert "Traceback" not in done.err
    assert done.out == ""


def takes_a_number(path: tuple[str, ...], flag: str) -> bool:
    option = option_of(path, flag)
    return isinstance(option.default, int | float) and not option.is_flag


NUMBERS = [(path, flag) for path, flag in ALL_OPTIONS if takes_a_number(path, flag)]


@pytest.mark.parametrize(("path", "flag"), NUMBERS, ids=[" ".join([*path, flag]) for path, flag in NUMBERS])
def test_no_number_is_taken_that_is_none(path: tuple[str, ...], flag: str) -> None:
    for number in ("nan", "-1", "1e999", "-inf", ""):
        with pytest.raises(typer.BadParameter):
            parsed(path, flag, number)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (*MONITOR, "--reconnect-min", "5", "--reconnect-max", "1"),
            "--reconnect-max (1 s) is less than --reconnect-min (5 s)",
        ),
        (
            ("driver", "D1", "fly"),
            "there is no command 'fly'; the commands are list, charge, status, stop, history",
        ),
        (("driver", "D1", "charge"), "charge needs the id of a charge point: charge CP_ID"),
        (("driver", "D1", "charge", "CP001", "--energy", "nan"), "the energy in kWh must be a number from 0.001"),
        (("driver", "D1", "charge", "CP001", "--energy", "-1"), "the energy in kWh must be a number from 0.001"),
        (("driver", "D1", "list", "--file", "x"), "--file is a command of its own"),
        (("fleet", "--count", "3", "--keys", "no-such-file"), "the keys no-such-file cannot be read"),
        (("driver", "D1", "--file", "no-such-file"), "the charges no-such-file cannot be read"),
        (("cp", "remove", "CP001"), "there is no charge point CP001"),
        (("drivers", "remove", "D1"), "there is no driver D1"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_together_is_one_sentence_too(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"evcharge: error: {sentence}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("cp", "list", "--db", "no/such/folder/x.db"),
            "the folder no/such/folder for the database does not exist",
        ),
        (("cp", "add", "CP001", "--db", "."), "is a folder"),
        ((*MONITOR, "--trace", "no/such/folder/trace"), "the trace no/such/folder/trace cannot be written"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_what_the_machine_does_not_allow_is_one_sentence_and_exit_code_3(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    done = run(*arguments)
    assert done.code == 3
    assert sentence in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:5000", Address("localhost", 5000)),
        ("10.0.0.7:1", Address("10.0.0.7", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("central.example:5000", Address("central.example", 5000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert options.parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["0", "0.30", "1000", "0.123456", "0.01"])
def test_prices(text: str) -> None:
    assert options.parse_price(text) == Decimal(text)
    assert price_of(text) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["1_0", "٠.٣", " 0.30", "0.30\n", ".5", "5.", "+0.30", "3e-1", "1E+2", "NaN", "0,30", ""]
)
def test_a_price_in_another_notation_is_refused_on_the_command_line_and_at_the_console(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"in plain notation, such as 0\.30"):
        options.parse_price(text)
    with pytest.raises(UsageError, match=r"a price is a number such as 0\.35, not"):
        price_of(text)


@pytest.mark.parametrize("port", ["٥٠٠٠", "5_0", " 50", "+50"])
def test_a_port_is_written_in_digits(port: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected HOST:PORT"):
        options.parse_address(f"localhost:{port}")


@pytest.mark.parametrize("day", ["20261130", "2026-W48-1", "2026-11-30T00:00:00", "٢٠٢٦-11-30", " 2026-11-30"])
def test_a_day_is_written_in_one_way(day: str) -> None:
    with pytest.raises(UsageError, match="a day is written 2026-11-30, not"):
        day_of(day)


@pytest.mark.parametrize("name", ["..", "-x"])
def test_at_the_console_no_id_that_could_be_a_path_or_an_option_is_added_but_an_old_one_is_removed(
    name: str,
) -> None:
    with pytest.raises(UsageError, match="is no id; an id has"):
        kind_and_id(["cp", name], "add")
    assert kind_and_id(["cp", name], "remove") == ("cp", name)


def test_a_session_is_named_as_the_messages_name_it() -> None:
    name = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
    assert session_id_of(name) == session_id_of(name.upper()) == UUID(name)
    for other in (f"{{{name}}}", f"urn:uuid:{name}", name[:-1], f" {name}"):
        with pytest.raises(UsageError, match="is no session id"):
            session_id_of(other)


def test_the_ids_of_a_fleet_are_ids() -> None:
    assert fleet_ids("CP", 3) == ["CP001", "CP002", "CP003"]
    assert fleet_ids("CP", 1000)[-1] == "CP1000"
    assert len(fleet_ids("x" * 61, 999)[-1]) == 64
    with pytest.raises(UsageError):
        fleet_ids("x" * 61, 1000)


# Charge points and drivers


def test_charge_points_are_added_listed_and_removed(run: Run) -> None:
    assert run("cp", "list").out == "no charge point has been added\n"
    assert run("cp", "add", "CP002").code == 0
    assert run("cp", "add", "CP001").code == 0
    listed = run("cp", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == ["cp_id=CP001", "cp_id=CP002"]
    assert run("cp", "remove", "CP002").out == "removed: CP002\n"
    assert [line.split()[0] for line in run("cp", "list").out.splitlines()] == ["cp_id=CP001"]


def test_charge_points_as_json(run: Run) -> None:
    assert json.loads(run("cp", "list", "--json").out) == []
    run("cp", "add", "CP001")
    assert json.loads(run("cp", "list", "--json").out) == [
        {
            "cp_id": "CP001",
            "location": "",
            "price_per_kwh": None,
            "currency": "EUR",
            "max_power_w": 0,
            "status": "DISCONNECTED",
            "out_of_service": False,
            "has_key": True,
            "ceiling_price_per_kwh": None,
            "ceiling_currency": None,
            "ceiling_power_w": None,
            "removed": False,
        }
    ]


def test_ceilings_are_set_for_one_for_several_from_a_file_and_for_all(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfCP002  # at the harbour\r\n\r\nCP003")
    ceiling = ("--max-price", "0.60", "--currency", "EUR", "--max-power", "22")
    keys = run("cp", "add", "CP001", "--file", "ids.txt", *ceiling).out.splitlines()
    assert [line.split()[0] for line in keys] == ["CP001", "CP002", "CP003"]
    assert len({line.split()[1] for line in keys}) == 3

    def ceilings() -> list[tuple[object, ...]]:
        found = json.loads(run("cp", "list", "--json").out)
        return [(cp["ceiling_price_per_kwh"], cp["ceiling_currency"], cp["ceiling_power_w"]) for cp in found]

    assert ceilings() == [("0.60", "EUR", 22_000)] * 3
    assert run("cp", "set", "CP001", "CP002", "--max-price", "0.8").out == "set: CP001\nset: CP002\n"
    assert run("cp", "set", "--all", "--max-power", "default").out.count("set: ") == 3
    assert run("cp", "set", "--all", "--max-power", "default").out == "it was so already\n"
    assert ceilings() == [("0.8", "EUR", None)] * 2 + [("0.60", "EUR", None)]
    assert "ceiling_price_per_kwh=0.8" in run("cp", "list").out


def test_of_several_charge_points_all_are_added_or_none(run: Run) -> None:
    run("cp", "add", "CP002")
    done = run("cp", "add", "CP001", "CP002")
    assert (done.code, done.out) == (2, "")
    assert "the charge point CP002 is there already" in done.err
    assert len(json.loads(run("cp", "list", "--json").out)) == 1
    assert run("cp", "set", "CP002", "CP009", "--max-power", "5").code == 2
    assert json.loads(run("cp", "list", "--json").out)[0]["ceiling_power_w"] is None


def test_limits_of_a_driver_are_set_when_it_is_added_and_later(run: Run) -> None:
    run("drivers", "add", "ana", "--max-energy", "40", "--max-cost", "30", "--max-hours", "12", "--signed-only")

    def limits() -> tuple[object, ...]:
        ((ana),) = json.loads(run("drivers", "list", "--json").out)
        return ana["max_energy_wh"], ana["max_cost"], ana["max_hours"], ana["signed_only"]

    assert limits() == (40_000, "30", 12.0, True)
    assert run("drivers", "set", "ana", "--max-energy", "default", "--no-signed-only").out == "set: ana\n"
    assert limits() == (None, "30", 12.0, False)
    assert run("drivers", "set", "ana", "bob", "--max-energy", "1").code == 2
    assert limits() == (None, "30", 12.0, False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cp", "add"), "name at least one charge point"),
        (("cp", "set", "CP001"), "say what to set"),
        (("cp", "set", "CP001", "--all", "--max-power", "5"), "--all is all of them"),
        (("cp", "set", "CP001", "--max-power", "0"), "expected a power in kW from 0.001"),
        (("cp", "set", "CP001", "--max-price", "dear"), "expected a price from 0 to 1000"),
        (("drivers", "set", "ana"), "say what to set"),
        (("drivers", "set", "ana", "--max-hours", "nan"), "expected a number of hours"),
        (("drivers", "set", "ana", "--max-cost", "-1"), "expected an amount"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert sentence in " ".join(done.err.replace("│", " ").split())


def test_a_key_is_printed_once_and_only_its_hash_is_stored(run: Run, tmp_path: Path) -> None:
    added = run("cp", "add", "CP001")
    (key,) = added.out.splitlines()
    assert len(key) >= 43
    assert added.err == "This is the key of CP001; it is not stored and cannot be shown again.\n"
    with closing(sqlite3.connect(tmp_path / "evcharge.db")) as connection:
        (row,) = connection.execute("SELECT key_hash FROM charge_points").fetchall()
    assert row == (hashlib.sha256(key.encode()).hexdigest(),)
    for arguments in (("cp", "list"), ("cp", "list", "--json")):
        assert key not in run(*arguments).out
    for file in tmp_path.iterdir():
        assert key.encode() not in file.read_bytes()


def test_keys_differ_and_a_new_one_comes_with_the_charge_point_that_comes_back(run: Run) -> None:
    first, other = run("cp", "add", "CP001").out, run("cp", "add", "CP002").out
    run("cp", "remove", "CP001")
    again = run("cp", "add", "CP001").out
    assert len({first, other, again}) == 3


def test_a_charge_point_is_not_added_twice(run: Run) -> None:
    run("cp", "add", "CP001")
    done = run("cp", "add", "CP001")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("evcharge: error: the charge point CP001 is there already")


def test_drivers_are_added_listed_and_removed(run: Run) -> None:
    assert run("drivers", "list").out == "no driver has been added\n"
    added = run("drivers", "add", "D1")
    key = added.out.strip()
    assert len(key) >= 43
    assert "cannot be shown again" in added.err
    listed = run("drivers", "list").out
    assert listed.startswith("driver_id=D1  added_at=")
    assert listed.endswith("has_key=True\n")  # Neither limits nor marks that are not there.
    assert key not in listed
    done = run("drivers", "add", "D1")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("evcharge: error: the driver D1 is there already")
    assert run("drivers", "remove", "D1").out == "removed: D1\n"
    assert run("drivers", "list").out == "no driver has been added\n"
    again = run("drivers", "add", "D1")
    assert again.code == 0
    assert again.out.strip() not in ("", key)


def test_drivers_as_json(run: Run) -> None:
    assert json.loads(run("drivers", "list", "--json").out) == []
    run("drivers", "add", "D1")
    ((driver),) = json.loads(run("drivers", "list", "--json").out)
    assert driver["driver_id"] == "D1"
    assert datetime.fromisoformat(driver["added_at"]).tzinfo is not None


def test_each_database_has_its_own(run: Run) -> None:
    run("drivers", "add", "D1", "--db", "one.db")
    run("drivers", "add", "D2", "--db", "two.db")
    assert "D1" in run("drivers", "list", "--db", "one.db").out
    assert "D1" not in run("drivers", "list", "--db", "two.db").out


def test_the_files_of_keys_and_charges_may_have_been_edited_on_windows(tmp_path: Path) -> None:
    keys, charges = tmp_path / "keys.txt", tmp_path / "charges.txt"
    keys.write_bytes(b"\xef\xbb\xbfCP001 first\r\n\r\n# comment\r\nCP002 second")
    charges.write_bytes(b"\xef\xbb\xbfCP001 1\r\nCP002")
    assert cli._read_keys(keys) == {"CP001": "first", "CP002": "second"}
    assert read_wishes(charges) == [("CP001", 1000), ("CP002", None)]


def test_a_line_of_keys_that_makes_no_sense_is_not_quoted(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    for line in ("s3cret", "CP001 s3cret more", "s3cret/ CP001"):
        keys.write_text(f"CP001 key\n{line}\n")
        with pytest.raises(UsageError) as refused:
            cli._read_keys(keys)
        assert str(refused.value) == f"{keys}, line 2: expected 'CP_ID KEY'"


SECRET_OPTIONS = [(path, flag) for path, flag in ALL_OPTIONS if flag in ("--key", "--token")]


def test_these_are_the_options_that_have_secrets() -> None:
    assert [" ".join([*path, flag]) for path, flag in SECRET_OPTIONS] == [
        "monitor --key",
        "admin --token",
        "driver --key",
    ]


@pytest.mark.parametrize("secret", ["s3cret\r", "s3cret\r\n", "s3cret ", " s3cret", "s3\u20accret", "s3c" * 200])
@pytest.mark.parametrize(("path", "flag"), SECRET_OPTIONS, ids=[path[-1] for path, _ in SECRET_OPTIONS])
@pytest.mark.parametrize("by_variable", [True, False])
def test_a_secret_that_cannot_be_one_is_refused_without_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], flag: str, secret: str, by_variable: bool
) -> None:
    if by_variable:
        monkeypatch.setenv(f"EVCHARGE_{flag[2:].upper()}", secret)
    done = run(*path, *required(path), *(() if by_variable else (flag, secret)))
    assert done.code == 2
    assert "no key looks like this" in done.said
    assert "s3" not in done.out + done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("admin", "--url", "http://maria:s3cret@localhost:1", "totals"),
        ("admin", "--tokens=s3cret", "totals"),
        ("driver", "ana", "list", "--token=s3cret"),
        ("monitor", "CP001", "--engine", "localhost:1", "--kee=s3cret"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_quoted(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, *(("--token", "right") if arguments[1] == "--url" else ()))
    assert done.code == 2
    assert "s3cret" not in done.out + done.err


def test_a_backup_is_made_and_restored_and_both_say_what_they_did(run: Run, tmp_path: Path) -> None:
    run("cp", "add", "CP001")
    done = run("backup", "backup.db")
    assert (done.code, done.out.split(",")[0]) == (0, "backed up to backup.db: 0 sessions (0 open)")
    assert "1 charge points" in done.out
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    again = run("backup", "backup.db")
    assert (again.code, again.err) == (2, "evcharge: error: backup.db is there already; choose another name\n")
    run("cp", "add", "CP002")
    done = run("restore", "backup.db")
    assert done.code == 0
    assert done.err.startswith("what was there is kept: ")
    assert run("cp", "list").out.count("cp_id=") == 1
    assert run("backup", "x.db", "--db", "no.db").err == "evcharge: error: there is no database no.db\n"
    assert not (tmp_path / "no.db").exists()

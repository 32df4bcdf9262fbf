"""docs/operations.md has each option of each command; a failure says what to write there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from evcharge.cli import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
TEXT = PAGE.read_text("utf-8")


def commands_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(`evcharge cp add`, the command) for each command that does something."""
    nested = getattr(command, "commands", {})
    if not nested:
        yield name, command
    for word, below in nested.items():
        yield from commands_of(below, f"{name} {word}")


def default_of(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or value == "":
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def options_of(command: Any) -> dict[str, tuple[str, str]]:
    """`--db` -> (default, variable), as the page writes them."""
    return {
        option.opts[0]: (default_of(option), f"`{option.envvar}`")
        for option in command.params
        if option.param_type_name == "option"
    }


def described(name: str) -> dict[str, tuple[str, str]]:
    """The same, from the tables of the page whose heading, `### evcharge cp add`, names this command."""
    sections = re.split(r"^#+ ", TEXT, flags=re.M)
    found: dict[str, tuple[str, str]] = {}
    for section in sections:
        if f"`{name}`" in section.partition("\n")[0]:
            for row in re.findall(r"^\| `(--[a-z-]+)` \|(.*)\|$", section, re.M):
                default, variable, *_ = (cell.strip() for cell in row[1].split("|"))
                found[row[0]] = default, variable
    return found


COMMANDS = dict(commands_of(typer.main.get_command(app), "evcharge"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_each_option_with_its_default_and_variable(name: str) -> None:
    heading = rf"^#+ .*`{re.escape(name)}`"
    assert re.search(heading, TEXT, re.M), f"docs/operations.md needs a heading that names `{name}`"
    expected, found = options_of(COMMANDS[name]), described(name)
    wrong = [
        f"| `{option}` | {default} | {variable} | … |"
        for option, (default, variable) in expected.items()
        if found.get(option) != (default, variable)
    ]
    assert not wrong, f"docs/operations.md, `{name}`, needs these rows:\n" + "\n".join(wrong)
    gone = sorted(found.keys() - expected.keys())
    assert not gone, f"docs/operations.md, `{name}`, has options that are no more: {', '.join(gone)}"


def test_every_command_was_found() -> None:
    assert {"evcharge central", "evcharge replay", "evcharge cp add", "evcharge drivers remove"} <= COMMANDS.keys()
    assert "--kafka" in options_of(COMMANDS["evcharge central"])

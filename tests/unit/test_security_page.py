"""docs/security.md names only options, and places in other pages, that there are."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main
from test_operations_page import commands_of, options_of

from evcharge.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "security.md").read_text("utf-8")
OF_PIP = {"--require-hashes", "--no-deps"}


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_its_options_are_options() -> None:
    commands = dict(commands_of(typer.main.get_command(app), "evcharge"))
    known = {option for command in commands.values() for option in options_of(command)}
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert len(named) > 5
    assert not named - known - OF_PIP


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXT)
    assert len(links) > 5
    for file, anchor in links:
        page = DOCS / file if file else DOCS / "security.md"
        assert page.exists(), page
        assert not anchor or anchor in anchors_of(page), (file, anchor)

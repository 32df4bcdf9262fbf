"""README.md and README.zh-CN.md say the same: the same sections, commands, code and links, in the same order."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def levels_of_headings(text: str) -> list[str]:
    return re.findall(r"^#+", without_code(text), re.M)


def links_of(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]*)\)", text)[1:]  # The first leads to the other page.


def commands_of(text: str) -> list[str]:
    """The lines of the shell blocks without their comments, which are in the page's own language."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    return [line.partition(" # ")[0].rstrip() for block in blocks for line in block.splitlines()]


def make_targets_of(text: str) -> list[str]:
    return re.findall(r"`make ([a-z-]+)`", text)


def test_they_have_the_same_sections() -> None:
    assert levels_of_headings(ENGLISH) == levels_of_headings(CHINESE)


def test_they_have_the_same_commands() -> None:
    assert len(commands_of(ENGLISH)) > 30
    assert commands_of(ENGLISH) == commands_of(CHINESE)


def test_they_have_the_same_links_which_lead_somewhere() -> None:
    assert links_of(ENGLISH) == links_of(CHINESE)
    for link in links_of(ENGLISH):
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_they_name_the_same_make_targets() -> None:
    assert make_targets_of(ENGLISH) == make_targets_of(CHINESE)

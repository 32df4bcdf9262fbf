"""docs/reliability.md speaks of the breaks that there are, and its table is made from results."""

import re
from pathlib import Path

from breaks import BREAKS
from crowd import CROWDS

from table_of_faults import table, with_table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def kind_of(name: str) -> str:
    return re.match("turn-back|say-again|half-open|[a-z]+", name)[0]  # type: ignore[index]


def test_every_kind_of_break_is_told_and_no_other() -> None:
    told = PAGE.partition("| What is done |")[2].partition("\n\n")[0]
    kinds = set(re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in told.splitlines()[2:])))
    assert kinds == {kind_of(name) for name in (*BREAKS, *CROWDS)}


def test_the_runs_are_of_breaks_that_exist() -> None:
    runs = PAGE.partition("<!-- runs: begin -->")[2].partition("<!-- runs: end -->")[0]
    names = re.findall(r"^\| `([a-z0-9-]+)` \|", runs, re.MULTILINE)
    assert names
    assert set(names) <= BREAKS.keys() | CROWDS.keys()


def test_the_tests_that_keep_it_mended_exist() -> None:
    found = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_[a-z_]+)(?:…)?`", PAGE):
        assert f"def {name}" in found


def test_runs_are_counted_by_break() -> None:
    results: list[dict[str, object]] = [
        {"at": "2026-03-02T12:00:00", "breaks": ["kill-central"], "sessions": 6, "energy_wh": 900, "wrong": []},
        {
            "at": "2026-03-03T12:00:00",
            "breaks": ["kill-central", "cut-engine-kafka"],
            "sessions": 4,
            "energy_wh": 600,
            "wrong": ["so"],
        },
    ]
    text = table(results)
    assert text.startswith("2 runs from 2026-03-02 to 2026-03-03, 10 sessions, 1.5 kWh; in 1 of them")
    assert "| `kill-central` | 2 | 1 |\n" in text
    assert "| `cut-engine-kafka` | 1 | 1 |\n" in text
    page = with_table("before\n<!-- runs: begin -->\nold\n<!-- runs: end -->\nafter\n", text)
    assert page == f"before\n<!-- runs: begin -->\n{text}<!-- runs: end -->\nafter\n"

"""docs/states.md shows what the transition tables say, and the charge point's are the eight arrows of the seed."""

import re

import pytest

from draw_states import PAGE, drawn

SEED = {
    ("DISCONNECTED", "ACTIVE"),
    ("ACTIVE", "CHARGING"),
    ("CHARGING", "ACTIVE"),
    ("ACTIVE", "FAULTY"),
    ("FAULTY", "ACTIVE"),
    ("DISCONNECTED", "FAULTY"),
    ("CHARGING", "FAULTY"),
    ("FAULTY", "DISCONNECTED"),
}


def arrows(page: str, name: str) -> list[tuple[str, str]]:
    """(from, to) of each arrow in the diagram called `name`."""
    (diagram,) = re.findall(
        rf"<!-- {name}: drawn by .*?-->\n```mermaid\n(.*?)\n```\n<!-- {name}: end -->", page, re.S
    )
    return re.findall(r"^ +(\S+) --> (\w+): \S", diagram, re.M)


def test_the_page_is_as_the_script_would_write_it() -> None:
    page = PAGE.read_text("utf-8")
    assert page == drawn(page), "run `make diagrams` and commit docs/states.md"


def test_the_charge_point_has_exactly_the_eight_arrows_of_the_seed_and_its_start() -> None:
    found = arrows(PAGE.read_text("utf-8"), "charge-point")
    assert len(found) == 9
    assert set(found) == {*SEED, ("[*]", "DISCONNECTED")}


def test_a_session_begins_authorised_and_has_the_three_ends_of_the_design() -> None:
    found = arrows(PAGE.read_text("utf-8"), "session")
    assert {
        ("[*]", "authorised"),
        ("authorised", "charging"),
        ("charging", "completed"),
        ("authorised", "failed"),
        ("charging", "interrupted"),
    } <= set(found)
    assert {then for _, then in found} == {"authorised", "charging", "completed", "failed", "interrupted"}


def test_what_stands_between_the_markers_is_replaced_and_nothing_else() -> None:
    page = PAGE.read_text("utf-8")
    spoilt = page.replace("DISCONNECTED --> ACTIVE", "DISCONNECTED --> CHARGING")
    assert spoilt != page
    assert drawn(spoilt) == page
    assert drawn(f"A word before.\n{page}A word after.\n") == f"A word before.\n{page}A word after.\n"


def test_a_page_that_lost_a_marker_is_not_written() -> None:
    page = PAGE.read_text("utf-8")
    with pytest.raises(SystemExit, match="`session`"):
        drawn(page.replace("<!-- session: end -->", ""))

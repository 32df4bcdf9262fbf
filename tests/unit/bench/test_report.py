from datetime import UTC, datetime

import msgspec

from figures import Chart, Figure, Goal, Part
from report import Report, markdown, summary, with_ratios

PART = Part(
    "readings",
    "Throughput of readings",
    "a bare loop",
    [
        Figure(
            "readings a second",
            "1/s",
            34_567.8,
            50_000,
            [Goal("at least 50,000", False), Goal("half of it", True)],
        ),
        Figure("records a batch", "", 512),
    ],
    ["nothing is lost"],
    ["on a quiet machine"],
    [Chart("growth", "Throughput", "sessions", "readings/s", {"ours": [(1, 2)]})],
)
REPORT = Report(datetime(2026, 11, 20, 8, 5, tzinfo=UTC), "2 processors", "abc123", True, 125.0, [PART])


def test_the_page_has_run_goals_figures_and_pictures() -> None:
    page = markdown(REPORT)
    assert "- 2026-11-20 08:05 UTC, commit abc123\n- 2 processors\n- a quick run" in page
    row = "[Throughput of readings](#readings) | readings a second"
    assert f"| **missed** | {row} | at least 50,000 | 34,600/s | 0.691 |" in page
    assert f"| met | {row} | half of it | 34,600/s | 0.691 |" in page
    goals = "at least 50,000: **missed**; half of it: met"
    assert f"| readings a second | 34,600/s | 50,000/s | 0.691 | {goals} |" in page
    assert "| records a batch | 512 |  |  |  |" in page
    assert "Baseline: a bare loop." in page
    assert "- nothing is lost" in page
    assert "- on a quiet machine" in page
    assert "![Throughput](readings-growth.png)" in page


def test_the_summary_ends_with_the_goals() -> None:
    lines = summary(REPORT).splitlines()
    assert lines[1].split() == ["readings", "readings", "a", "second", "34,600/s", "50,000/s", "0.691"]
    assert lines[-2].startswith("MISSED")
    assert lines[-1].startswith("met")


def test_a_part_that_is_wrong_is_named() -> None:
    report = msgspec.structs.replace(REPORT, wrong={"latency": "3 receipts have not come"})
    assert "The part latency is wrong, so it has no figures: 3 receipts have not come" in markdown(report)
    assert summary(report).splitlines()[-1] == "WRONG   latency: 3 receipts have not come"


def test_the_figures_for_programs_have_their_ratios() -> None:
    figures = with_ratios(REPORT)["parts"][0]["figures"]
    assert [figure["ratio"] for figure in figures] == [34_567.8 / 50_000, None]

"""The report of a run: Markdown for people, JSON for programs, a summary for the terminal."""

import subprocess
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from figures import Chart, Figure, Goal, Part
from wording import duration, number, quantity


class Report(msgspec.Struct, frozen=True):
    """`wrong` has, for each part whose results cannot be trusted, what is wrong; it has no figures."""

    began_at: datetime
    machine: str
    commit: str
    quick: bool
    duration_s: float
    parts: list[Part]
    wrong: dict[str, str] = {}

    def goals(self) -> Iterator[tuple[Part, Figure, Goal]]:
        for part in self.parts:
            for figure in part.figures:
                for goal in figure.goals:
                    yield part, figure, goal


def write(report: Report, folder: Path) -> None:
    """`report.md` and `report.json`; the pictures that it shows are drawn by `charts`."""
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(with_ratios(report)), indent=2))
    (folder / "report.md").write_text(markdown(report))


def picture_name(part: Part, chart: Chart) -> str:
    return f"{part.name}-{chart.name}.png"


def with_ratios(report: Report) -> dict[str, Any]:
    """The report as plain objects; each figure has its ratio, so that nobody needs to divide."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    for part, plain_part in zip(report.parts, plain["parts"], strict=True):
        for figure, plain_figure in zip(part.figures, plain_part["figures"], strict=True):
            plain_figure["ratio"] = figure.ratio
    return plain


# Markdown


def markdown(report: Report) -> str:
    lines = [
        "# What evcharge achieves, beside what limits it",
        "",
        f"- {report.began_at:%Y-%m-%d %H:%M} UTC, commit {report.commit}",
        f"- {report.machine}",
        f"- {'a quick run: its figures are less exact' if report.quick else 'a full run'},"
        f" {duration(report.duration_s)}",
        "",
    ]
    for name, problem in report.wrong.items():
        lines += [f"**The part {name} is wrong, so it has no figures: {problem}**", ""]
    lines += ["## Goals", ""]
    lines += table(
        ("", "part", "figure", "goal", "ours", "ours / baseline"),
        (
            (
                "met" if goal.met else "**missed**",
                f"[{part.title}](#{part.name})",
                figure.what,
                goal.text,
                *_cells(figure)[1:4:2],
            )
            for part, figure, goal in report.goals()
        ),
    )
    for part in report.parts:
        lines += ["", *_part(part)]
    return "\n".join(lines) + "\n"


def _part(part: Part) -> Iterator[str]:
    yield from (f'<a id="{part.name}"></a>', "", f"## {part.title}", "")
    yield from table(("", "ours", "baseline", "ours / baseline", "goals"), map(_cells, part.figures))
    yield from ("", f"Baseline: {part.baseline}.", "", "Checked:", "")
    yield from (f"- {line}" for line in part.checked)
    if part.remarks:
        yield from ("", "Remarks:", "")
        yield from (f"- {line}" for line in part.remarks)
    for chart in part.charts:
        yield from ("", f"![{chart.title}]({picture_name(part, chart)})")


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.what,
        quantity(figure.ours, figure.unit),
        "" if figure.baseline is None else quantity(figure.baseline, figure.unit),
        "" if figure.ratio is None else number(figure.ratio),
        "; ".join(f"{goal.text}: {'met' if goal.met else '**missed**'}" for goal in figure.goals),
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows)]


# The terminal


def summary(report: Report) -> str:
    """All figures, and in the end all goals."""
    rows: list[tuple[str, ...]] = [
        (part.name, *(cell.replace("*", "") for cell in _cells(figure)[:4]))
        for part in report.parts
        for figure in part.figures
    ]
    lines = aligned([("", "", "ours", "baseline", "ratio"), *rows])
    goals: list[tuple[str, ...]] = [
        ("met" if goal.met else "MISSED", part.name, figure.what, goal.text)
        for part, figure, goal in report.goals()
    ]
    lines += ["", *aligned(goals)] if goals else []
    lines += [f"WRONG   {name}: {problem}" for name, problem in report.wrong.items()]
    return "\n".join(lines)


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# Where we stand


def commit(root: Path) -> str:
    """The commit that is measured, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout

    try:
        changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return git("rev-parse", "--short=10", "HEAD").strip() + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""What panels are drawn with. Only `Text` and plain cells: what peers say is never taken for markup."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evcharge.domain.status import Status

BLOCKS = " ▁▂▃▄▅▆▇█"
PARTS = "▏▎▍▌▋▊▉█"

STATUS_STYLES = {
    Status.ACTIVE: "green",
    Status.CHARGING: "bold cyan",
    Status.FAULTY: "bold red",
    Status.DISCONNECTED: "bold yellow",
}

Sample = tuple[float, float]


def framed(title: str, body: RenderableType, style: str = "", height: int | None = None) -> Panel:
    return Panel(
        body,
        title=Text(title),
        title_align="left",
        box=box.ROUNDED,
        border_style=style,
        padding=(0, 1),
        height=height,
    )


def side_by_side(*parts: RenderableType) -> Table:
    """In columns of equal width."""
    table = Table.grid(expand=True)
    for _ in parts:
        table.add_column(ratio=1)
    table.add_row(*parts)
    return table


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names, dimmed, and values."""
    rows = list(rows)
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(style="dim", no_wrap=True, width=max(len(name) for name, _ in rows))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for name, value in rows:
        table.add_row(name, value)
    return table


def line(*parts: str | Text | tuple[str, str]) -> Text:
    """One line; what does not fit is cut."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def stacked(parts: Iterable[RenderableType]) -> Group:
    return Group(*parts)


def bar(fraction: float, width: int, style: str = "green") -> Text:
    """`████▌░░░`."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    whole, part = divmod(eighths, 8)
    full = "█" * whole + (PARTS[part - 1] if part else "")
    return Text.assemble((full, style), ("░" * (width - len(full)), "dim"))


def curve(values: Sequence[float], top: float, height: int = 1, style: str = "green") -> Text:
    """A column of blocks for each value; `top` reaches the top of the last of `height` rows."""
    levels = [round(max(0.0, min(1.0, value / top)) * height * 8) if top > 0 else 0 for value in values]
    levels = [max(1, level) if value > 0 else 0 for level, value in zip(levels, values, strict=True)]
    rows = [
        "".join(BLOCKS[max(0, min(8, level - 8 * row))] for level in levels) for row in range(height - 1, -1, -1)
    ]
    return Text("\n".join(rows), style=style, no_wrap=True)


def columns_of(samples: Sequence[Sample], until_s: float, span_s: float, columns: int) -> list[float]:
    """The mean of the samples (time, value) in each of the columns that the last `span_s` have.

    A value lasts until the next.
    """
    step_s = span_s / columns
    found: list[float] = []
    last, at = 0.0, 0
    start_s = until_s - span_s
    while at < len(samples) and samples[at][0] < start_s:
        last, at = samples[at][1], at + 1
    for column in range(columns):
        end_s = start_s + (column + 1) * step_s
        within = []
        while at < len(samples) and samples[at][0] <= end_s:
            within.append(samples[at][1])
            at += 1
        if within:
            last = within[-1]
        found.append(sum(within) / len(within) if within else last)
    return found


def duration(seconds: float) -> str:
    """`1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def clock_time(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"


def kwh(energy_wh: float) -> str:
    return f"{energy_wh / 1000:.3f}"


def kw(power_w: float) -> str:
    return f"{power_w / 1000:.1f}"


def counted(number: int, what: str) -> str:
    """`1 charge`, `2 charges`."""
    return f"{number} {what}{'' if number == 1 else 's'}"

"""Charts as pictures."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from figures import Chart, Part
from report import picture_name

MARKERS = "osD^vPX*"
FEW_POINTS = 40  # of more, the markers would hide the line
FEW_PLACES = 8  # so many have a tick each


def draw_all(parts: Iterable[Part], folder: Path) -> None:
    """In place of those of the run before."""
    for picture in folder.glob("*.png"):
        picture.unlink()
    for part in parts:
        for chart in part.charts:
            draw(chart, folder / picture_name(part, chart))


def draw(chart: Chart, path: Path) -> None:
    """Without pyplot, which wants a display and keeps every figure."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(chart.lines.items()):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=name,
            linewidth=1.2,
            markersize=4,
            marker=MARKERS[number % len(MARKERS)] if len(points) <= FEW_POINTS else None,
        )
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    _scale_x(axes, chart)
    if chart.log_y:
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.set_ylim(0, 1.08 * max(y for points in chart.lines.values() for _, y in points) or 1)
    axes.yaxis.set_major_formatter(_plain)
    axes.grid(True, linewidth=0.4, alpha=0.5)
    if len(chart.lines) > 1:
        axes.legend(frameon=False)
    figure.savefig(path)


def _scale_x(axes: Axes, chart: Chart) -> None:
    places = sorted({x for points in chart.lines.values() for x, _ in points})
    if chart.log_x and places[0] > 0:
        axes.set_xscale("log")
    elif chart.log_x:
        axes.set_xscale("symlog", linthresh=next((x for x in places if x > 0), 1.0))
    axes.xaxis.set_major_formatter(_plain)
    if chart.x_names:
        axes.set_xticks(range(len(chart.x_names)), chart.x_names)
    elif len(places) <= FEW_PLACES:
        axes.set_xticks(places)
        axes.xaxis.set_minor_locator(NullLocator())


def _plain(value: float, _: float) -> str:
    return f"{value:,.10g}"

"""What a benchmark finds: figures of ours beside those of a baseline, from the same run."""

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """What a figure should be, in words, and whether it is."""

    text: str
    met: bool


class Figure(msgspec.Struct, frozen=True):
    """One thing that was measured of us and, in the same run, of the baseline (None: there is none)."""

    what: str
    unit: str
    ours: float
    baseline: float | None = None
    goals: list[Goal] = []

    @property
    def ratio(self) -> float | None:
        return self.ours / self.baseline if self.baseline else None


class Chart(msgspec.Struct, frozen=True):
    """Lines: name -> points (x, y). With few x that are names rather than numbers, `x_names` has them in order."""

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    x_names: list[str] = []
    log_x: bool = False
    log_y: bool = False


class Part(msgspec.Struct, frozen=True):
    """One part of the report. `baseline` says what the baseline is, `checked` what was made sure of before."""

    name: str
    title: str
    baseline: str
    figures: list[Figure]
    checked: list[str]
    remarks: list[str] = []
    charts: list[Chart] = []


class WrongResult(Exception):
    """Something was lost or is not exact: a speed would mean nothing."""


def at_least(least: float, value: float, text: str) -> Goal:
    return Goal(text, value >= least)


def at_most(most: float, value: float, text: str) -> Goal:
    return Goal(text, value <= most)


def require(condition: bool, what: str) -> None:
    """Raises `WrongResult` with what is wrong, unless it is right."""
    if not condition:
        raise WrongResult(what)

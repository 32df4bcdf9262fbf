"""Numbers as people read them."""

import math


def number(value: float) -> str:
    """Three significant digits, and commas between the thousands."""
    if not math.isfinite(value):
        return str(value)
    exponent = int(f"{value:.2e}".partition("e")[2])  # of the rounded value: 9.996 is 10.0
    return f"{round(value, 2 - exponent):,.{max(0, 2 - exponent) if value else 0}f}"


def quantity(value: float, unit: str) -> str:
    """With its unit; that of a rate is written as `1/s`."""
    if unit.startswith("1/"):
        return number(value) + unit[1:]
    return f"{number(value)} {unit}".rstrip()


def duration(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"

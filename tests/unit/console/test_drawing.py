"""What panels are drawn with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.console.drawing import bar, columns_of, counted, curve, duration, kw, kwh


@pytest.mark.parametrize(
    ("fraction", "drawn"),
    [
        (0.0, "░░░░"),
        (0.25, "█░░░"),
        (0.5, "██░░"),
        (0.6, "██▍░"),
        (1.0, "████"),
        (-1.0, "░░░░"),
        (7.0, "████"),
    ],
)
def test_a_bar(fraction: float, drawn: str) -> None:
    assert bar(fraction, 4).plain == drawn


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 50))
def test_a_bar_has_its_width(fraction: float, width: int) -> None:
    assert bar(fraction, width).cell_len == width


def test_a_curve_of_one_row() -> None:
    assert curve([0, 1, 2, 4, 8, 9], top=8).plain == " ▁▂▄██"


def test_a_curve_of_two_rows() -> None:
    assert curve([0, 4, 8, 12, 16], top=16, height=2).plain.split("\n") == ["   ▄█", " ▄███"]


def test_whatever_is_not_nothing_is_seen() -> None:
    assert curve([0, 0.001, 100], top=100).plain == " ▁█"


def test_a_curve_without_a_top_is_empty() -> None:
    assert curve([0, 0], top=0).plain == "  "


def test_columns_are_means_and_a_value_lasts_until_the_next() -> None:
    samples = [(0.0, 5.0), (11.0, 10.0), (12.0, 20.0), (27.0, 0.0)]
    assert columns_of(samples, until_s=40.0, span_s=40.0, columns=4) == [5.0, 15.0, 0.0, 0.0]
    assert columns_of(samples, until_s=40.0, span_s=20.0, columns=4) == [20.0, 0.0, 0.0, 0.0]


def test_before_the_first_sample_there_is_nothing() -> None:
    assert columns_of([], 10.0, 10.0, 3) == [0.0, 0.0, 0.0]
    assert columns_of([(9.0, 7.0)], 10.0, 10.0, 2) == [0.0, 7.0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.4, "0:00:59"), (59.6, "0:01:00"), (3661, "1:01:01"), (-5, "0:00:00")]
)
def test_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_energy_power_and_number() -> None:
    assert (kwh(1234), kw(10_960)) == ("1.234", "11.0")
    assert [counted(number, "charge") for number in (0, 1, 2)] == ["0 charges", "1 charge", "2 charges"]

import pytest

from wording import duration, number, quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.012345, "0.0123"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (123.4, "123"),
        (-7.126, "-7.13"),
        (53421.3, "53,400"),
        (1_234_567, "1,230,000"),
        (float("inf"), "inf"),
    ],
)
def test_a_number_has_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_unit_stands_after_the_number() -> None:
    assert quantity(53421.3, "1/s") == "53,400/s"
    assert quantity(5.126, "ms") == "5.13 ms"
    assert quantity(2, "") == "2.00"


def test_a_duration_is_in_minutes_and_seconds() -> None:
    assert duration(59.4) == "59 s"
    assert duration(754) == "12 min 34 s"

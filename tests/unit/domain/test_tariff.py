"""Money is exact: a Decimal of whole cents, or whatever the currency has, rounded once, half of it up."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.domain import tariff
from evcharge.protocol.messages import MAX_PRICE_PER_KWH, PRICE_DECIMALS

MILLIONTHS = 10**PRICE_DECIMALS
ENERGIES_WH = st.integers(0, 10**9)
PRICES_IN_MILLIONTHS = st.integers(0, int(MAX_PRICE_PER_KWH) * MILLIONTHS)


@pytest.mark.parametrize(
    ("energy_wh", "price_per_kwh", "cost"),
    [
        (0, "0.45", "0.00"),
        (1000, "0.45", "0.45"),
        (12_345, "0.45", "5.56"),  # 5.55525
        (1, "0", "0.00"),
        (1, "4.999999", "0.00"),
        (1, "5", "0.01"),  # half a cent goes up, ...
        (3, "5", "0.02"),  # ... also where rounding to even would go down
        (5, "5", "0.03"),
        (2675, "1", "2.68"),  # the float 2.675 is below the half
        (1005, "1", "1.01"),  # and so is 1.005
        (10**9, "1000", "1000000000.00"),
        (10**9, "999.999999", "999999999.00"),
    ],
)
def test_cost_in_whole_cents(energy_wh: int, price_per_kwh: str, cost: str) -> None:
    assert str(tariff.cost(energy_wh, Decimal(price_per_kwh), "EUR")) == cost


@pytest.mark.parametrize(
    ("energy_wh", "price_per_kwh", "currency", "cost"),
    [
        (1834, "30", "JPY", "55"),  # 55.02: there is no hundredth of a yen
        (1850, "30", "JPY", "56"),  # 55.5
        (0, "30", "JPY", "0"),
        (1834, "0.025", "KWD", "0.046"),  # 0.04585: a dinar has a thousand fils
        (10**9, "1000", "KWD", "1000000000.000"),
        (1834, "90", "HUF", "165.06"),  # as ISO has it; CLDR would show 165
        (1834, "30", "ABC", "55.02"),  # what an older database may have
    ],
)
def test_cost_has_the_digits_of_its_currency(energy_wh: int, price_per_kwh: str, currency: str, cost: str) -> None:
    assert str(tariff.cost(energy_wh, Decimal(price_per_kwh), currency)) == cost


@given(ENERGIES_WH, PRICES_IN_MILLIONTHS)
def test_cost_is_exact_for_every_energy_and_price_that_the_wire_lets_in(energy_wh: int, millionths: int) -> None:
    price = Decimal(millionths) / MILLIONTHS
    cost = tariff.cost(energy_wh, price, "EUR")
    assert isinstance(cost, Decimal)
    assert cost.as_tuple().exponent == -2
    per_cent = MILLIONTHS * 1000 // 100  # how many (Wh x millionths of a unit of money per kWh) make one cent
    assert int(cost * 100) == (energy_wh * millionths + per_cent // 2) // per_cent


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=50), PRICES_IN_MILLIONTHS)
def test_cost_of_the_whole_is_within_half_a_cent_however_many_readings_it_came_in(
    parts_wh: list[int], millionths: int
) -> None:
    price = Decimal(millionths) / MILLIONTHS
    exact = sum((part_wh * price / 1000 for part_wh in parts_wh), Decimal(0))
    assert abs(tariff.cost(sum(parts_wh), price, "EUR") - exact) <= Decimal("0.005")


@given(ENERGIES_WH, ENERGIES_WH, PRICES_IN_MILLIONTHS)
def test_more_energy_never_costs_less(one_wh: int, other_wh: int, millionths: int) -> None:
    price = Decimal(millionths) / MILLIONTHS
    less, more = sorted((one_wh, other_wh))
    assert tariff.cost(less, price, "EUR") <= tariff.cost(more, price, "EUR")

"""How a vehicle takes power: constant, then less and less; and that the closed forms agree with each other."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evcharge.domain.battery import END_POWER, Battery

CAR = Battery(capacity_wh=60_000, stored_wh=12_000, max_power_w=50_000, taper_from=0.8)

fractions = st.floats(0.0, 1.0)
limits_w = st.floats(100.0, 400_000.0)
durations_s = st.floats(0.0, 48 * 3600.0)


@st.composite
def batteries(draw: st.DrawFn) -> Battery:
    capacity_wh = draw(st.floats(100.0, 200_000.0))
    return Battery(
        capacity_wh=capacity_wh,
        stored_wh=capacity_wh * draw(fractions),
        max_power_w=draw(st.floats(100.0, 350_000.0)),
        taper_from=draw(st.floats(0.1, 1.0)),
    )


def same_energy(one: Battery, other: Battery) -> bool:
    return math.isclose(one.stored_wh, other.stored_wh, rel_tol=1e-9, abs_tol=1e-6)


# What is known in advance


def test_state_of_charge_is_a_percentage_of_capacity() -> None:
    assert CAR.soc_percent == 20.0
    assert replace(CAR, stored_wh=60_000).soc_percent == 100.0


@pytest.mark.parametrize(("limit_w", "power_w"), [(11_000, 11_000), (50_000, 50_000), (150_000, 50_000)])
def test_below_the_taper_it_takes_what_both_charger_and_vehicle_allow(limit_w: float, power_w: float) -> None:
    assert CAR.power_w(limit_w) == power_w
    assert replace(CAR, stored_wh=47_999).power_w(limit_w) == power_w


@pytest.mark.parametrize(
    ("stored_wh", "power_w"),
    [(48_000, 50_000), (51_000, 37_500), (54_000, 25_000), (57_000, 12_500), (59_400, 2_500), (59_999, 2_500)],
)
def test_from_there_the_power_falls_with_what_is_missing_down_to_the_end_power(
    stored_wh: float, power_w: float
) -> None:
    assert replace(CAR, stored_wh=stored_wh).power_w(150_000) == pytest.approx(power_w)


def test_a_full_battery_takes_nothing() -> None:
    full = replace(CAR, stored_wh=60_000)
    assert full.is_full
    assert full.power_w(150_000) == 0.0
    assert full.charged(150_000, 3600) == full


def test_constant_power_stores_power_times_time() -> None:
    assert CAR.charged(10_000, 1800).stored_wh == pytest.approx(17_000)
    assert CAR.seconds_to(10_000, 5_000) == pytest.approx(1800)


def test_in_the_taper_what_is_missing_decays_exponentially() -> None:
    at_taper = replace(CAR, stored_wh=48_000)
    hours_of_one_e_fold = 12_000 / 50_000
    assert at_taper.charged(50_000, 3600 * hours_of_one_e_fold).stored_wh == pytest.approx(
        60_000 - 12_000 / math.e
    )


def test_the_last_stretch_is_charged_at_the_end_power() -> None:
    last_wh = END_POWER * 12_000
    end = replace(CAR, stored_wh=60_000 - last_wh)
    assert end.seconds_to(50_000, last_wh) == pytest.approx(last_wh / (END_POWER * 50_000) * 3600)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.79, 0.8, 0.95, 0.99, 0.999])
def test_what_is_stored_is_the_integral_of_the_power_shown(start: float) -> None:
    """Summed in steps of a second, each with the power at its middle: `power_w` and `charged` tell one story."""
    battery = replace(CAR, stored_wh=CAR.capacity_wh * start)
    stored_wh = battery.stored_wh
    for _ in range(1200):
        half_wh = replace(battery, stored_wh=stored_wh).power_w(50_000) / 7200
        middle = replace(battery, stored_wh=min(stored_wh + half_wh, CAR.capacity_wh))
        stored_wh = min(stored_wh + middle.power_w(50_000) / 3600, CAR.capacity_wh)
    assert battery.charged(50_000, 1200).stored_wh == pytest.approx(stored_wh, abs=1.0)


# What can not be


@pytest.mark.parametrize("energy_wh", [48_000.001, 60_000, 1e9])
def test_more_than_fits_takes_for_ever(energy_wh: float) -> None:
    assert CAR.seconds_to(50_000, energy_wh) == math.inf


@pytest.mark.parametrize(("limit_w", "max_power_w"), [(0, 50_000), (50_000, 0)])
def test_without_power_it_takes_for_ever_and_nothing_changes(limit_w: float, max_power_w: float) -> None:
    battery = replace(CAR, max_power_w=max_power_w)
    assert battery.power_w(limit_w) == 0.0
    assert battery.seconds_to(limit_w, 1) == math.inf
    assert battery.charged(limit_w, 3600) == battery


def test_what_is_too_little_to_count_takes_no_time() -> None:
    """Else a charge that stops a rounding error short of full would never end."""
    almost = replace(CAR, stored_wh=60_000 - 5e-10)
    assert almost.is_full
    assert almost.seconds_to(50_000, almost.capacity_wh - almost.stored_wh) == 0.0


def test_nothing_more_takes_no_time() -> None:
    assert CAR.seconds_to(50_000, 0) == 0.0
    assert CAR.seconds_to(0, 0) == 0.0
    assert replace(CAR, stored_wh=60_000).seconds_to(50_000, 0) == 0.0


# What holds for every battery


@given(batteries(), limits_w)
def test_power_is_never_negative_nor_beyond_either_limit(battery: Battery, limit_w: float) -> None:
    assert 0.0 <= battery.power_w(limit_w) <= min(limit_w, battery.max_power_w)
    assert (battery.power_w(limit_w) == 0.0) == battery.is_full


@given(batteries(), limits_w, fractions)
def test_power_never_rises_as_the_battery_fills(battery: Battery, limit_w: float, share: float) -> None:
    fuller = replace(battery, stored_wh=battery.stored_wh + share * (battery.capacity_wh - battery.stored_wh))
    assert fuller.power_w(limit_w) <= battery.power_w(limit_w)


@settings(max_examples=200)
@given(batteries(), limits_w, durations_s, st.lists(fractions, max_size=40))
def test_one_step_ends_where_many_small_ones_do(
    battery: Battery, limit_w: float, seconds: float, cuts: list[float]
) -> None:
    at_once = battery.charged(limit_w, seconds)
    stepwise = battery
    ends_s = [*sorted(cut * seconds for cut in cuts), seconds]
    for begin_s, end_s in zip([0.0, *ends_s], ends_s, strict=False):
        stepwise = stepwise.charged(limit_w, end_s - begin_s)
    assert same_energy(at_once, stepwise)


@settings(max_examples=200)
@given(batteries(), limits_w, durations_s, durations_s)
def test_longer_is_never_less_and_never_overfull(
    battery: Battery, limit_w: float, one_s: float, other_s: float
) -> None:
    shorter_s, longer_s = sorted((one_s, other_s))
    shorter, longer = battery.charged(limit_w, shorter_s), battery.charged(limit_w, longer_s)
    rounding_wh = 1e-9
    assert battery.stored_wh <= shorter.stored_wh + rounding_wh
    assert shorter.stored_wh <= longer.stored_wh + rounding_wh
    assert longer.stored_wh <= battery.capacity_wh


@settings(max_examples=200)
@given(batteries(), limits_w, fractions)
@example(Battery(100.0, 0.0, 100.0, taper_from=1 - 1e-16), 100.0, 1.0)
def test_the_time_to_store_an_energy_stores_that_energy(battery: Battery, limit_w: float, share: float) -> None:
    energy_wh = share * (battery.capacity_wh - battery.stored_wh)
    seconds = battery.seconds_to(limit_w, energy_wh)
    if battery.is_full:
        return
    assert 0.0 <= seconds < math.inf
    assert same_energy(
        battery.charged(limit_w, seconds), replace(battery, stored_wh=battery.stored_wh + energy_wh)
    )


@settings(max_examples=200)
@given(batteries(), limits_w, durations_s)
def test_the_energy_of_a_time_takes_that_time(battery: Battery, limit_w: float, seconds: float) -> None:
    later = battery.charged(limit_w, seconds)
    if later.is_full:
        return
    assert battery.seconds_to(limit_w, later.stored_wh - battery.stored_wh) == pytest.approx(
        seconds, rel=1e-6, abs=1e-3
    )


@given(st.floats(100.0, 200_000.0))
@example(167772.9987241347)
def test_a_full_battery_shows_a_hundred_percent_and_not_a_rounding_error_more(capacity_wh: float) -> None:
    assert replace(CAR, capacity_wh=capacity_wh, stored_wh=capacity_wh).soc_percent == 100.0


@given(batteries(), limits_w)
def test_charged_for_long_enough_it_is_full(battery: Battery, limit_w: float) -> None:
    room_wh = battery.capacity_wh - battery.stored_wh
    end_power_w = END_POWER * min(limit_w, battery.max_power_w)
    assert battery.charged(limit_w, room_wh / end_power_w * 3600 + 1).is_full

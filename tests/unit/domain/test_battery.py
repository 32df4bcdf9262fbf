"""How a vehicle takes power: constant, then less and less; and that the closed forms agree with each other."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evcharge.domain.battery import Battery, Current, current_of

CAR = Battery(capacity_wh=60_000, stored_wh=12_000, max_power_w=50_000, losses=0.0)
AC_CAR = Battery(capacity_wh=60_000, stored_wh=12_000, max_power_w=11_000)
DC_CAR = Battery(capacity_wh=60_000, stored_wh=6_000, max_power_w=120_000, current=Current.DC, losses=0.05)

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
        current=draw(st.sampled_from(Current)),
        losses=draw(st.floats(0.0, 0.9)),
    )


def same_energy(one: Battery, other: Battery) -> bool:
    return math.isclose(one.stored_wh, other.stored_wh, rel_tol=1e-9, abs_tol=1e-6)


# The law


def test_an_ac_charge_at_11_kw_does_not_taper_and_takes_no_7_6_hours() -> None:
    """48 kWh into the battery, a tenth more through the meter, at 11 kW to the end."""
    assert [replace(AC_CAR, stored_wh=wh).power_w(22_000) for wh in (0, 30_000, 59_999)] == [11_000] * 3
    hours = AC_CAR.seconds_to(22_000, AC_CAR.room_wh) / 3600
    assert hours == pytest.approx(48_000 / 0.9 / 11_000)
    lossless = replace(AC_CAR, losses=0.0)
    assert lossless.seconds_to(22_000, lossless.room_wh) / 3600 == pytest.approx(4.4, abs=0.04)


@pytest.mark.parametrize(
    ("soc", "power_w"),
    [
        (0.0, 87_600),
        (0.1, 87_600),
        (0.5, 87_600),
        (0.55, 85_200),
        (0.8, 46_200),
        (0.9, 30_600),
        (0.9999, 15_015.6),
    ],
)
def test_with_direct_current_the_battery_soon_says_how_much_it_takes(soc: float, power_w: float) -> None:
    """0.73 of the peak, or capacity x (0.25 + 2.6 x (1 - state of charge)) an hour."""
    assert replace(DC_CAR, stored_wh=60_000 * soc).power_w(150_000) == pytest.approx(power_w)


def test_a_direct_current_charge_takes_as_long_as_the_law_says_summed_second_by_second() -> None:
    """Without help of the closed form: from 10 to 80 % at a charger of 150 kW."""
    seconds, stored_wh = 0, 6_000.0
    while stored_wh < 48_000:
        power_w = min(150_000, 0.73 * 120_000, 60_000 * (0.25 + 2.6 * (1 - stored_wh / 60_000)))
        stored_wh += power_w * 0.95 / 3600
        seconds += 1
    assert DC_CAR.seconds_to(150_000, 42_000 / 0.95) == pytest.approx(seconds, abs=2)


def test_the_peak_of_an_alternating_current_charger_is_what_it_gives_all_the_time() -> None:
    assert AC_CAR.most_w == 11_000
    assert DC_CAR.most_w == pytest.approx(0.73 * 120_000)


def test_power_flows_at_once_with_alternating_current_and_after_48_seconds_with_direct() -> None:
    assert (AC_CAR.connect_s, DC_CAR.connect_s) == (0.0, 48.0)


@pytest.mark.parametrize(
    ("charger_w", "current"), [(3_700, "ac"), (43_000, "ac"), (50_000, "dc"), (350_000, "dc")]
)
def test_what_gives_more_than_43_kw_gives_direct_current(charger_w: float, current: str) -> None:
    assert current_of(charger_w) == current


# What is known in advance


def test_state_of_charge_is_a_percentage_of_capacity() -> None:
    assert CAR.soc_percent == 20.0
    assert replace(CAR, stored_wh=60_000).soc_percent == 100.0


@pytest.mark.parametrize(("limit_w", "power_w"), [(11_000, 11_000), (50_000, 50_000), (150_000, 50_000)])
def test_below_the_taper_it_takes_what_both_charger_and_vehicle_allow(limit_w: float, power_w: float) -> None:
    assert CAR.power_w(limit_w) == power_w
    assert replace(CAR, stored_wh=46_000).power_w(limit_w) == power_w


def test_a_full_battery_takes_nothing() -> None:
    full = replace(CAR, stored_wh=60_000)
    assert full.is_full
    assert full.power_w(150_000) == 0.0
    assert full.charged(150_000, 3600) == full


def test_constant_power_stores_power_times_time() -> None:
    assert CAR.charged(10_000, 1800).stored_wh == pytest.approx(17_000)
    assert CAR.seconds_to(10_000, 5_000) == pytest.approx(1800)


def test_the_meter_counts_what_is_lost_and_the_battery_does_not_store_it() -> None:
    before = replace(CAR, losses=0.2)
    after = before.charged(10_000, 3600)
    assert after.stored_wh == pytest.approx(12_000 + 8_000)
    assert after.taken_wh(before) == pytest.approx(10_000)
    assert before.seconds_to(10_000, 10_000) == pytest.approx(3600)
    assert before.room_wh == pytest.approx(48_000 / 0.8)


def test_the_last_stretch_is_charged_at_no_less_than_a_quarter_of_the_capacity_an_hour() -> None:
    almost = replace(CAR, stored_wh=59_999)
    assert almost.seconds_to(50_000, 1) == pytest.approx(1 / 15_000 * 3600, rel=1e-3)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.76, 0.77, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("losses", [0.0, 0.1])
def test_what_is_stored_is_the_integral_of_the_power_shown(start: float, losses: float) -> None:
    """Summed in steps of a second, each with the power at its middle: `power_w` and `charged` tell one story."""
    battery = replace(CAR, stored_wh=CAR.capacity_wh * start, losses=losses)
    stored_wh = battery.stored_wh
    for _ in range(1200):
        half_wh = replace(battery, stored_wh=stored_wh).power_w(50_000) * (1 - losses) / 7200
        middle = replace(battery, stored_wh=min(stored_wh + half_wh, CAR.capacity_wh))
        stored_wh = min(stored_wh + middle.power_w(50_000) * (1 - losses) / 3600, CAR.capacity_wh)
    assert battery.charged(50_000, 1200).stored_wh == pytest.approx(stored_wh, abs=2.0)


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
    assert 0.0 <= battery.power_w(limit_w) <= min(limit_w, battery.most_w)
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
@example(Battery(100.0, 0.0, 25.0, losses=0.0), 25.0, 1.0)
def test_the_time_to_store_an_energy_stores_that_energy(battery: Battery, limit_w: float, share: float) -> None:
    energy_wh = share * (battery.capacity_wh - battery.stored_wh)
    seconds = battery.seconds_to(limit_w, share * battery.room_wh)
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
    assert battery.seconds_to(limit_w, later.taken_wh(battery)) == pytest.approx(seconds, rel=1e-6, abs=1e-3)


@given(st.floats(100.0, 200_000.0))
@example(167772.9987241347)
def test_a_full_battery_shows_a_hundred_percent_and_not_a_rounding_error_more(capacity_wh: float) -> None:
    assert replace(CAR, capacity_wh=capacity_wh, stored_wh=capacity_wh).soc_percent == 100.0


@given(batteries(), limits_w)
def test_charged_for_long_enough_it_is_full(battery: Battery, limit_w: float) -> None:
    least_w = min(limit_w, battery.most_w, 0.25 * battery.capacity_wh)
    assert battery.charged(limit_w, battery.room_wh / least_w * 3600 + 1).is_full

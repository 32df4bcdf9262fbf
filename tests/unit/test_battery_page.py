"""docs/battery.md has the figures of the code, and its table what they come to."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from evcharge.domain import battery
from evcharge.domain.battery import CONNECT_S, LOSSES, Battery, Current

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "battery.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())

AC_CAR = Battery(60_000, 12_000, 11_000)
DC_CAR = Battery(60_000, 6_000, 120_000, Current.DC, LOSSES[Current.DC])
TO_80_WH = 42_000 / (1 - LOSSES[Current.DC])

CHARGES = [
    (AC_CAR, 22_000, AC_CAR.room_wh),
    (replace(AC_CAR, losses=0.0), 22_000, 48_000),
    (DC_CAR, 150_000, TO_80_WH),
    (DC_CAR, 150_000, DC_CAR.room_wh),
    (DC_CAR, 50_000, TO_80_WH),
]


def test_the_page_has_the_figures_of_the_law() -> None:
    law = f"({battery.RATE_WHEN_FULL} + {battery.RATE_MORE_WHEN_EMPTY} × (1 − state of charge)) an hour"
    assert law in TEXT
    assert f"{battery.PEAK_SHARE} of it with direct current" in TEXT
    assert f"{CONNECT_S[Current.DC] / 60:g} minutes pass before power flows" in TEXT
    assert f"{LOSSES[Current.AC]:.0%} is lost".replace("%", " %") in TEXT
    assert f"and {LOSSES[Current.DC]:.0%} with direct current".replace("%", " %") in TEXT
    assert f"above {battery.MOST_BY_AC_W / 1000:g} kW" in TEXT
    assert f"{replace(DC_CAR, stored_wh=48_000).power_w(150_000) / 1000:g} kW at 80 %" in TEXT


@pytest.mark.parametrize("line", range(len(CHARGES)))
def test_the_pages_table_is_what_the_law_gives(line: int) -> None:
    vehicle, charger_w, energy_wh = CHARGES[line]
    minutes = round((vehicle.connect_s + vehicle.seconds_to(charger_w, energy_wh)) / 60)
    time = f"{minutes // 60} h {minutes % 60} min" if minutes >= 100 else f"{minutes} min"
    row = re.findall(r"^\| .* \| [\d.]+ kWh \| .* \|$", PAGE, re.M)[line]
    assert row.endswith(f"| {energy_wh / 1000:.1f} kWh | {time} |")

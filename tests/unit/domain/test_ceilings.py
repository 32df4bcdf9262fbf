"""What a Monitor may register: its operator's ceilings, or Central's."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from test_from_operators import Office
from test_network import World, closed, frames, only, records

from evcharge.domain.commands import Reread, SetPrice
from evcharge.domain.network import Policy
from evcharge.errors import AboveCeiling
from evcharge.protocol.messages import ChargeRequestResponse, RegisterResponse
from evcharge.protocol.topics import Topic


def registered(world: World, connection: int | None = None, **fields: Any) -> RegisterResponse:
    """Central's answer, on this connection or on a new one."""
    if connection is None:
        connection = world.came()
        world.say(connection, world.auth("CP1"))
    return only(frames(world.say(connection, world.registration("CP1", **fields)), RegisterResponse, connection))


def allowed(office: Office, **ceilings: Any) -> None:
    """What the operator has written into the database, and Central has noticed."""
    values = {f"ceiling_{name}": value for name, value in ceilings.items()}
    office.charge_points["CP1"] = replace(office.charge_points["CP1"], **values)
    office.obey(Reread("CP1"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"price_per_kwh": Decimal(1000)}, ("1000 EUR/kWh", "the ceiling is 10 EUR/kWh", "--max-price")),
        ({"price_per_kwh": Decimal("10.000001")}, ("10.000001 EUR/kWh", "the ceiling is 10 EUR/kWh")),
        ({"max_power_w": 100_000_000}, ("100000 kW", "the ceiling is 1000 kW", "--max-power")),
        (
            {"price_per_kwh": Decimal(999), "currency": "JPY", "max_power_w": 1_000_001},
            ("1000.001 kW", "the ceiling is 1000 kW"),
        ),
        ({"price_per_kwh": Decimal("1000"), "currency": "CHF"}, ("1000 CHF/kWh", "the ceiling is 10 CHF/kWh")),
        ({"price_per_kwh": Decimal("1.001"), "currency": "KWD"}, ("1.001 KWD", "the ceiling is 1.0 KWD/kWh")),
    ],
)
def test_one_key_registers_no_price_and_no_power_above_the_ceiling(
    fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    world = World()
    answer = registered(world, **fields)
    assert (answer.accepted, answer.code) == (False, "above_ceiling")
    assert all(word in str(answer.reason) for word in (*words, "evcharge cp set CP1"))
    assert world.ask().code == "charge_point_unavailable"
    assert world.charge_points["CP1"].price_per_kwh != 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"price_per_kwh": Decimal(10), "max_power_w": 1_000_000},
        {"price_per_kwh": Decimal(1000), "currency": "JPY"},
        {"price_per_kwh": Decimal(1), "currency": "KWD"},
    ],
)
def test_what_is_just_at_the_ceiling_is_taken(fields: dict[str, Any]) -> None:
    assert registered(World(), **fields).accepted


def test_what_was_registered_before_stands_when_the_next_is_above_the_ceiling() -> None:
    world = World()
    connection = world.settled()
    assert not registered(world, connection, price_per_kwh=Decimal(1000), location="B").accepted
    assert not registered(world, price_per_kwh=Decimal(1000)).accepted
    cp = world.net.charge_points["CP1"]
    assert (cp.connection, cp.location, cp.price_per_kwh) == (connection, "Calle Mayor 1", Decimal("0.45"))
    answer = world.ask()
    assert (answer.accepted, answer.price_per_kwh) == (True, Decimal("0.45"))


def test_a_mended_registration_is_taken_on_the_same_connection() -> None:
    world = World()
    connection = world.came()
    world.say(connection, world.auth("CP1"))
    assert not registered(world, connection, price_per_kwh=Decimal(1000)).accepted
    assert registered(world, connection).accepted


def test_a_charge_points_own_ceiling_goes_before_the_default_also_when_it_is_higher() -> None:
    office = Office()
    allowed(office, price_per_kwh=Decimal("0.60"), currency="EUR", power_w=22_000)
    assert registered(office, price_per_kwh=Decimal("0.61")).code == "above_ceiling"
    assert registered(office, max_power_w=22_001).code == "above_ceiling"
    assert registered(office, price_per_kwh=Decimal("0.60"), max_power_w=22_000).accepted
    allowed(office, price_per_kwh=Decimal(500), power_w=2_000_000)
    assert registered(office, price_per_kwh=Decimal(500), max_power_w=2_000_000).accepted


def test_a_ceiling_with_a_currency_refuses_another() -> None:
    office = Office()
    allowed(office, currency="EUR")
    answer = registered(office, currency="CHF")
    assert answer.code == "above_ceiling"
    assert "CHF" in str(answer.reason)
    assert "EUR" in str(answer.reason)
    allowed(office, price_per_kwh=Decimal(90), currency="JPY")
    assert registered(office, price_per_kwh=Decimal(91), currency="JPY").code == "above_ceiling"
    assert registered(office, price_per_kwh=Decimal(90), currency="JPY").accepted


def test_a_ceiling_that_is_lowered_ends_a_connection_that_is_above_it_and_starts_no_charge() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    allowed(office, price_per_kwh=Decimal("0.40"))
    assert office.net.charge_points["CP1"].connection == connection  # What runs there goes on.
    office.say(connection, office.completion(session_id, 1, 300))
    assert office.ask().code == "above_ceiling"
    assert not office.is_free()
    office.charge_points["CP1"] = replace(office.charge_points["CP1"], ceiling_price_per_kwh=Decimal("0.39"))
    assert closed(office.obey(Reread("CP1"))[1]) == [(connection, AboveCeiling)]


def test_an_operators_own_price_has_no_ceiling() -> None:
    office = Office()
    office.settled()
    office.obey(SetPrice("CP1", Decimal(50), "EUR"))
    assert office.ask().price_per_kwh == Decimal(50)


def test_a_charge_in_the_name_of_somebody_who_asked_for_nothing_costs_no_fortune() -> None:
    world = World(Policy())
    connection = world.came()
    world.say(connection, world.auth("CP1"))
    registered(world, connection, price_per_kwh=Decimal(1000), max_power_w=100_000_000)
    decisions = world.say(connection, world.request("D1"))
    assert only(frames(decisions, ChargeRequestResponse, connection)).code == "not_registered"
    assert records(world.kafka(Topic.CHARGE_REQUESTS, world.request("D1")), ChargeRequestResponse)[0].code == (
        "charge_point_unavailable"
    )
    assert world.sessions == {}

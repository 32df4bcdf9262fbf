"""What a charge point can have given: in sum, between two readings, and until when."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from test_network import World, frames, only

from evcharge.domain.decisions import FromMonitor, Known
from evcharge.domain.instant import Instant
from evcharge.domain.network import Policy
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.set_aside import Kind
from evcharge.domain.status import Status
from evcharge.protocol.messages import ChargingData, ErrorResponse
from evcharge.protocol.topics import Topic

AT_ONCE_WH = 6_050
"""What is believed of a charge point of 22 kW a moment after the last reading: 1.1 times that of 15 minutes."""
HOUR_WH = 24_200
"""1.1 times what it gives in an hour."""
DAY_S = 24 * 3600


def take(world: World, connection: int, reading: ChargingData) -> bool:
    """Whether it was believed."""
    errors = frames(world.say(connection, reading), ErrorResponse)
    assert [error.code for error in errors] in ([], ["implausible_meter"])
    return not errors


def patient() -> World:
    """With a Central that closes no session for being silent."""
    return World(Policy(silent_session_s=30 * DAY_S))


def in_an_hour(world: World, connection: int) -> None:
    """An hour passes, and the charge point stays connected."""
    world.seconds += 3600
    world.say(connection, world.account(session_id=only(list(world.net.sessions)), status=Status.CHARGING))


@pytest.mark.parametrize(
    ("energy_wh", "power_w"),
    [(AT_ONCE_WH + 1, 7_000), (0, 24_201), (10**9, 0)],
    ids=["energy", "power", "nonsense"],
)
def test_a_meter_that_says_more_than_the_charge_point_can_have_given_is_refused(
    energy_wh: int, power_w: int
) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    reading = world.reading(session_id, 1, energy_wh, power_w=power_w)
    decisions = world.say(connection, reading)
    error = only(frames(decisions, ErrorResponse, connection))
    assert (error.code, error.in_reply_to) == ("implausible_meter", reading.message_id)
    assert decisions.counts["implausible_meter"] == 1
    assert world.sessions[session_id].energy_wh == 0
    world.say(connection, world.reading(session_id, 2, 500))
    assert world.sessions[session_id].energy_wh == 500, "the next one counts"


def test_what_is_tolerated_fits_clocks_and_is_no_hour_s_energy() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    assert take(world, connection, world.reading(session_id, 1, AT_ONCE_WH))


def test_what_a_charge_point_can_have_given_grows_with_time_and_with_the_time_scale() -> None:
    for policy, seconds in ((Policy(), 3600), (Policy(time_scale=2), 0)):
        world = World(policy)
        connection = world.settled()
        session_id = world.charging(connection)
        world.seconds += seconds
        for seq, energy_wh in enumerate(range(AT_ONCE_WH, 2 * HOUR_WH + 1, AT_ONCE_WH), 1):
            assert take(world, connection, world.reading(session_id, seq, energy_wh))
        assert take(world, connection, world.reading(session_id, 10, 2 * HOUR_WH))
        assert not take(world, connection, world.reading(session_id, 11, 2 * HOUR_WH + 2))


def test_a_wall_clock_that_was_set_back_loses_no_energy() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.seconds += 3600
    reading = world.reading(session_id, 1, HOUR_WH)
    set_back = Instant(world.now.utc - timedelta(days=1), world.now.monotonic_s)
    world.net.decide([FromMonitor(connection, reading)], Known(), set_back)
    assert world.net.sessions[session_id].energy_wh == HOUR_WH


def test_a_wall_clock_that_was_set_ahead_by_years_does_not_make_anything_plausible() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    ahead = Instant(world.now.utc + timedelta(days=3650), world.now.monotonic_s + 1)
    reading = world.reading(session_id, 1, 25 * HOUR_WH + 10, timestamp=ahead.utc)
    world.net.decide([FromMonitor(connection, reading)], Known(), ahead)
    assert world.net.sessions[session_id].energy_wh == 0


def wrong_clock(world: World) -> tuple[int, UUID]:
    """Central starts in mid-charge with a clock of ten years ago, as without a battery, until NTP has set it."""
    session_id = world.charging(world.settled())
    world.seconds += 3600 - 10 * 365 * DAY_S
    world.restart()
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id, status=Status.CHARGING))
    return connection, session_id


def test_a_machine_that_starts_with_a_wrong_clock_in_mid_charge_loses_no_energy() -> None:
    world = World()
    connection, session_id = wrong_clock(world)
    right = world.now.utc + timedelta(days=3650)
    world.say(connection, world.reading(session_id, 1, HOUR_WH, timestamp=right))
    assert world.sessions[session_id].energy_wh == HOUR_WH
    world.seconds += 10 * 365 * DAY_S
    world.say(connection, world.completion(session_id, 2, HOUR_WH + 10))
    assert only(world.receipts(session_id)).energy_wh == HOUR_WH + 10


def test_a_wrong_clock_does_not_make_everything_plausible_without_an_end() -> None:
    world = World()
    connection, session_id = wrong_clock(world)
    right = world.now.utc + timedelta(days=3650)
    assert not take(world, connection, world.reading(session_id, 1, 26 * HOUR_WH, timestamp=right))


# Between two readings


def test_one_wrong_reading_does_not_use_up_what_hours_have_allowed() -> None:
    world = patient()
    connection = world.settled()
    session_id = world.charging(connection)
    in_an_hour(world, connection)
    assert take(world, connection, world.reading(session_id, 1, 3_000))
    assert not take(world, connection, world.reading(session_id, 2, 20_000))
    assert take(world, connection, world.reading(session_id, 3, 3_003))


def test_one_wrong_reading_does_not_outlive_the_meter_s_last_word() -> None:
    """24,000 Wh, seconds after the start; the meter's last word is 200 Wh."""
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    for seq, energy_wh in enumerate((0, 100, 24_000, 103)):
        world.say(connection, world.reading(session_id, seq, energy_wh))
    world.say(connection, world.completion(session_id, 4, 200))
    receipt = only(world.receipts(session_id))
    assert (receipt.energy_wh, receipt.status) == (200, SessionStatus.COMPLETED)
    assert world.waiting() == [], "the completion has settled what the reading could not"
    assert [(item.kind, item.energy_wh, item.settled_by) for item in world.set_aside] == [
        (Kind.IMPLAUSIBLE_READING, 24_000, "completion")
    ]


def test_readings_that_waited_for_a_connection_come_all_at_once_and_are_believed() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    began = world.now.utc
    world.gone(connection)
    world.seconds += 3000
    readings = [
        world.reading(session_id, seq, 6 * seq, power_w=22_000, timestamp=began + timedelta(seconds=seq))
        for seq in range(0, 3000, 600)
    ]
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id, status=Status.CHARGING))
    world.kafka(Topic.SESSION_DATA, *readings)
    assert world.sessions[session_id].energy_wh == readings[-1].energy_wh == 14_400


def test_a_charge_point_s_own_clock_does_not_make_more_possible_than_central_s_does_in_sum() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    much_later = world.now.utc + timedelta(days=300)
    assert not take(world, connection, world.reading(session_id, 1, 26_000, timestamp=much_later))


def test_after_a_restart_of_central_the_time_between_two_readings_is_known_by_the_last_that_was_kept() -> None:
    world = patient()
    connection = world.settled()
    session_id = world.charging(connection)
    in_an_hour(world, connection)
    world.say(connection, world.reading(session_id, 1, 3_000))
    world.restart()
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id, status=Status.CHARGING))
    assert not take(world, connection, world.reading(session_id, 2, 20_000))
    world.seconds += 1800
    assert take(world, connection, world.reading(session_id, 3, 14_000))


# The limit


def test_a_lower_limit_in_mid_charge_does_not_make_energy_already_taken_implausible() -> None:
    """22 kW for an hour, then the Monitor registers 7.4 kW; every later reading was refused, and 2.4 kWh lost."""
    world = patient()
    connection = world.settled()
    session_id = world.charging(connection)
    in_an_hour(world, connection)
    assert take(world, connection, world.reading(session_id, 1, 22_000, power_w=22_000))
    world.say(connection, world.registration("CP1", max_power_w=7_400))
    world.seconds += 1200
    world.say(connection, world.account(session_id=session_id, status=Status.CHARGING))
    assert take(world, connection, world.reading(session_id, 2, 24_400, power_w=7_400))
    world.say(connection, world.completion(session_id, 3, 24_466))
    receipt = only(world.receipts(session_id))
    assert (receipt.energy_wh, receipt.status) == (24_466, SessionStatus.COMPLETED)


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_taken_before_the_limit_fell_is_believed_though_it_is_told_after(restarted: bool) -> None:
    world = patient()
    connection = world.settled()
    session_id = world.charging(connection)
    in_an_hour(world, connection)
    world.say(connection, world.registration("CP1", max_power_w=7_400))
    if restarted:
        world.restart()
        connection = world.connect()
        world.say(connection, world.registration("CP1", max_power_w=7_400))
    assert take(world, connection, world.reading(session_id, 1, 22_000, power_w=22_000))


def test_once_a_reading_was_believed_the_lower_limit_holds_from_then_on() -> None:
    world = patient()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.registration("CP1", max_power_w=7_400))
    assert take(world, connection, world.reading(session_id, 1, 100, power_w=22_000))
    assert not take(world, connection, world.reading(session_id, 2, 110, power_w=22_000))
    in_an_hour(world, connection)
    assert not take(world, connection, world.reading(session_id, 3, 11_000, power_w=7_400))
    assert take(world, connection, world.reading(session_id, 3, 7_500, power_w=7_400))


def test_a_limit_that_rises_holds_from_then_on_and_not_for_the_time_before() -> None:
    world = patient()
    connection = world.settled()
    world.say(connection, world.registration("CP1", max_power_w=3_700))
    session_id = world.charging(connection)
    in_an_hour(world, connection)
    world.say(connection, world.registration("CP1", max_power_w=22_000))
    assert not take(world, connection, world.reading(session_id, 1, 40_000, power_w=22_000))
    in_an_hour(world, connection)
    assert take(world, connection, world.reading(session_id, 2, 45_000, power_w=22_000))


def test_registering_again_and_again_makes_nothing_possible() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    for number in range(2_000):
        world.say(connection, world.registration("CP1", max_power_w=22_000 + number % 2))
    assert not take(world, connection, world.reading(session_id, 1, AT_ONCE_WH + 5))


def test_a_session_from_before_limits_were_kept_has_its_charge_point_s() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.sessions[session_id] = replace(world.sessions[session_id], limit_w=None, limit_since=None, peak_w=0)
    world.seconds += 3600
    world.restart()
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id, status=Status.CHARGING))
    assert not take(world, connection, world.reading(session_id, 1, HOUR_WH + AT_ONCE_WH + 1))
    assert take(world, connection, world.reading(session_id, 1, HOUR_WH))


# The target


@pytest.mark.parametrize(("energy_wh", "believed"), [(1_000, True), (1_380, True), (1_400, False), (2_000, False)])
def test_the_target_is_a_bound(energy_wh: int, believed: bool) -> None:
    """2 % and one minute at the limit more than was asked for: 1,020 and 366 Wh."""
    world = World()
    connection = world.settled()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request(energy_wh=1_000))
    session_id = only(list(decisions.sessions))
    world.begun(connection, session_id)
    assert take(world, connection, world.reading(session_id, 1, energy_wh)) is believed
    world.say(connection, world.completion(session_id, 2, energy_wh, EndReason.TARGET_REACHED))
    assert world.sessions[session_id].energy_wh == (energy_wh if believed else 0)


@pytest.mark.parametrize(("energy_wh", "believed"), [(4_060, True), (4_061, False), (16_000, False)])
def test_a_powerful_charge_point_passes_its_target_by_1_kwh_at_the_most(energy_wh: int, believed: bool) -> None:
    """A minute of 1 MW would be five times the target, and the limit of cost that it came from worth nothing."""
    world = World()
    connection = world.settled()
    world.say(connection, world.registration("CP1", max_power_w=1_000_000))
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request(energy_wh=3_000))
    world.begun(connection, only(list(decisions.sessions)))
    assert take(world, connection, world.reading(only(list(decisions.sessions)), 1, energy_wh)) is believed


# The end of the bound


def gave_up(world: World) -> tuple[int, UUID]:
    """A session of 1,000 Wh that Central has closed as `engine_lost`."""
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 1_000), world.fault("engine_silent"))
    return connection, session_id


def test_what_was_delivered_in_three_hours_offline_is_billed_without_a_person() -> None:
    world = World()
    _, session_id = gave_up(world)
    world.seconds += 3 * 3600
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 9, 60_000))
    assert world.sessions[session_id].energy_wh == 60_000
    assert world.waiting() == []


@pytest.mark.parametrize("days", [1, 2, 365])
def test_what_a_session_can_have_got_ends_a_day_after_central_has_closed_it(days: int) -> None:
    world = World()
    _, session_id = gave_up(world)
    world.seconds += days * DAY_S
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 9, 25 * HOUR_WH + 10_000))
    assert world.sessions[session_id].energy_wh == 1_000
    assert only(world.waiting()).kind is Kind.IMPLAUSIBLE_COMPLETION


def test_a_session_that_was_closed_under_a_wrong_clock_is_bounded_to_a_day_as_well() -> None:
    world = World()
    connection, session_id = wrong_clock(world)
    world.say(connection, world.fault("engine_silent"))
    world.seconds += 10 * 365 * DAY_S
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 9, 26 * HOUR_WH))
    assert world.sessions[session_id].energy_wh == 0
    assert only(world.waiting()).kind is Kind.IMPLAUSIBLE_COMPLETION

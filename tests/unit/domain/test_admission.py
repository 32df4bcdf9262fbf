"""Who is let in: keys, client certificates."""

from __future__ import annotations

import pytest
from test_network import World, closed, frames, only

from evcharge.domain.charge_point import NO_HASH, ChargePoint, hash_key
from evcharge.domain.decisions import MonitorCame
from evcharge.domain.network import Policy
from evcharge.errors import AuthenticationFailed
from evcharge.protocol.messages import AuthResponse


def came_as(world: World, certified: str | None = None, origin: str = "192.0.2.1") -> int:
    """A new connection that has shown this certificate."""
    connection = 1000 + world.came()
    world.give(MonitorCame(connection, certified, origin))
    return connection


def knock(world: World, cp_id: str, key: str | None = None, origin: str = "192.0.2.1") -> str | None:
    """One attempt on a connection of its own: the code of the refusal, None if it is let in."""
    connection = came_as(world, origin=origin)
    decisions = world.say(connection, world.auth(cp_id, key))
    answer = only(frames(decisions, AuthResponse))
    assert answer.accepted == (closed(decisions) == []), "whoever is refused is closed"
    world.gone(connection)
    return answer.code


def fail(world: World, cp_id: str = "CP1", times: int = 5, origin: str = "192.0.2.1") -> None:
    for _ in range(times):
        assert knock(world, cp_id, "wrong", origin) == "authentication_failed"


@pytest.mark.parametrize("certified", ["CP1", None])
def test_a_certificate_of_ones_own_or_none_is_let_in_with_the_key(certified: str | None) -> None:
    world = World()
    connection = came_as(world, certified)
    assert only(frames(world.say(connection, world.auth("CP1")), AuthResponse)).accepted


@pytest.mark.parametrize("certified", ["CP2", "", "cp1", "x" * 10_000])
def test_a_certificate_of_another_is_refused_whatever_the_key(certified: str) -> None:
    world = World()
    connection = came_as(world, certified)
    decisions = world.say(connection, world.auth("CP1"))
    answer = only(frames(decisions, AuthResponse))
    assert (answer.accepted, answer.code) == (False, AuthenticationFailed.code)
    assert (answer.reason or "").startswith("the client certificate is not that of CP1: its CN is ")
    assert closed(decisions) == [(connection, AuthenticationFailed)]


def test_the_certificate_alone_is_not_enough() -> None:
    world = World()
    connection = came_as(world, "CP1")
    assert not only(frames(world.say(connection, world.auth("CP1", "wrong")), AuthResponse)).accepted


def test_certificates_of_connections_that_have_gone_are_forgotten() -> None:
    world = World()
    connection = came_as(world, "CP1")
    world.gone(connection)
    assert connection not in world.net.came


def test_what_a_replaced_connection_still_says_makes_it_nobody_else() -> None:
    """Its certificate has been forgotten, and a charge point without a certificate is told by its key alone."""
    world = World(Policy(open_registration=True))
    replaced, newer = came_as(world, "NEW"), came_as(world, "NEW")
    for connection in (replaced, newer):
        world.say(connection, world.auth("NEW", ""), world.registration("NEW"))
    decisions = world.say(replaced, world.auth("OTHER", ""), world.registration("OTHER"))
    assert [answer.accepted for answer in frames(decisions, AuthResponse)] == [False]
    assert "OTHER" not in world.net.charge_points
    assert world.net.charge_points["NEW"].connection == newer


# Who has failed too often


def test_after_five_failures_in_a_row_a_wrong_key_waits() -> None:
    world = World()
    fail(world)
    assert knock(world, "CP1", "wrong") == "too_many_failures"
    world.wait(1.0)
    fail(world, times=1)


def test_a_right_key_is_let_in_at_once_whoever_has_failed_beside_it() -> None:
    """The first time since the start, too, and while the guesses go on."""
    world = World()
    for _ in range(30):
        knock(world, "CP1", "wrong")
    for number in range(200):
        knock(world, f"X{number}")
    assert knock(world, "CP2", "wrong") == "too_many_failures", "the address waits"
    assert knock(world, "CP1") is None
    assert knock(world, "CP2") is None


def test_the_wait_doubles_from_1_to_300_s_and_is_told() -> None:
    world = World()
    fail(world, times=4)
    for expected_s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        fail(world, times=1)
        decisions = world.say(came_as(world), world.auth("CP1", "wrong"))
        assert f"try again in {expected_s} s" in (only(frames(decisions, AuthResponse)).reason or "")
        world.wait(expected_s - 0.01)
        assert knock(world, "CP1", "wrong") == "too_many_failures"
        world.wait(0.01)


def test_an_attempt_that_comes_too_early_is_no_failure() -> None:
    world = World()
    fail(world)
    for _ in range(50):
        assert knock(world, "CP1", "wrong") == "too_many_failures"
    world.wait(1.0)
    fail(world, times=1)


def test_a_success_clears_the_count() -> None:
    world = World()
    for _ in range(3):
        fail(world, times=4)
        assert knock(world, "CP1") is None
    fail(world)
    assert knock(world, "CP1", "wrong") == "too_many_failures"


def test_neither_another_address_nor_a_neighbour_is_held_up() -> None:
    world = World()
    fail(world)
    assert knock(world, "CP1", origin="192.0.2.2") is None
    assert knock(world, "CP2") is None


def test_one_wrong_key_that_is_tried_for_a_day_locks_no_neighbour_out() -> None:
    """As a Monitor does, which tries about each 30 s whatever it is told."""
    world = World()
    looked_at = 0
    for _ in range(24 * 120):
        looked_at += knock(world, "CP1", "wrong") == "authentication_failed"
        assert knock(world, "CP2") is None
        world.wait(30.0)
    assert 24 * 10 < looked_at < 24 * 15


def test_an_address_that_tries_many_ids_waits_whatever_the_id() -> None:
    world = World()
    for number in range(100):
        assert knock(world, f"X{number}") == "authentication_failed"
    assert knock(world, "X101") == "too_many_failures"
    assert knock(world, "CP1", "wrong") == "too_many_failures"
    fail(world, times=1, origin="192.0.2.2")
    world.wait(1.0)
    fail(world, times=1)


def test_guesses_on_one_connection_count_as_well() -> None:
    world = World()
    connection = came_as(world)
    said = [world.auth("CP1", f"guess {number}") for number in range(20)]
    codes = [answer.code for answer in frames(world.say(connection, *said), AuthResponse)]
    assert codes == ["authentication_failed"] * 5 + ["too_many_failures"] * 15


def test_the_log_tells_each_wait_once() -> None:
    world = World()
    fail(world)
    for _ in range(20):
        knock(world, "CP1", "wrong")
    told = [note.fields for note in world.everything.notes if note.event == "authentication_held_back"]
    assert told == [{"cp_id": "CP1", "origin": "192.0.2.1", "wait_s": 1}]
    assert len([note for note in world.everything.notes if note.event == "refused"]) == 5


def test_open_registration_lets_in_who_has_no_key_and_holds_back_who_guesses_one() -> None:
    world = World(Policy(open_registration=True))
    assert knock(world, "NEW") is None
    fail(world)
    assert knock(world, "CP1", "wrong") == "too_many_failures"


# Ids


@pytest.mark.parametrize("cp_id", ["..", "-x"])
def test_open_registration_admits_nobody_anew_whose_id_is_a_way_up_or_an_option(cp_id: str) -> None:
    world = World(Policy(open_registration=True))
    connection = came_as(world)
    answer = only(frames(world.say(connection, world.auth(cp_id, "")), AuthResponse))
    assert (answer.accepted, answer.code) == (False, "invalid_field")
    assert (answer.reason or "").startswith(f"`cp_id` {cp_id} is no id; an id has")
    assert cp_id not in world.net.charge_points
    world.settled("CP1")
    refused = world.ask(driver_id=cp_id)
    assert (refused.accepted, refused.code) == (False, "invalid_field")


def test_a_charge_point_that_had_such_an_id_before_goes_on() -> None:
    world = World(charge_points=[ChargePoint("..", hash_key("key of .."))])
    assert knock(world, "..", "key of ..") is None


# Keys


def test_a_charge_point_without_a_key_admits_none() -> None:
    for key in ("", "0" * 64, NO_HASH):
        assert not ChargePoint("CP1").admits(key)
    assert ChargePoint("CP1", hash_key("k")).admits("k")

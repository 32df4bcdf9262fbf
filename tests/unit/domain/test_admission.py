"""Who is let in: keys, client certificates."""

from __future__ import annotations

import pytest
from test_network import World, closed, frames, only

from evcharge.domain.decisions import MonitorCame
from evcharge.errors import AuthenticationFailed
from evcharge.protocol.messages import AuthResponse


def came_as(world: World, certified: str | None) -> int:
    """A new connection that has shown this certificate."""
    connection = 1000 + world.came()
    world.give(MonitorCame(connection, certified))
    return connection


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
    assert (answer.reason or "").startswith("the client certificate is not that of CP1; the CN of its subject is ")
    assert closed(decisions) == [(connection, AuthenticationFailed)]


def test_the_certificate_alone_is_not_enough() -> None:
    world = World()
    connection = came_as(world, "CP1")
    assert not only(frames(world.say(connection, world.auth("CP1", "wrong")), AuthResponse)).accepted


def test_certificates_of_connections_that_have_gone_are_forgotten() -> None:
    world = World()
    connection = came_as(world, "CP1")
    world.gone(connection)
    assert world.net.certified == {}

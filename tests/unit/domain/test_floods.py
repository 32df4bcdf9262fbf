"""One charge point that makes a noise: all of it counts, and little of it is written down."""

from __future__ import annotations

from collections import Counter

from test_network import World, only

from evcharge.domain.decisions import FaultOpened
from evcharge.domain.floods import FAULTS_AT_ONCE, LINES_AT_ONCE
from evcharge.domain.status import Status
from evcharge.protocol.messages import ErrorResponse, Message


class Heard:
    """What a world has written down, and counted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def say(self, connection: int, *said: Message) -> None:
        decisions = self.world.say(connection, *said)
        self.rows.update(fault.cp_id for fault in decisions.faults if isinstance(fault, FaultOpened))
        self.counts.update(decisions.counts)

    def lines(self, event: str | None = None) -> list[dict[str, object]]:
        """Of the log: those with a kind are told once a minute."""
        notes = [note for note in self.world.everything.notes if event in (None, note.event)]
        once = {note.kind: note.fields for note in notes if note.kind is not None}
        return [note.fields for note in notes if note.kind is None] + list(once.values())


def test_faults_that_come_and_go_fill_neither_the_table_nor_the_log() -> None:
    world = World()
    heard = Heard(world)
    hostile, neighbour = world.settled("CP1"), world.settled("CP2")
    for number in range(3000):
        heard.say(hostile, world.fault(f"F{number}"))
        assert world.status("CP1") is Status.FAULTY, "each of them counts"
        heard.say(hostile, world.recovery(f"F{number}"))
        assert world.status("CP1") is Status.ACTIVE
    assert heard.rows["CP1"] == FAULTS_AT_ONCE
    assert heard.counts["fault_left_out"] == 3000 - FAULTS_AT_ONCE
    assert len(heard.lines()) < LINES_AT_ONCE + 20
    assert only(heard.lines("faults_left_out"))["cp_id"] == "CP1"
    assert only(heard.lines("events_left_out")) == {"of": "CP1"}
    heard.say(neighbour, world.fault("broken", "CP2"))
    assert heard.rows["CP2"] == 1
    assert heard.lines("state")[-1]["cp_id"] == "CP2"


def test_after_a_while_it_is_written_down_again_with_the_sum_of_what_was_not() -> None:
    world = World()
    heard = Heard(world)
    connection = world.settled("CP1")
    for number in range(1000):
        heard.say(connection, world.fault(f"F{number}"), world.recovery(f"F{number}"))
    left_out = heard.counts["event_left_out"]
    assert left_out > 1000
    world.seconds += 60.0
    rows = heard.rows["CP1"]
    heard.say(connection, world.fault("later"))
    assert heard.rows["CP1"] == rows + 1
    assert heard.lines("state")[-1]["silenced_before"] == left_out


def test_who_comes_and_goes_all_the_time_fills_nothing_either() -> None:
    world = World()
    heard = Heard(world)
    for _ in range(500):
        world.gone(world.settled("CP1"))
    assert len(heard.lines()) < LINES_AT_ONCE + 20
    assert world.status("CP1") is Status.DISCONNECTED


def test_errors_and_refused_requests_of_a_charge_point_are_bounded() -> None:
    world = World()
    heard = Heard(world)
    connection = world.settled("CP1")
    for _ in range(1000):
        heard.say(connection, world.make(ErrorResponse, code="x", reason="y" * 500))
        heard.say(connection, world.request("nobody", "CP1"))
        heard.say(connection, world.registration("CP2"))
    assert len(heard.lines()) < LINES_AT_ONCE + 20
    assert heard.counts["error_received"] == 1000

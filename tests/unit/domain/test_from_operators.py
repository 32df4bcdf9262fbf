"""What operators ask of Central: what it does, what it tells them, what it writes down of it."""

from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from test_network import PRICE, World, closed, frames, moves, only, records

from evcharge.central.board import seen
from evcharge.domain.charge_point import ChargePoint, hash_key
from evcharge.domain.commands import (
    Actor,
    AuditEntry,
    Command,
    Reread,
    SetPrice,
    SetService,
    StartCharge,
    StopCharge,
)
from evcharge.domain.decisions import Decisions, FromOperator
from evcharge.domain.network import Policy
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.status import Status
from evcharge.errors import (
    AuthenticationFailed,
    ChargePointBusy,
    ChargePointUnavailable,
    DriverBusy,
    InternalError,
    InvalidField,
    NoOpenSession,
    NotYours,
    OutOfService,
    UnknownChargePoint,
    UnknownDriver,
    WireError,
)
from evcharge.protocol.messages import (
    AuthResponse,
    ChargeRequestResponse,
    ChargingStatusUpdate,
    RegisterResponse,
    StartChargingCommand,
    StopChargingCommand,
    derived_id,
)
from evcharge.protocol.topics import Topic

MARIA = Actor("maria", "http")


class Office(World):
    """The network with an operator, who sees what came of each command."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._tickets = count(1)

    def obey(self, command: Command, actor: Actor = MARIA) -> tuple[Any, Decisions]:
        """The outcome of the command, and all that was decided."""
        self.net.touched.clear()
        ticket = next(self._tickets)
        decisions = self.give(FromOperator(ticket, actor, command))
        outcome = only(decisions.outcomes)
        assert outcome.ticket == ticket
        return outcome.result, decisions

    def refused(self, command: Command) -> WireError:
        """The refusal of the command, of which nothing is stored or said, and nothing written into the audit."""
        result, decisions = self.obey(command)
        assert isinstance(result, WireError), result
        assert decisions.nothing_to_store
        assert (decisions.frames, decisions.records, decisions.closings) == ([], [], [])
        assert not self.net.touched
        note = only([note for note in decisions.notes if note.event == "refused"])
        assert (note.fields["code"], note.fields["operator"]) == (result.code, "maria")
        assert decisions.counts == {result.code: 1}
        return result

    def started(self, cp_id: str = "CP1", driver_id: str = "D1", energy_wh: int | None = None) -> UUID:
        session_id, _ = self.obey(StartCharge(self.request(driver_id, cp_id, energy_wh)))
        assert isinstance(session_id, UUID), session_id
        return session_id

    def remove(self, cp_id: str) -> Decisions:
        self.charge_points[cp_id] = replace(self.charge_points[cp_id], removed=True)
        return self.obey(Reread(cp_id))[1]

    def price_of(self, cp_id: str = "CP1") -> tuple[Decimal, str, bool]:
        """As held in memory, which is as stored."""
        cp = self.net.charge_points[cp_id]
        price = (cp.price_per_kwh, cp.currency, cp.price_by_operator)
        stored = self.charge_points[cp_id]
        assert price == (stored.price_per_kwh, stored.currency, stored.price_by_operator)
        return price


def service(cp_id: str | None = "CP1", out_of_service: bool = True) -> SetService:
    return SetService(cp_id, out_of_service)


def price(per_kwh: str | None, currency: str | None = None, cp_id: str = "CP1") -> SetPrice:
    return SetPrice(cp_id, None if per_kwh is None else Decimal(per_kwh), currency)


# Start


def test_an_operator_starts_a_charge_as_its_driver_would() -> None:
    office = Office()
    connection = office.settled()
    request = office.request("D1", "CP1", energy_wh=5000)
    session_id, decisions = office.obey(StartCharge(request))
    assert session_id == derived_id(request.message_id, "session")
    command = only(frames(decisions, StartChargingCommand, connection))
    assert (command.session_id, command.driver_id, command.energy_wh) == (session_id, "D1", 5000)
    after = {"driver_id": "D1", "cp_id": "CP1", "energy_wh": 5000}
    assert decisions.audit == [AuditEntry(MARIA, "start", str(session_id), None, after)]
    assert decisions.answers == []  # The driver has asked nothing.
    assert records(decisions, ChargeRequestResponse) == []
    assert office.sessions[session_id].status is SessionStatus.AUTHORISED
    assert office.net.touched == {"CP1"}


def test_its_driver_hears_of_a_charge_that_an_operator_started() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.started()
    update = only(records(office.begun(connection, session_id), ChargingStatusUpdate, "D1"))
    assert (update.session_id, update.status) == (session_id, SessionStatus.CHARGING)
    office.say(connection, office.completion(session_id, 1, 700))
    assert only(office.receipts(session_id)).energy_wh == 700


def test_the_same_start_again_starts_no_second_charge() -> None:
    office = Office()
    connection = office.settled()
    start = StartCharge(office.request())
    first, _ = office.obey(start)
    again, decisions = office.obey(start)
    assert again == first
    assert decisions.nothing_to_store
    assert decisions.frames == []
    assert not office.net.touched
    office.begun(connection, first)
    office.say(connection, office.completion(first, 1, 700))
    assert office.obey(start)[0] == first
    office.restart()
    office.settled()
    again, decisions = office.obey(start)
    assert again == first
    assert decisions.nothing_to_store


def test_the_id_of_one_charge_starts_no_other() -> None:
    office = Office()
    office.settled()
    office.settled("CP2")
    request = office.request("D1", "CP1")
    office.obey(StartCharge(request))
    for other in (msgspec.structs.replace(request, cp_id="CP2"), msgspec.structs.replace(request, driver_id="D2")):
        refusal = office.refused(StartCharge(other))
        assert isinstance(refusal, NotYours)
        assert str(request.message_id) in str(refusal)


def test_the_same_start_twice_in_one_batch_starts_one_charge() -> None:
    office = Office()
    office.settled()
    start = StartCharge(office.request())
    decisions = office.give(FromOperator(1, MARIA, start), FromOperator(2, MARIA, start))
    first, second = decisions.outcomes
    assert (first.ticket, second.ticket) == (1, 2)
    assert first.result == second.result
    assert len(decisions.audit) == len(decisions.sessions) == 1
    assert len(frames(decisions, StartChargingCommand)) == 1


def test_what_a_driver_has_asked_for_is_not_started_again_by_an_operator() -> None:
    office = Office()
    office.settled()
    request = office.request()
    office.kafka(Topic.CHARGE_REQUESTS, request)
    session_id, decisions = office.obey(StartCharge(request))
    assert session_id == derived_id(request.message_id, "session")
    assert decisions.nothing_to_store


def test_a_start_that_cannot_be_is_refused_with_the_code_that_a_driver_would_get() -> None:
    office = Office()
    connection = office.settled()

    def start(driver_id: str = "D1", cp_id: str = "CP1") -> WireError:
        return office.refused(StartCharge(office.request(driver_id, cp_id)))

    assert isinstance(start(cp_id="CP9"), UnknownChargePoint)
    assert isinstance(start(cp_id="CP2"), ChargePointUnavailable)
    assert isinstance(start("STRANGER"), UnknownDriver)
    office.charging(connection)
    assert isinstance(start("D2"), ChargePointBusy)
    office.settled("CP2")
    assert isinstance(start("D1", "CP2"), DriverBusy)


def test_open_registration_serves_strangers_that_an_operator_starts_a_charge_for() -> None:
    office = Office(Policy(open_registration=True))
    office.settled()
    office.started(driver_id="STRANGER")
    assert "STRANGER" in office.drivers
    office.removed_drivers.add("D1")
    office.drivers.discard("D1")
    office.settled("CP2")
    assert isinstance(office.refused(StartCharge(office.request("D1", "CP2"))), UnknownDriver)


# Stop


def test_an_operator_stops_a_charge() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    office.say(connection, office.reading(session_id, 1, 300))
    reason, decisions = office.obey(StopCharge(session_id))
    assert reason is None
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id
    before, after = {"stop_requested": False, "energy_wh": 300}, {"stop_requested": True}
    assert decisions.audit == [AuditEntry(MARIA, "stop", str(session_id), before, after)]
    assert office.sessions[session_id].stop_requested
    assert office.net.touched == {"CP1"}
    office.say(connection, office.completion(session_id, 2, 400))
    assert only(office.receipts(session_id)).end_reason is EndReason.STOPPED


def test_a_charge_at_a_charge_point_that_is_offline_stops_when_that_is_back() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    office.gone(connection)
    reason, decisions = office.obey(StopCharge(session_id))
    assert reason == "CP1 is offline; it stops when it is back"
    assert len(decisions.audit) == 1
    connection = office.connect()
    decisions = office.say(connection, office.account(session_id=session_id))
    assert only(frames(decisions, StopChargingCommand)).session_id == session_id


def test_what_is_not_open_cannot_be_stopped() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    office.say(connection, office.completion(session_id, 1, 300))
    for no_longer_or_never in (session_id, uuid4()):
        assert isinstance(office.refused(StopCharge(no_longer_or_never)), NoOpenSession)


# Out of service


def test_out_of_service_refuses_drivers_and_operators_and_a_running_charge_goes_on() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    changed, decisions = office.obey(service())
    assert changed == ["CP1"]
    assert decisions.frames == []
    before, after = {"out_of_service": False}, {"out_of_service": True}
    assert decisions.audit == [AuditEntry(MARIA, "out of service", "CP1", before, after)]
    assert office.charge_points["CP1"].out_of_service
    assert office.net.touched == {"CP1"}
    assert office.status() is Status.CHARGING
    office.say(connection, office.completion(session_id, 1, 300))
    assert only(office.receipts(session_id)).energy_wh == 300
    assert office.ask().code == OutOfService.code
    assert isinstance(office.refused(StartCharge(office.request())), OutOfService)
    assert not office.is_free()


def test_back_in_service_it_is_free_again() -> None:
    office = Office()
    office.settled()
    office.obey(service())
    changed, decisions = office.obey(service(out_of_service=False))
    assert changed == ["CP1"]
    before, after = {"out_of_service": True}, {"out_of_service": False}
    assert decisions.audit == [AuditEntry(MARIA, "in service", "CP1", before, after)]
    assert office.ask().accepted


def test_what_is_out_of_service_already_does_not_change() -> None:
    office = Office()
    office.obey(service())
    changed, decisions = office.obey(service())
    assert changed == []
    assert decisions.nothing_to_store
    assert not office.net.touched


def test_all_out_and_back_changes_those_that_it_was_otherwise_for() -> None:
    office = Office(charge_points=[ChargePoint(f"CP{n}", removed=n == 3) for n in (1, 2, 3, 4)])
    office.obey(service("CP2"))
    changed, decisions = office.obey(service(None))
    assert changed == ["CP1", "CP4"]
    assert [(entry.action, entry.target) for entry in decisions.audit] == [
        ("out of service", "CP1"),
        ("out of service", "CP4"),
    ]
    assert office.net.touched == {"CP1", "CP4"}
    changed, decisions = office.obey(service(None, out_of_service=False))
    assert changed == ["CP1", "CP2", "CP4"]
    assert not any(cp.out_of_service for cp in office.charge_points.values())


def test_a_charge_point_stays_out_of_service_over_reconnects_and_restarts() -> None:
    office = Office()
    office.obey(service())
    office.settled()
    assert office.ask().code == OutOfService.code
    office.restart()
    connection = office.came()
    office.say(connection, office.auth("CP1"))
    decisions = office.say(connection, office.registration("CP1"))
    assert only(frames(decisions, RegisterResponse)).out_of_service


# Price


def test_the_operators_price_holds_for_the_next_charge_and_survives_what_the_charge_point_registers() -> None:
    office = Office()
    connection = office.settled()
    running = office.charging(connection)
    _, decisions = office.obey(price("0.60", "CHF"))
    before = {"price_per_kwh": "0.45", "currency": "EUR", "price_by_operator": False}
    after = {"price_per_kwh": "0.60", "currency": "CHF", "price_by_operator": True}
    assert decisions.audit == [AuditEntry(MARIA, "price", "CP1", before, after)]
    assert office.net.touched == {"CP1"}
    office.say(connection, office.completion(running, 1, 1000))
    receipt = only(office.receipts(running))
    assert (receipt.price_per_kwh, receipt.cost, receipt.currency) == (PRICE, PRICE, "EUR")
    office.restart()
    connection = office.settled()
    assert office.price_of() == (Decimal("0.60"), "CHF", True)
    following = office.charging(connection)
    office.say(connection, office.completion(following, 1, 1000))
    receipt = only(office.receipts(following))
    assert (receipt.price_per_kwh, receipt.cost, receipt.currency) == (Decimal("0.60"), Decimal("0.60"), "CHF")


def test_a_price_without_a_currency_keeps_the_one_that_there_is() -> None:
    office = Office()
    office.obey(price("0.60", "CHF"))
    office.obey(price("0.70"))
    assert office.price_of() == (Decimal("0.70"), "CHF", True)


def test_a_price_in_what_is_no_currency_is_refused_also_where_an_older_database_has_one() -> None:
    office = Office()
    refused, _ = office.obey(price("0.60", "ABC"))
    assert isinstance(refused, InvalidField)
    assert "'ABC' is none" in str(refused)
    office.net.charge_points["CP1"].currency = "ABC"
    refused, _ = office.obey(price("0.70"))
    assert isinstance(refused, InvalidField)
    office.obey(price("0.70", "KWD"))
    assert office.price_of() == (Decimal("0.70"), "KWD", True)


def test_a_price_that_is_given_back_comes_back_at_once() -> None:
    office = Office()
    connection = office.settled()
    office.obey(price("0.60", "CHF"))
    office.say(connection, office.registration("CP1", price_per_kwh=Decimal("0.30")))
    assert office.price_of() == (Decimal("0.60"), "CHF", True)
    office.restart()
    _, decisions = office.obey(price(None))
    assert only(decisions.audit).after == {
        "price_per_kwh": "0.30",
        "currency": "EUR",
        "price_by_operator": False,
    }
    assert office.price_of() == (Decimal("0.30"), "EUR", False)


def test_a_price_that_no_monitor_has_told_comes_back_when_it_registers_next() -> None:
    office = Office()  # As an older database has it.
    office.obey(price("0.60", "CHF"))
    office.obey(price(None))
    assert office.price_of() == (Decimal("0.60"), "CHF", False)
    office.settled()
    assert office.price_of() == (PRICE, "EUR", False)


def test_a_price_that_is_so_already_is_no_change() -> None:
    office = Office()
    office.obey(price("0.60"))
    for same in (price("0.60"), price("0.60", "EUR"), price("0.6")):
        _, decisions = office.obey(same)
        assert decisions.nothing_to_store
        assert not office.net.touched
    office.obey(price(None))
    assert office.obey(price(None))[1].nothing_to_store


# Added and removed in the database


def test_a_charge_point_that_was_added_is_there_before_it_connects() -> None:
    office = Office()
    office.charge_points["CP0"] = ChargePoint("CP0", hash_key("key of CP0"))
    result, decisions = office.obey(Reread("CP0"))
    assert result is None
    assert decisions.nothing_to_store  # Whoever added it has written that into the audit.
    assert office.net.touched == {"CP0"}
    assert office.net.cp_ids == ["CP0", "CP1", "CP2"]
    assert isinstance(office.refused(StartCharge(office.request(cp_id="CP0"))), ChargePointUnavailable)
    office.settled("CP0")
    assert office.ask(cp_id="CP0").accepted


def test_what_the_database_does_not_have_is_not_reread() -> None:
    office = Office()
    _, decisions = office.obey(Reread("CP9"))
    assert decisions.nothing_to_store
    assert not office.net.touched
    assert "CP9" not in office.net.charge_points


def test_a_charge_point_that_is_removed_loses_its_connection_at_once() -> None:
    office = Office()
    connection = office.settled()
    decisions = office.remove("CP1")
    assert closed(decisions) == [(connection, AuthenticationFailed)]
    assert moves(decisions, "CP1") == ["FAULTY", "DISCONNECTED"]
    assert office.net.touched == {"CP1"}
    assert office.ask().code == UnknownChargePoint.code
    refusal = only(frames(office.say(office.came(), office.auth("CP1")), AuthResponse))
    assert not refusal.accepted
    for command in (service(), price("0.60"), StartCharge(office.request())):
        assert isinstance(office.refused(command), UnknownChargePoint)


def test_a_charge_point_that_is_removed_before_it_has_registered_cannot_register() -> None:
    office = Office()
    connection = office.came()
    office.say(connection, office.auth("CP1"))
    assert closed(office.remove("CP1")) == [(connection, AuthenticationFailed)]
    response = only(frames(office.say(connection, office.registration("CP1")), RegisterResponse))
    assert not response.accepted
    assert office.status() is Status.DISCONNECTED


def test_a_charge_point_that_is_added_again_comes_back_with_its_new_key() -> None:
    office = Office()
    office.settled()
    office.remove("CP1")
    office.charge_points["CP1"] = replace(
        office.charge_points["CP1"], key_hash=hash_key("key of CP1"), removed=False
    )
    office.obey(Reread("CP1"))
    assert office.net.touched == {"CP1"}
    assert office.net.cp_ids == ["CP1", "CP2"]
    office.settled()
    assert office.ask().accepted


def test_a_running_session_is_shown_in_its_own_currency_whatever_its_charge_point_s_is_now() -> None:
    office = Office()
    office.charging(office.settled())
    office.obey(SetPrice("CP1", Decimal(5), "SEK"))
    (shown,) = seen(office.net, {"CP1"}, [], office.now).charge_points
    assert shown.session is not None
    assert (shown.currency, shown.session.currency) == ("SEK", "EUR")


# Beside


@pytest.mark.parametrize("command", [service("CP9"), price("1", cp_id="CP9")])
def test_a_charge_point_that_is_not_there_cannot_be_changed(command: Command) -> None:
    assert isinstance(Office().refused(command), UnknownChargePoint)


def test_each_change_is_in_the_audit_with_who_made_it_and_is_told() -> None:
    office = Office()
    office.settled()
    paul = Actor("paul", "console")
    _, decisions = office.obey(service(), paul)
    assert only(decisions.audit).actor == paul
    note = only([note for note in decisions.notes if note.event == "operator"])
    assert note.fields == {"by": "paul", "via": "console", "action": "out of service", "target": "CP1"}


def test_commands_and_messages_of_one_batch_are_decided_in_their_order() -> None:
    office = Office()
    connection = office.settled()
    out, back = service(), service(out_of_service=False)
    decisions = office.give(FromOperator(1, MARIA, out), FromOperator(2, MARIA, out), FromOperator(3, MARIA, back))
    assert [outcome.result for outcome in decisions.outcomes] == [["CP1"], [], ["CP1"]]
    assert len(decisions.audit) == 2
    assert not office.charge_points["CP1"].out_of_service
    assert office.net.charge_points["CP1"].connection == connection


def test_a_bug_met_by_one_command_is_told_and_harms_no_other() -> None:
    office = Office()
    office.settled()
    office.bug_expected = True
    broken: Any = SetService(cp_id=["no", "id"], out_of_service=True)  # type: ignore[arg-type]
    decisions = office.give(FromOperator(1, MARIA, broken), FromOperator(2, MARIA, service()))
    first, second = decisions.outcomes
    assert isinstance(first.result, InternalError)
    assert second.result == ["CP1"]
    assert [note.event for note in decisions.notes if note.event == "bug"] == ["bug"]

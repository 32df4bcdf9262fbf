"""A charge point that is removed while a session is open: it ends it and is billed, and begins nothing more."""

from dataclasses import replace
from uuid import UUID

import pytest
from test_from_operators import Office
from test_network import closed, frames, only

from evcharge.central.board import seen
from evcharge.domain.commands import StartCharge, StopCharge
from evcharge.domain.decisions import EntriesChanged
from evcharge.domain.status import Status
from evcharge.errors import AuthenticationFailed, UnknownChargePoint, VehicleMissing
from evcharge.protocol.messages import AuthResponse, ChargeRequestResponse, StopChargingCommand
from evcharge.protocol.topics import Topic


def removed_in_mid_charge() -> tuple[Office, int, UUID]:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    decisions = office.remove("CP1")
    assert closed(decisions) == []
    assert office.status() is Status.CHARGING
    return office, connection, session_id


def is_listed(office: Office, cp_id: str = "CP1") -> bool:
    changes = seen(office.net, {cp_id}, [], office.now)
    return [cp.cp_id for cp in changes.charge_points] == [cp_id]


def test_a_charge_point_that_is_removed_in_mid_charge_is_listed_until_its_charge_has_been_billed() -> None:
    office, connection, session_id = removed_in_mid_charge()
    (cp,) = seen(office.net, {"CP1"}, [], office.now).charge_points
    assert (cp.removed, cp.available, cp.session is not None) == (True, False, True)
    office.say(connection, office.reading(session_id, 1, 300))
    assert office.obey(StopCharge(session_id))[0] is None
    decisions = office.say(connection, office.completion(session_id, 2, 800))
    assert only(office.receipts(session_id)).energy_wh == 800
    assert closed(decisions) == [(connection, AuthenticationFailed)]
    assert office.status() is Status.DISCONNECTED
    assert seen(office.net, {"CP1"}, [], office.now).removed_cp_ids == ["CP1"]


def test_a_charge_point_that_is_removed_in_mid_charge_is_admitted_with_its_key_until_its_charge_has_ended() -> (
    None
):
    office, connection, session_id = removed_in_mid_charge()
    office.gone(connection)
    office.restart()
    assert is_listed(office)
    stranger = office.came()
    assert closed(office.say(stranger, office.auth("CP1", "another"))) == [(stranger, AuthenticationFailed)]
    connection = office.connect()
    office.obey(StopCharge(session_id))
    decisions = office.say(connection, office.account(session_id=session_id))
    assert frames(decisions, StopChargingCommand, connection)
    office.say(connection, office.completion(session_id, 2, 800))
    again = office.came()
    assert closed(office.say(again, office.auth("CP1"))) == [(again, AuthenticationFailed)]
    assert not is_listed(office)


def test_a_charge_point_that_is_removed_begins_no_charge_while_one_ends() -> None:
    office, connection, _ = removed_in_mid_charge()
    answer = only(frames(office.say(connection, office.request("D2")), ChargeRequestResponse, connection))
    assert answer.code == "unknown_charge_point"
    assert office.ask("D2").code == "unknown_charge_point"
    assert isinstance(office.refused(StartCharge(office.request("D2"))), UnknownChargePoint)


def test_a_removed_charge_point_whose_charge_never_began_goes_at_once() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.authorised()
    office.remove("CP1")
    decisions = office.say(connection, office.verdict(session_id, "start", VehicleMissing))
    assert closed(decisions) == [(connection, AuthenticationFailed)]


def test_a_removed_charge_point_that_owes_an_account_gives_it_and_goes() -> None:
    office, connection, session_id = removed_in_mid_charge()
    office.gone(connection)
    office.wait(3600)
    assert not office.sessions[session_id].is_open
    assert not is_listed(office)
    office.owing = {"CP1"}
    connection = office.connect()
    assert closed(office.say(connection, office.account(unsettled_session_ids=[session_id]))) == []
    assert closed(office.say(connection, office.completion(session_id, 2, 800))) == []
    assert office.receipts(session_id)[-1].energy_wh == 800
    assert closed(office.say(connection, office.account())) == [(connection, AuthenticationFailed)]


@pytest.mark.parametrize("charging", [False, True])
def test_what_another_program_writes_into_the_database_is_acted_on(charging: bool) -> None:
    office = Office()
    connection = office.settled()
    if charging:
        office.charging(connection)
    office.charge_points["CP1"] = replace(office.charge_points["CP1"], removed=True)
    office.charge_points["CP3"] = replace(office.charge_points["CP2"], cp_id="CP3")
    decisions = office.give(EntriesChanged(frozenset({"CP1", "CP3", "CP9"})))
    assert closed(decisions) == ([] if charging else [(connection, AuthenticationFailed)])
    assert is_listed(office, "CP3")
    assert is_listed(office) is charging


def test_a_removed_keyless_charge_point_ends_its_charge_where_registration_is_open() -> None:
    office, connection, session_id = removed_in_mid_charge()
    office.gone(connection)
    office.charge_points["CP1"] = replace(office.charge_points["CP1"], key_hash=None)
    office.net.policy = replace(office.net.policy, open_registration=True)
    again = office.came()
    assert only(frames(office.say(again, office.auth("CP1", "")), AuthResponse)).accepted
    office.kafka(Topic.SESSION_COMPLETE, office.completion(session_id, 2, 800))
    last = office.came()
    assert closed(office.say(last, office.auth("CP1", ""))) == [(last, AuthenticationFailed)]

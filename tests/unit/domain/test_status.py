"""The charge point's states, against the eight arrows of the seed, which are written out here once more."""

from dataclasses import replace

import pytest

from evcharge.domain import status
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.status import Event, Status
from evcharge.errors import IllegalTransition

DISCONNECTED, ACTIVE, CHARGING, FAULTY = Status.DISCONNECTED, Status.ACTIVE, Status.CHARGING, Status.FAULTY

SEED = {
    (DISCONNECTED, Event.REGISTERED): ACTIVE,  # 注册成功
    (ACTIVE, Event.CHARGING_STARTED): CHARGING,  # 开始充电
    (CHARGING, Event.CHARGING_COMPLETED): ACTIVE,  # 充电完成
    (ACTIVE, Event.FAULT_DETECTED): FAULTY,  # 故障检测
    (FAULTY, Event.FAULT_CLEARED): ACTIVE,  # 故障恢复
    (DISCONNECTED, Event.CENTRAL_LOST): FAULTY,  # Central断开
    (CHARGING, Event.FAULT_DETECTED): FAULTY,  # 故障发生
    (FAULTY, Event.CONNECTION_LOST): DISCONNECTED,  # 连接断开
}

SHORTEST = {
    (DISCONNECTED, DISCONNECTED): [],
    (DISCONNECTED, ACTIVE): [Event.REGISTERED],
    (DISCONNECTED, CHARGING): [Event.REGISTERED, Event.CHARGING_STARTED],
    (DISCONNECTED, FAULTY): [Event.CENTRAL_LOST],
    (ACTIVE, DISCONNECTED): [Event.FAULT_DETECTED, Event.CONNECTION_LOST],
    (ACTIVE, ACTIVE): [],
    (ACTIVE, CHARGING): [Event.CHARGING_STARTED],
    (ACTIVE, FAULTY): [Event.FAULT_DETECTED],
    (CHARGING, DISCONNECTED): [Event.FAULT_DETECTED, Event.CONNECTION_LOST],
    (CHARGING, ACTIVE): [Event.CHARGING_COMPLETED],
    (CHARGING, CHARGING): [],
    (CHARGING, FAULTY): [Event.FAULT_DETECTED],
    (FAULTY, DISCONNECTED): [Event.CONNECTION_LOST],
    (FAULTY, ACTIVE): [Event.FAULT_CLEARED],
    (FAULTY, CHARGING): [Event.FAULT_CLEARED, Event.CHARGING_STARTED],
    (FAULTY, FAULTY): [],
}

EVERY_PAIR = [(at, event) for at in Status for event in Event]


def test_the_states_are_the_seed_s_and_the_first_is_disconnected() -> None:
    assert [str(state) for state in Status] == ["DISCONNECTED", "ACTIVE", "CHARGING", "FAULTY"]
    assert status.INITIAL is DISCONNECTED


@pytest.mark.parametrize(("before", "event"), EVERY_PAIR)
def test_a_pair_leads_where_the_seed_says_or_raises_and_changes_nothing(before: Status, event: Event) -> None:
    cp = ChargePoint("CP1", status=before, location="Calle Mayor 1", faults={"ground_fault"})
    untouched = replace(cp)
    expected = SEED.get((before, event))
    if expected is not None:
        assert status.after(before, event) is expected
        cp.take(event)
        assert cp == replace(untouched, status=expected)
    else:
        with pytest.raises(IllegalTransition, match=f"{before}.*'{event}'"):
            status.after(before, event)
        with pytest.raises(IllegalTransition):
            cp.take(event)
        assert cp == untouched


def test_no_two_arrows_of_the_seed_are_one() -> None:
    assert len({(before, then) for (before, _), then in SEED.items()}) == 8


@pytest.mark.parametrize(("before", "then"), [(before, then) for before in Status for then in Status])
def test_the_way_between_two_states_is_the_shortest_and_legal(before: Status, then: Status) -> None:
    events = status.events_between(before, then)
    assert events == SHORTEST[before, then]
    at = before
    for event in events:
        at = SEED[at, event]
    assert at is then

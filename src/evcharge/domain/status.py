"""The states of a charge point, in one table; docs/states.md is drawn from it.

The states and the eight transitions are those of the project's seed. A lost connection passes through
FAULTY to DISCONNECTED. Whether an operator has taken the point out of service is a flag, no state.
"""

from enum import StrEnum

from evcharge.errors import IllegalTransition


class Status(StrEnum):
    DISCONNECTED = "DISCONNECTED"
    ACTIVE = "ACTIVE"
    CHARGING = "CHARGING"
    FAULTY = "FAULTY"


class Event(StrEnum):
    REGISTERED = "registered"
    CENTRAL_LOST = "central lost"
    CHARGING_STARTED = "charging started"
    CHARGING_COMPLETED = "charging completed"
    FAULT_DETECTED = "fault detected"
    FAULT_CLEARED = "fault cleared"
    CONNECTION_LOST = "connection lost"


INITIAL = Status.DISCONNECTED

TRANSITIONS: dict[Status, dict[Event, Status]] = {
    Status.DISCONNECTED: {
        Event.REGISTERED: Status.ACTIVE,
        Event.CENTRAL_LOST: Status.FAULTY,
    },
    Status.ACTIVE: {
        Event.CHARGING_STARTED: Status.CHARGING,
        Event.FAULT_DETECTED: Status.FAULTY,
    },
    Status.CHARGING: {
        Event.CHARGING_COMPLETED: Status.ACTIVE,
        Event.FAULT_DETECTED: Status.FAULTY,
    },
    Status.FAULTY: {
        Event.FAULT_CLEARED: Status.ACTIVE,
        Event.CONNECTION_LOST: Status.DISCONNECTED,
    },
}


def after(status: Status, event: Event) -> Status:
    """The state that `event` leads to; raises `IllegalTransition` where the table has none."""
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        raise IllegalTransition(f"a charge point that is {status} cannot take the event '{event}'") from None


def events_between(before: Status, then: Status) -> list[Event]:
    """The shortest way through the table, for whoever learns only where a charge point stands now."""
    ways: list[tuple[Status, list[Event]]] = [(before, [])]
    for at, events in ways:
        if at is then:
            return events
        ways += [
            (following, [*events, event])
            for event, following in TRANSITIONS[at].items()
            if following not in (seen for seen, _ in ways)
        ]
    raise IllegalTransition(f"no way leads from {before} to {then}")


def mermaid() -> str:
    """The state diagram of the table, as Mermaid source."""
    arrows = [
        f"    {before} --> {then}: {event}" for before, row in TRANSITIONS.items() for event, then in row.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {INITIAL}: start", *arrows])

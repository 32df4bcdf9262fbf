"""The checker: compares the books of all who keep some. Pure: rows in, a sentence for each wrong out.

It shares no code with what it checks: not the rounding of money, not the decoding of messages.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

MOST_LOST_S = 1.0
"""What a cut of an Engine's power may cost: the meter's last second."""
NOT_OF_A_RECEIPT = ("in_reply_to", "timestamp")
"""In these two, copies of one receipt may differ."""
BAD_WORDS = ('"bug"', "Traceback", "internal_error", "never retrieved", "Exception in")


@dataclass(frozen=True)
class Metered:
    """What an Engine's meter said: a reading, or with `end_reason` the completion."""

    session_id: str
    cp_id: str
    driver_id: str
    energy_wh: int
    at: datetime
    end_reason: str | None = None

    @property
    def is_final(self) -> bool:
        return self.end_reason is not None


@dataclass(frozen=True)
class Told:
    """A driver was told that this session is his."""

    session_id: str
    driver_id: str


@dataclass(frozen=True)
class Receipt:
    """A `charge_completion_response` as `where` has it."""

    where: str
    fields: dict[str, Any]

    @property
    def session_id(self) -> str:
        return str(self.fields["session_id"])

    @property
    def revision(self) -> int:
        return int(self.fields["revision"])

    @property
    def content(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name not in NOT_OF_A_RECEIPT}


@dataclass(frozen=True)
class State:
    """One charge point, as each of those who speak of it shows it, when all has been healed."""

    cp_id: str
    shown: dict[str, str]
    """State, by who shows it."""


@dataclass(frozen=True)
class PowerCut:
    """An Engine was killed, in mid-charge or not."""

    cp_id: str
    at: datetime


@dataclass
class Evidence:
    metered: list[Metered] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    meter_values: list[dict[str, Any]] = field(default_factory=list)
    open_faults: list[dict[str, Any]] = field(default_factory=list)
    to_settle: list[dict[str, Any]] = field(default_factory=list)
    """What waits for a person."""
    told: list[Told] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    over_http: list[dict[str, Any]] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    power_cuts: list[PowerCut] = field(default_factory=list)
    unkept: set[str] = field(default_factory=set)
    """The charge points whose Engines could not write their journals for a while."""
    journals: list[str] = field(default_factory=list)
    pragmas: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)


def wrongs(evidence: Evidence) -> list[str]:
    """All that is wrong, in sentences; empty: the books agree."""
    return [sentence for check in CHECKS for sentence in check(evidence)]


def _check_sessions_end(evidence: Evidence) -> Iterator[str]:
    rows = {row["session_id"]: row for row in evidence.sessions}
    told = {told.session_id: told for told in evidence.told}
    for session_id, told_to in told.items():
        if session_id not in rows:
            yield f"{told_to.driver_id} was told of session {session_id}, which the database does not have"
    for session_id, row in rows.items():
        if row["ended_at"] is None:
            yield f"session {session_id} of {row['driver_id']} at {row['cp_id']} is still {row['status']}"
        if session_id not in told:
            yield f"session {session_id} is in the database, but {row['driver_id']} was never told of it"


def _check_once(evidence: Evidence) -> Iterator[str]:
    for name in ("session_id", "request_id"):
        seen: dict[str, int] = defaultdict(int)
        for row in evidence.sessions:
            seen[row[name]] += 1
        for value, count in seen.items():
            if count > 1:
                yield f"{count} sessions have the {name} {value}"


def _check_receipts(evidence: Evidence) -> Iterator[str]:
    rows = {row["session_id"]: row for row in evidence.sessions}
    copies: dict[tuple[str, int], list[Receipt]] = defaultdict(list)
    for receipt in evidence.receipts:
        copies[receipt.session_id, receipt.revision].append(receipt)
    for (session_id, revision), receipts in copies.items():
        first = receipts[0]
        for other in receipts[1:]:
            for name in sorted(first.content.keys() & other.content.keys()):
                if first.content[name] != other.content[name]:
                    yield (
                        f"revision {revision} of session {session_id} has two contents: {name} is"
                        f" {first.content[name]} on {first.where} and {other.content[name]} on {other.where}"
                    )
        if session_id not in rows:
            yield f"there is a receipt on {first.where} for session {session_id}, which the database does not have"
    on_kafka: dict[str, dict[int, Receipt]] = defaultdict(dict)
    for receipt in evidence.receipts:
        if receipt.where == "Kafka":
            on_kafka[receipt.session_id][receipt.revision] = receipt
    for session_id, row in rows.items():
        if row["ended_at"] is None:
            continue
        if not on_kafka[session_id]:
            yield f"session {session_id} has ended without a receipt on Kafka"
            continue
        last = on_kafka[session_id][max(on_kafka[session_id])]
        for name in ("revision", "status", "end_reason", "energy_wh", "price_per_kwh", "cost", "currency"):
            if str(last.fields[name]) != str(row[name]):
                yield (
                    f"the last receipt of session {session_id} has {name} {last.fields[name]},"
                    f" the database {row[name]}"
                )
        energies = [
            on_kafka[session_id][revision].fields["energy_wh"] for revision in sorted(on_kafka[session_id])
        ]
        if any(later <= earlier for earlier, later in pairwise(energies)):
            yield f"the receipts of session {session_id} do not rise: {energies} Wh"
    contents: dict[str, Receipt] = {}
    for receipt in evidence.receipts:
        message_id = receipt.fields.get("message_id")
        first = contents.setdefault(str(message_id), receipt)
        if message_id is not None and first.content != receipt.content:
            yield f"two different receipts share the message_id {message_id}: on {first.where} and {receipt.where}"


def _check_money(evidence: Evidence) -> Iterator[str]:
    bills = [("the database", row) for row in evidence.sessions]
    bills += [(receipt.where, receipt.fields) for receipt in evidence.receipts]
    for where, bill in bills:
        due = money(bill["energy_wh"], bill["price_per_kwh"])
        if bill["cost"] != due:
            yield (
                f"{where}: session {bill['session_id']} costs {bill['cost']}, but {bill['energy_wh']} Wh"
                f" at {bill['price_per_kwh']} are {due}"
            )


def money(energy_wh: int, price_per_kwh: str) -> str:
    """Half a cent is rounded up; in whole numbers, unlike the tariff that it checks."""
    cents = Fraction(price_per_kwh) * energy_wh / 10 + Fraction(1, 2)
    whole = cents.numerator // cents.denominator
    return f"{whole // 100}.{whole % 100:02d}"


def _check_energy(evidence: Evidence) -> Iterator[str]:
    """To the Wh. Where an Engine could not write its journal and was killed, what Central had heard stands."""
    by_session: dict[str, list[Metered]] = defaultdict(list)
    for entry in evidence.metered:
        by_session[entry.session_id].append(entry)
    rows = {row["session_id"]: row for row in evidence.sessions}
    for session_id, entries in by_session.items():
        cp_id = entries[0].cp_id
        finals = {entry.energy_wh for entry in entries if entry.is_final}
        readings = [entry.energy_wh for entry in entries if not entry.is_final]
        most_wh = max(entry.energy_wh for entry in entries)
        row = rows.get(session_id)
        if row is None:
            if most_wh > 0:
                yield f"{cp_id} delivered {most_wh} Wh for session {session_id}, which the database does not have"
            continue
        if (row["cp_id"], row["driver_id"]) != (cp_id, entries[0].driver_id):
            yield (
                f"session {session_id} was metered at {cp_id} for {entries[0].driver_id},"
                f" and billed at {row['cp_id']} to {row['driver_id']}"
            )
        if len(finals) > 1:
            yield f"the Engine of {cp_id} has completed session {session_id} over {sorted(finals)} Wh"
        if not finals:
            yield f"the Engine of {cp_id} has metered session {session_id} and never completed it"
            continue
        final_wh = max(finals)
        unkept = cp_id in evidence.unkept
        if readings and max(readings) > final_wh and not unkept:
            yield (
                f"the Engine of {cp_id} metered {max(readings)} Wh for session {session_id},"
                f" and completed it over {final_wh} Wh"
            )
        billed_wh = row["energy_wh"]
        if not (final_wh <= billed_wh <= most_wh if unkept else billed_wh == final_wh):
            yield f"session {session_id} at {cp_id}: metered {final_wh} Wh, billed {billed_wh} Wh"
    for session_id, row in rows.items():
        if session_id not in by_session and row["energy_wh"] > 0:
            yield f"session {session_id} was billed over {row['energy_wh']} Wh that no Engine has metered"


def _check_meter_values(evidence: Evidence) -> Iterator[str]:
    values: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for value in evidence.meter_values:
        values[value["session_id"]].append(value)
    for row in evidence.sessions:
        kept = sorted(values[row["session_id"]], key=lambda value: int(value["seq"]))
        energies = [value["energy_wh"] for value in kept]
        if energies != sorted(energies):
            yield f"the readings kept of session {row['session_id']} fall: {energies} Wh"
        last_wh = energies[-1] if energies else 0
        if row["ended_at"] is not None and last_wh != row["energy_wh"]:
            yield (
                f"the last reading kept of session {row['session_id']} is {last_wh} Wh,"
                f" {row['energy_wh']} Wh were billed"
            )


def _check_power_cuts(evidence: Evidence) -> Iterator[str]:
    """What an Engine had metered a second before its power went must not be lost."""
    last_at: dict[str, datetime] = {}
    for entry in evidence.metered:
        if not entry.is_final:
            last_at[entry.session_id] = max(entry.at, last_at.get(entry.session_id, entry.at))
    broken_off = {entry.session_id: entry for entry in evidence.metered if entry.end_reason == "engine_restarted"}
    for session_id, entry in broken_off.items():
        cuts = [
            cut.at for cut in evidence.power_cuts if cut.cp_id == entry.cp_id and cut.at >= last_at[session_id]
        ]
        silent_s = (min(cuts) - last_at[session_id]).total_seconds() if cuts else 0.0
        if silent_s > MOST_LOST_S and entry.cp_id not in evidence.unkept:
            yield f"the power cut at {entry.cp_id} cost session {session_id} its last {silent_s:.1f} s"


def _check_states(evidence: Evidence) -> Iterator[str]:
    for state in evidence.states:
        if set(state.shown.values()) != {"ACTIVE"}:
            shown = ", ".join(f"{status} {where}" for where, status in state.shown.items())
            yield f"nothing is broken any more, and {state.cp_id} is {shown}"
    for fault in evidence.open_faults:
        yield f"the fault {fault['code']} of {fault['cp_id']} was never cleared: {fault['description']}"


def _check_nothing_waits(evidence: Evidence) -> Iterator[str]:
    """All are honest here: no completion is below a reading, and each Wh is billed without an operator."""
    for row in evidence.to_settle:
        yield f"{row['kind']} of session {row['session_id']} waits for a person: {row['reason']}"


def _check_http(evidence: Evidence) -> Iterator[str]:
    over_http = {session["session_id"]: session for session in evidence.over_http}
    for row in evidence.sessions:
        shown = over_http.get(row["session_id"])
        if shown is None:
            yield f"session {row['session_id']} is not shown over HTTP"
            continue
        for name in ("status", "energy_wh", "cost", "cp_id", "driver_id", "revision"):
            if shown[name] != row[name]:
                yield (
                    f"session {row['session_id']}: {name} is {shown[name]} over HTTP, {row[name]} in the database"
                )


def _check_leftovers(evidence: Evidence) -> Iterator[str]:
    for name in evidence.journals:
        yield f"the journal {name} was left"
    for problem in evidence.pragmas:
        yield f"the database is damaged: {problem}"
    for name, log in evidence.logs.items():
        for line in log.splitlines():
            if any(word in line for word in BAD_WORDS):
                yield f"{name} says: {line[:500]}"


CHECKS = (
    _check_sessions_end,
    _check_once,
    _check_receipts,
    _check_money,
    _check_energy,
    _check_meter_values,
    _check_power_cuts,
    _check_states,
    _check_nothing_waits,
    _check_http,
    _check_leftovers,
)

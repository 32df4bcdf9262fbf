"""AdminCLI: what an operator sees and does, at Central itself or, over HTTP, from elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from evcharge import clock
from evcharge.central.arguments import (
    CEILING_WORDS,
    FILTERS,
    LIMIT_WORDS,
    ROWS,
    an_id,
    at_most_one,
    ceilings_in,
    currency_of,
    day_of,
    history_of,
    kind_and_id,
    limits_in,
    price_of,
    session_id_of,
    uuid_of,
)
from evcharge.central.client import DeskClient
from evcharge.central.desk import Desk
from evcharge.central.local_times import known, time_in, time_text
from evcharge.central.panels import NetworkView, draw, matches
from evcharge.central.settling_commands import SETTLE, TO_SETTLE, close, session_at, settle, to_settle
from evcharge.central.texts import ceilings_text, limits_text
from evcharge.children import first_of
from evcharge.console.drawing import kw, kwh
from evcharge.console.events import EventLog
from evcharge.console.front import Front, is_full_screen, run_front
from evcharge.console.shell import Command, Commands, ShownOnce, energy_wh_of, no_more, whole_number
from evcharge.console.tables import table
from evcharge.domain.instant import Instant
from evcharge.domain.status import Status
from evcharge.errors import EvchargeError, UsageError
from evcharge.logs import line_of
from evcharge.private_files import private
from evcharge.protocol.messages import is_id
from evcharge.protocol.operators import (
    MAX_ROWS,
    By,
    Changes,
    ChargePointNow,
    Event,
    Health,
    RevenueRow,
    SessionFilter,
    SessionRow,
    Waiting,
)
from evcharge.protocol.plain_text import one_line
from evcharge.text_files import named

TOTALS_EVERY_S = 5.0
AGAIN_S = 2.0
SHOWN_BEFORE = "(it was shown)"


class AdminCLI:
    """`desk` is Central's own, or stands for one that is elsewhere; then its events are told here, too."""

    def __init__(
        self,
        desk: Desk | DeskClient,
        events: EventLog,
        *,
        title: str,
        quit_help: str,
        now: Callable[[], Instant] = clock.now,
    ) -> None:
        self._desk = desk
        self._events = events
        self._elsewhere = isinstance(desk, DeskClient)
        self._charge_points: dict[str, ChargePointNow] = {}
        self._only = ""
        self._health: Health | None = None
        self._today: list[RevenueRow] = []
        self._problems: dict[str, str] = {}
        self.commands = Commands(self._commands(), quit_help)
        self.front = Front(
            title=title,
            commands=self.commands,
            panels=lambda width, height: draw(self.view(now().utc), width, height),
            events=events,
            ends_with_stdin=self._elsewhere,
        )

    def view(self, now: datetime) -> NetworkView:
        return NetworkView(
            now=now,
            charge_points=self._charge_points.values(),
            only=self._only,
            health=self._health,
            today=self._today,
            problem=next(iter(self._problems.values()), None),
        )

    async def attend(self, stop: asyncio.Event) -> None:
        """Be there until `stop`, or until somebody leaves; only for a screen does it follow the network."""
        shown = run_front(self.front, stop)
        await (first_of(shown, self._keep_looking()) if is_full_screen() else shown)

    # What is shown

    async def _keep_looking(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again_and_again("changes", self._follow, AGAIN_S))
            tasks.create_task(self._again_and_again("totals", self.look_at_totals, TOTALS_EVERY_S))

    async def _again_and_again(self, what: str, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await look()
            except EvchargeError as problem:
                self._trouble(what, str(problem))
            await asyncio.sleep(every_s)

    async def _follow(self) -> None:
        async with self._desk.watch() as changes:
            self._charge_points.clear()
            async for item in changes:
                self.see(item)

    def see(self, changes: Changes) -> None:
        self._problems.pop("changes", None)
        self._charge_points.update({cp.cp_id: cp for cp in changes.charge_points})
        for cp_id in changes.removed_cp_ids:
            self._charge_points.pop(cp_id, None)
        if self._elsewhere:
            for event in changes.events:
                self._events.tell(_event_text(event))

    async def look_at_totals(self) -> None:
        self._health = await self._desk.health()
        self._today = (await self._desk.totals()).today
        self._problems.pop("totals", None)

    def _trouble(self, what: str, problem: str) -> None:
        if problem != self._problems.get(what):
            self._problems[what] = problem
            self._events.tell(f"warning: {problem}")

    # What one can say

    def _commands(self) -> dict[str, Command]:
        cp_ids, drivers = self._cp_ids, self._driver_ids
        all_or_one = (lambda: ["all", *cp_ids()],)
        to_stop = (lambda: [*self._cp_ids(charging=True), *self._session_ids()],)
        filters = (lambda: FILTERS,) * len(FILTERS)
        history = " ".join(f"[{name}…]" for name in FILTERS)
        return {
            "totals": Command("", "the network now, and today", self._totals),
            "list": Command("[STATE|ID…]", "charge points, by state or beginning of id", self._list, (_states,)),
            "show": Command("CP_ID", "a charge point: price, faults, session", self._show, (cp_ids,)),
            "sessions": Command("", "the sessions that are open", self._sessions),
            "history": Command(history, "sessions, newest first; days of booking", self._history, filters),
            "session": Command("SESSION_ID", "one session", self._session, (self._session_ids,)),
            "faults": Command("[CP_ID]", "the last faults", self._faults, (cp_ids,)),
            "drivers": Command("[AFTER_ID]", "the drivers that are served", self._drivers),
            "revenue": Command("[day|cp] [SINCE [UNTIL]]", "energy and revenue", self._revenue, (_by,)),
            "audit": Command("[N]", "what operators have changed", self._audit),
            "start": Command("CP_ID DRIVER_ID [KWH]", "start a driver's charge", self._start, (cp_ids, drivers)),
            "stop": Command("SESSION_ID|CP_ID", "stop a session", self._stop, to_stop),
            "close": Command("SESSION_ID|CP_ID", "end it at once: its charge point is gone", self._close, to_stop),
            "to-settle": Command(_of(TO_SETTLE), "what waits for a person", self._to_settle, (_settled,)),
            "settle": Command(_of(SETTLE), "bill that, or correct a session", self._settle, (_none, _bills)),
            "out": Command("CP_ID|all", "out of service; a charge that runs goes on", self._out, all_or_one),
            "in": Command("CP_ID|all", "back into service", self._in, all_or_one),
            "price": Command("CP_ID PRICE [CURRENCY]|own", "price of a kWh, or own", self._price, (cp_ids, _own)),
            "ceilings": Command(
                "CP_ID|all [price=…] [currency=…] [power=KW]",
                "the most that a Monitor may register",
                self._ceilings,
                (lambda: ["all", *cp_ids()], *((lambda: CEILING_WORDS,) * len(CEILING_WORDS))),
            ),
            "limits": Command(
                "DRIVER_ID [energy=KWH] [cost=…] [hours=…] [signed=yes|no]",
                "the most that a driver's charge may come to",
                self._limits,
                (drivers, *((lambda: LIMIT_WORDS,) * len(LIMIT_WORDS))),
            ),
            "add": Command(
                "cp|driver ID [CEILING…|LIMIT…]", "admit a charge point, or serve a driver", self._add, (_kinds,)
            ),
            "remove": Command("cp|driver ID", "refuse from now on", self._remove, (_kinds, cp_ids)),
            "export": Command(
                "FILE [cp=…] [driver=…] [since=…] [until=…]", "sessions as CSV", self._export, (_none, *filters)
            ),
            "view": Command("[STATE|ID…]", "which charge points the screen shows", self._view, (_states,)),
        }

    def _cp_ids(self, charging: bool = False) -> list[str]:
        found = self._charge_points.values()
        return sorted(cp.cp_id for cp in found if not charging or cp.session is not None)

    def _session_ids(self) -> list[str]:
        return [str(cp.session.session_id) for cp in self._charge_points.values() if cp.session is not None]

    def _driver_ids(self) -> list[str]:
        return sorted({cp.session.driver_id for cp in self._charge_points.values() if cp.session is not None})

    async def _everything(self) -> list[ChargePointNow]:
        found: list[ChargePointNow] = []
        after: str | None = ""
        while after is not None:
            page = await self._desk.charge_points(after, MAX_ROWS)
            found += page.charge_points
            after = page.next_after
        return found

    # To look

    async def _totals(self, words: list[str]) -> str:
        no_more(words, "totals")
        totals, health = await self._desk.totals(), await self._desk.health()
        states = ", ".join(f"{count} {status}" for status, count in totals.by_status.items())
        money = "".join(f", {row.cost} {row.currency}" for row in totals.today)
        sessions, energy_wh = sum(r.sessions for r in totals.today), sum(r.energy_wh for r in totals.today)
        return "\n".join(
            [
                f"charge points: {totals.charge_points} ({states}); {totals.out_of_service} out of service",
                f"open sessions: {totals.open_sessions}, {kw(totals.power_w)} kW",
                f"booked today ({known(totals.zone)}): {sessions} sessions, {kwh(energy_wh)} kWh{money}",
                f"to settle: {_waiting(totals.to_settle, totals.zone)}",
                f"Kafka: {health.kafka}; database: {health.database}; version {health.version}",
                *([f"receipts that wait for Kafka: {health.receipts_waiting}"] if health.receipts_waiting else []),
                *health.reasons,
            ]
        )

    async def _list(self, words: list[str]) -> str:
        only = at_most_one(words, "list [STATE|ID…]")
        rows = [
            (
                cp.cp_id,
                f"{cp.status}{', out of service' if cp.out_of_service else ''}{', removed' if cp.removed else ''}",
                cp.location,
                "not known yet" if cp.price_per_kwh is None else f"{cp.price_per_kwh} {cp.currency}",
                cp.session.driver_id if cp.session is not None else "",
                kw(cp.session.power_w) if cp.session is not None else "",
                kwh(cp.session.energy_wh) if cp.session is not None else "",
                f"{cp.session.cost} {cp.session.currency}" if cp.session is not None else "",
            )
            for cp in await self._everything()
            if matches(cp, only)
        ]
        head = ("id", "state", "location", "price/kWh", "driver", "kW", "kWh", "cost")
        return table(head, rows, "no charge point is so")

    async def _zone(self) -> str:
        """Central's, in which its times are shown, wherever somebody looks."""
        return (await self._desk.totals()).zone

    async def _show(self, words: list[str]) -> str:
        cp = await self._desk.charge_point(an_id(words, "show CP_ID"))
        zone = await self._zone()
        session = cp.session
        price = f"{cp.price_per_kwh} {cp.currency}/kWh{', set by an operator' if cp.price_by_operator else ''}"
        if cp.price_per_kwh is None:
            price = "not known yet: it has never registered"
        facts = [
            ("charge point", cp.cp_id),
            ("state", cp.status),
            ("connected", "yes" if cp.connected else "no"),
            ("in service", "no" if cp.out_of_service else "yes"),
            *([("removed", "yes; it is gone when its session has ended")] if cp.removed else []),
            ("location", cp.location),
            ("price", price),
            ("power", f"up to {kw(cp.max_power_w)} kW"),
            ("may register", ceilings_text(cp.ceilings)),
            ("faults", ", ".join(cp.faults) or "none"),
            ("last heard", time_in(zone, cp.last_heard_at) or "never"),
        ]
        if session is not None:
            target = f" of {kwh(session.target_energy_wh)}" if session.target_energy_wh is not None else ""
            soc = f", battery {session.soc_percent:.0f} %" if session.soc_percent is not None else ""
            stopping = ", is being stopped" if session.stop_requested else ""
            if session.stop_refused is not None:
                stopping = f", does not stop: {session.stop_refused}"
            facts += [
                ("session", f"{session.session_id}, {session.status}{stopping}"),
                ("driver", session.driver_id),
                ("since", time_in(zone, session.started_at or session.requested_at)),
                ("energy", f"{kwh(session.energy_wh)}{target} kWh at {kw(session.power_w)} kW{soc}"),
                ("cost so far", f"{session.cost} {session.currency}"),
            ]
        return _facts(facts)

    async def _sessions(self, words: list[str]) -> str:
        no_more(words, "sessions")
        rows = [
            (
                s.session_id,
                cp.cp_id,
                s.driver_id,
                s.status,
                kw(s.power_w),
                kwh(s.energy_wh),
                f"{s.cost} {s.currency}",
            )
            for cp in await self._everything()
            if (s := cp.session) is not None
        ]
        return table(
            ("session", "charge point", "driver", "status", "kW", "kWh", "cost"), rows, "no session is open"
        )

    async def _history(self, words: list[str]) -> str:
        wanted, before, limit = history_of(words)
        page = await self._desk.sessions(wanted, before, limit)
        head = ("requested", "booked", "charge point", "driver", "status", "reason", "kWh", "cost", "session")
        rows = [
            (
                time_text(row.requested_at, page.zone),
                time_text(row.booked_at, page.zone),
                row.cp_id,
                row.driver_id,
                row.status,
                row.end_reason,
                kwh(row.energy_wh),
                f"{row.cost} {row.currency}",
                row.session_id,
            )
            for row in page.sessions
        ]
        more = f"\nmore with before={page.next_before}" if page.next_before is not None else ""
        return _timed(table(head, rows, "no session is so"), page.zone) + more

    async def _session(self, words: list[str]) -> str:
        if len(words) != 1:
            raise UsageError("say: session SESSION_ID")
        row: SessionRow = await self._desk.session(session_id_of(words[0]))
        zone = await self._zone()
        reason = f" ({row.end_reason})" if row.end_reason is not None else ""
        return _facts(
            [
                ("session", str(row.session_id)),
                ("charge point", row.cp_id),
                ("driver", row.driver_id),
                ("status", f"{row.status}{reason}"),
                ("requested", time_in(zone, row.requested_at)),
                ("started", time_in(zone, row.started_at, row.said_started_at)),
                ("ended", time_in(zone, row.ended_at, row.said_ended_at)),
                ("booked", time_in(zone, row.booked_at)),
                ("energy", f"{kwh(row.energy_wh)} kWh x {row.price_per_kwh} = {row.cost} {row.currency}"),
                ("receipt", f"revision {row.revision}" if row.revision else "none yet"),
                *([("stop refused", row.stop_refused)] if row.stop_refused is not None else []),
            ]
        )

    async def _faults(self, words: list[str]) -> str:
        cp_id = an_id(words, "faults [CP_ID]") if words else None
        if cp_id is not None:
            await self._desk.charge_point(cp_id)
        page = await self._desk.faults(cp_id, limit=ROWS)
        rows = [
            (
                time_text(row.started_at, page.zone),
                row.cp_id,
                row.code,
                time_text(row.cleared_at, page.zone) or "not cleared",
                row.description,
            )
            for row in page.faults
        ]
        head = ("since", "charge point", "code", "cleared", "description")
        return _timed(table(head, rows, "there was no fault"), page.zone)

    async def _drivers(self, words: list[str]) -> str:
        page = await self._desk.drivers(at_most_one(words, "drivers [AFTER_ID]"), MAX_ROWS)
        rows = [(row.driver_id, time_text(row.added_at, page.zone), limits_text(row)) for row in page.drivers]
        more = f"\nmore with: drivers {page.next_after}" if page.next_after is not None else ""
        head = ("driver", "added", "a charge of his")
        return _timed(table(head, rows, "no driver has been added"), page.zone) + more

    async def _revenue(self, words: list[str]) -> str:
        by = By.DAY
        if words and words[0] in ("day", "cp"):
            by = By.DAY if words[0] == "day" else By.CHARGE_POINT
            words = words[1:]
        if len(words) > 2:
            raise UsageError("say: revenue [day|cp] [SINCE [UNTIL]]")
        since, until = [*map(day_of, words), None, None][:2]
        found = await self._desk.revenue(since, until, by)
        rows = [(row.of, row.sessions, kwh(row.energy_wh), row.cost, row.currency) for row in found.rows]
        head = ("day" if by is By.DAY else "charge point", "sessions", "kWh", "revenue", "")
        period = f"booked {found.since} to {found.until} ({known(found.zone)})"
        return f"{period}\n" + table(head, rows, "no session has been booked")

    async def _audit(self, words: list[str]) -> str:
        number = at_most_one(words, "audit [N]")
        limit = whole_number(number, "the number of entries", 1, MAX_ROWS) if number else ROWS
        page = await self._desk.audit(limit=limit)
        rows = [
            (
                time_text(row.at, page.zone),
                row.actor,
                row.via,
                row.action,
                row.target,
                _change(row.before),
                _change(row.after),
            )
            for row in page.audit
        ]
        head = ("at", "who", "via", "what", "of", "before", "after")
        return _timed(table(head, rows, "no operator has changed anything"), page.zone)

    async def _view(self, words: list[str]) -> str:
        self._only = at_most_one(words, "view [STATE|ID…]")
        return f"the screen shows {'all charge points' if not self._only else f'those that are {self._only}'}"

    # To change

    async def _start(self, words: list[str]) -> str:
        if len(words) not in (2, 3) or not all(map(is_id, words[:2])):
            raise UsageError("say: start CP_ID DRIVER_ID [KWH]")
        energy_wh = energy_wh_of(words[2]) if len(words) == 3 else None
        started = await self._desk.start(words[0], words[1], energy_wh)
        return f"accepted: session {started.session_id}"

    async def _stop(self, words: list[str]) -> str:
        if len(words) != 1:
            raise UsageError("say: stop SESSION_ID, or stop CP_ID for the session there")
        session_id = uuid_of(words[0]) or await session_at(self._desk, words[0], "stop")
        stopping = await self._desk.stop(session_id)
        return stopping.reason or f"stopping: session {session_id}"

    async def _close(self, words: list[str]) -> str:
        return await close(self._desk, words)

    async def _to_settle(self, words: list[str]) -> str:
        return await to_settle(self._desk, words)

    async def _settle(self, words: list[str]) -> str:
        return await settle(self._desk, words)

    async def _out(self, words: list[str]) -> str:
        return await self._set_service(words, True)

    async def _in(self, words: list[str]) -> str:
        return await self._set_service(words, False)

    async def _set_service(self, words: list[str], out: bool) -> str:
        cp_id = await self._one_or_all(words, f"{'out' if out else 'in'} CP_ID|all")
        changed = await self._desk.set_service(cp_id, out)
        where = "out of service" if out else "in service"
        if cp_id is None:
            return f"{where}: {len(changed)} charge points that were not before"
        return f"{where}: {cp_id}" if changed else f"{cp_id} was {where} already"

    async def _one_or_all(self, words: list[str], usage: str) -> str | None:
        """None for all of them."""
        if words == ["all"] and any(cp.cp_id == "all" for cp in await self._everything()):
            raise UsageError("there is a charge point `all`; say --all for all charge points")
        return None if words in (["all"], ["--all"]) else an_id(words, usage)

    async def _price(self, words: list[str]) -> str:
        usage = "say: price CP_ID PRICE [CURRENCY], or price CP_ID own"
        if len(words) not in (2, 3) or not is_id(words[0]):
            raise UsageError(usage)
        if words[1:] == ["own"]:
            cp = await self._desk.set_price(words[0], None)
            if cp.own_price_per_kwh is None:
                return f"{words[0]} brings its own price when it registers next; until then it stays"
            return f"{cp.cp_id} costs {cp.price_per_kwh} {cp.currency}/kWh again, its own price"
        currency = currency_of(words[2]) if len(words) == 3 else None
        cp = await self._desk.set_price(words[0], price_of(words[1]), currency)
        return f"{cp.cp_id} costs {cp.price_per_kwh} {cp.currency}/kWh; charges that run keep their price"

    async def _ceilings(self, words: list[str]) -> str:
        usage = "ceilings CP_ID|all [price=…] [currency=…] [power=KW]; default is Central's own"
        cp_id = await self._one_or_all(words[:1], usage)
        changes = ceilings_in(words[1:])
        if not changes and cp_id is None:
            raise UsageError(f"say: {usage}")
        if changes:
            changed = await self._desk.set_ceilings(cp_id, changes)
        if cp_id is None:
            return f"changed: the ceilings of {len(changed)} charge points"
        cp = await self._desk.charge_point(cp_id)
        return f"{cp_id} may register {ceilings_text(cp.ceilings)}"

    async def _limits(self, words: list[str]) -> str:
        usage = "limits DRIVER_ID [energy=KWH] [cost=…] [hours=…] [signed=yes|no]; default is Central's for all"
        driver_id = an_id(words[:1], usage)
        driver = await self._desk.set_driver(driver_id, limits_in(words[1:]))
        return f"a charge of {driver_id} that begins from now on: {limits_text(driver)}"

    async def _add(self, words: list[str]) -> str:
        kind, name = kind_and_id(words[:2], "add")
        if kind == "driver":
            added = await self._desk.add_driver(name, limits_in(words[2:]))
            told = f"added: driver {name}; its key, which cannot be shown again: "
            return ShownOnce(told + added.key, told + SHOWN_BEFORE)
        key = await self._desk.add_charge_point(name, ceilings_in(words[2:]))
        told = f"added: charge point {name}; its key, which is not stored and cannot be shown again: "
        return ShownOnce(told + key.key, told + SHOWN_BEFORE)

    async def _remove(self, words: list[str]) -> str:
        kind, name = kind_and_id(words, "remove")
        await (self._desk.remove_driver(name) if kind == "driver" else self._desk.remove_charge_point(name))
        return f"removed: {'driver' if kind == 'driver' else 'charge point'} {name}"

    async def _export(self, words: list[str]) -> str:
        if not words or "=" in words[0]:
            raise UsageError("say: export FILE [cp=ID] [driver=ID] [since=DAY] [until=DAY]")
        if any(word.startswith(("before=", "limit=")) for word in words):
            raise UsageError("export takes neither before= nor limit=; it has all sessions")
        wanted, _, _ = history_of(words[1:])
        try:
            size = await self._save(named(words[0]), wanted)
        except FileExistsError:
            raise UsageError(f"{words[0]} is there already; choose another name") from None
        except OSError as problem:
            raise UsageError(f"{words[0]} cannot be written: {problem.strerror}") from None
        return f"written: {words[0]}, {size} bytes"

    async def _save(self, path: Path, wanted: SessionFilter) -> int:
        with await asyncio.to_thread(lambda: open(path, "xb", opener=private)) as out:
            try:
                async for part in self._desk.export(wanted):
                    await asyncio.to_thread(out.write, part)
            except BaseException:
                await asyncio.to_thread(path.unlink)  # half an export is worse than none
                raise
            return out.tell()


def _waiting(waiting: list[Waiting], zone: str) -> str:
    if not waiting:
        return "nothing"
    kinds = ", ".join(f"{item.count} {item.kind}" for item in waiting)
    return f"{kinds}; the oldest since {time_in(zone, min(item.since for item in waiting))}"


def _states() -> list[str]:
    return [status.value for status in Status]


def _by() -> tuple[str, ...]:
    return ("day", "cp")


def _kinds() -> tuple[str, ...]:
    return ("cp", "driver")


def _settled() -> tuple[str, ...]:
    return ("settled",)


def _bills() -> tuple[str, ...]:
    return ("all", "nothing")


def _of(usage: str) -> str:
    """Without the command itself."""
    return usage.partition(" ")[2]


def _own() -> tuple[str, ...]:
    return ("own",)


def _none() -> tuple[str, ...]:
    return ()


def _event_text(event: Event) -> str:
    return line_of({"event": event.event, "level": "info", **event.fields})


def _timed(text: str, zone: str) -> str:
    return f"{text}\ntimes: {known(zone)}" if "\n" in text else text


def _change(values: dict[str, object] | None) -> str:
    return "" if values is None else " ".join(f"{name}={value}" for name, value in values.items())


def _facts(facts: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{width}}  {one_line(value)}".rstrip() for name, value in facts)

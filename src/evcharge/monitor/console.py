"""MonitorCLI and MonitorStatusPanel: what one sees, and can do, between Central and a charge point."""

from collections.abc import Callable

from rich.console import RenderableType
from rich.text import Text

from evcharge.console.drawing import (
    STATUS_STYLES,
    clock_time,
    duration,
    facts,
    framed,
    kw,
    kwh,
    line,
    side_by_side,
    stacked,
)
from evcharge.console.events import EventLog
from evcharge.console.front import Front
from evcharge.console.shell import Command, Commands
from evcharge.domain.instant import Instant
from evcharge.domain.status import Status
from evcharge.errors import UsageError
from evcharge.monitor.service import Monitor
from evcharge.monitor.sides import Exchange
from evcharge.monitor.state import Transition
from evcharge.protocol.messages import shown
from evcharge.protocol.plain_text import one_line
from evcharge.transport.tcp import ConnectionManager

FAULT_CODES = ("cable_damaged", "connector_damaged", "display_dark", "housing_damaged", "vandalised")
NARROW = 60
LINK_LINES = 4
MOST_FAULTS = 3


class MonitorCLI:
    """What one can say to a Monitor."""

    def __init__(self, monitor: Monitor, events: EventLog, now: Callable[[], Instant] | None = None) -> None:
        self._now = now or monitor.now
        self._monitor = monitor
        self._relay = monitor.relay
        self._links = {"central": monitor.central, "engine": monitor.engine}
        self._panel = MonitorStatusPanel(monitor)
        commands = {
            "status": Command("", "both links, the state, the charge that goes through", self._status),
            "reconnect": Command(
                "[central|engine]",
                "drop a link, or both, and connect anew",
                self._reconnect,
                (lambda: self._links,),
            ),
            "fault": Command(
                "CODE [DESCRIPTION]", "report a fault; a charge goes on", self._fault, (lambda: FAULT_CODES,)
            ),
            "clear": Command(
                "CODE",
                "a fault that was reported here is over",
                self._clear,
                (lambda: self._relay.faults.reported,),
            ),
            "location": Command("TEXT", "register with Central anew, as standing there", self._locate),
        }
        self.front = Front(
            title=f"MonitorCLI {self._relay.config.cp_id}",
            commands=Commands(commands, quit_help="stop this Monitor, in order; a charge goes on"),
            panels=lambda width, height: self._panel.draw(self._now(), width, height),
            events=events,
        )

    async def _status(self, words: list[str]) -> str:
        if words:
            raise UsageError("say: status, without more")
        return self._panel.in_words(self._now())

    async def _reconnect(self, words: list[str]) -> str:
        if len(words) > 1 or not self._links.keys() >= set(words):
            raise UsageError("say: reconnect [central|engine]")
        links = [self._links[word] for word in words or self._links]
        self._monitor.reconnect(links)
        return f"connecting anew to {' and '.join(link.name for link in links)}"

    async def _fault(self, words: list[str]) -> str:
        if not words:
            raise UsageError("say: fault CODE [DESCRIPTION]")
        description = shown(" ".join(words[1:])) or f"{words[0]}, reported at the Monitor"
        self._monitor.do(self._relay.report_fault(words[0], description, self._now()))
        heard = "told to Central" if self._relay.central.registered else "to be told to Central when it is there"
        return f"faulty: {words[0]}, {heard}"

    async def _clear(self, words: list[str]) -> str:
        if len(words) != 1:
            raise UsageError("say: clear CODE")
        self._monitor.do(self._relay.clear_fault(words[0], self._now()))
        left = ", ".join(self._relay.faults.all)
        return f"cleared: {words[0]}" + (f"; still faulty: {left}" if left else "")

    async def _locate(self, words: list[str]) -> str:
        if not words:
            raise UsageError("say: location TEXT")
        location = " ".join(words)
        self._monitor.do(self._relay.relocate(location, self._now()))
        heard = "told to Central" if self._relay.central.registered else "to be told to Central when it is there"
        return f"location: {location}, {heard}; start the Monitor with --location to keep it over a restart"


class MonitorStatusPanel:
    """What one sees of a Monitor: its two links, the state, the charge that goes through, the states before."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._relay = monitor.relay

    def draw(self, now: Instant, width: int, height: int) -> RenderableType:
        """As much as `width` x `height` cells hold, the most important first."""
        state = [self._state(), *self._faults(), line(self._charge(now))]
        room = height - (len(state) + 2) - (LINK_LINES + 2)
        if width < NARROW or room < 0:
            links = [
                line(("Central ", "dim"), self._central_link(now)),
                line(("Engine ", "dim"), self._engine_link(now)),
            ]
            return stacked([*state, *links, *self._before(height - len(state) - len(links))])
        colour = STATUS_STYLES[self._relay.state.status]
        boxes: list[RenderableType] = [
            framed(f"{self._relay.config.cp_id}, {self._relay.config.location}", stacked(state), colour),
            side_by_side(
                framed("Central", facts(self._central(now)), self._link_style(self._relay.central.registered)),
                framed("Engine", facts(self._engine(now)), self._link_style(self._relay.engine.ready)),
            ),
        ]
        if room > 2 and self._relay.state.transitions:
            boxes.append(framed("states", stacked(self._before(room - 2))))
        return stacked(boxes)

    def in_words(self, now: Instant) -> str:
        relay = self._relay
        central, engine = relay.central, relay.engine
        faults = ", ".join(relay.faults.all)
        return "; ".join(
            [
                f"charge point {relay.config.cp_id} is {relay.state.status}" + (f" ({faults})" if faults else ""),
                f"Central {self._central_link(now)}",
                f"Engine {self._engine_link(now)}",
                self._charge(now),
                f"passed {central.passed_up} up and {engine.passed_down} down, {len(central.waiting)} wait",
            ]
        )

    def _central_link(self, now: Instant) -> str:
        return _link(self._monitor.central, self._relay.central.registered, "registered", now)

    def _engine_link(self, now: Instant) -> str:
        return _link(self._monitor.engine, self._relay.engine.ready, "ready", now)

    def _central(self, now: Instant) -> list[tuple[str, Text]]:
        relay = self._relay
        return [
            ("link", Text(self._central_link(now))),
            ("address", Text(str(self._monitor.central.address))),
            ("heartbeat", Text(_exchange(relay.central.heartbeat, now))),
            ("passed", Text(f"{relay.central.passed_up} up, {len(relay.central.waiting)} wait")),
        ]

    def _engine(self, now: Instant) -> list[tuple[str, Text]]:
        relay = self._relay
        return [
            ("link", Text(self._engine_link(now))),
            ("address", Text(str(self._monitor.engine.address))),
            ("health", Text(_exchange(relay.engine.health_check, now))),
            ("passed", Text(f"{relay.engine.passed_down} down")),
        ]

    @staticmethod
    def _link_style(good: bool) -> str:
        return "" if good else "yellow"

    def _state(self) -> Text:
        """The state, since when, and why."""
        status, transitions = self._relay.state.status, self._relay.state.transitions
        shown_status = (status, f"bold {STATUS_STYLES[status]}")
        if not transitions:
            return line(shown_status, "  nothing was heard yet")
        since = (f" since {clock_time(transitions[-1].at)}  ", "dim")
        # What is wrong stands below.
        told = status is Status.FAULTY and self._relay.faults.all
        return line(shown_status, since, "" if told else one_line(transitions[-1].reason))

    def _faults(self) -> list[Text]:
        faults = list(self._relay.faults.all.items())
        lines = [line((code, "red"), "  ", one_line(text)) for code, text in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            lines.append(line((f"and {len(faults) - MOST_FAULTS} more", "red")))
        return lines

    def _charge(self, now: Instant) -> str:
        """The charge that goes through, from what the Engine has last told of it."""
        engine = self._relay.engine
        account, ended = engine.account, engine.completion
        reading, heard_s = engine.reading or (None, now.monotonic_s)
        if account is None or account.session_id is None:
            if ended is None:
                return "no charge"
            return f"no charge; the last: {ended.driver_id}, {kwh(ended.energy_wh)} kWh, {ended.end_reason}"
        if reading is None or reading.session_id != account.session_id:
            return f"a charge, session {account.session_id}; no reading yet"
        if not account.vehicle_connected:
            return f"{reading.driver_id}: waits for a vehicle, session {reading.session_id}"
        battery = f", battery {reading.soc_percent:.0f} %" if reading.soc_percent is not None else ""
        metered = f"{kwh(reading.energy_wh)} kWh, {kw(reading.power_w)} kW{battery}"
        age_s = now.monotonic_s - heard_s
        return f"{reading.driver_id}: {metered}, {age_s:.0f} s ago, session {reading.session_id}"

    def _before(self, room: int) -> list[Text]:
        """The transitions, newest first, as many as there is room for."""
        return [_told(transition) for transition in reversed(self._relay.state.transitions)][: max(0, room)]


def _told(transition: Transition) -> Text:
    return line(
        (f"{clock_time(transition.at)} ", "dim"),
        f"{transition.before} → ",
        (transition.now, STATUS_STYLES[transition.now]),
        f"  {one_line(transition.reason)}",
    )


def _link(link: ConnectionManager, accepted: bool, wanted: str, now: Instant) -> str:
    attempts = f", attempt {link.attempts}" if link.attempts else ""
    if link.connected_since_s is None:
        return f"not connected{attempts}"
    if not accepted:
        return f"not {wanted}{attempts}"
    return f"connected for {duration(now.monotonic_s - link.connected_since_s)}"


def _exchange(exchange: Exchange, now: Instant) -> str:
    asked_s, answered_s = exchange.asked_s, exchange.answered_s
    if asked_s is None:
        return "none yet"
    ago = f"{max(0.0, now.monotonic_s - asked_s):.0f} s ago"
    if answered_s is None or answered_s < asked_s:
        return f"{ago}, no answer yet"
    return f"{ago}, took {(answered_s - asked_s) * 1000:.0f} ms"

"""DriverCLI: what a driver sees, and asks for, in a console of his own."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from evcharge import clock
from evcharge.console.events import EventLog
from evcharge.console.front import Front, is_full_screen, run_front
from evcharge.console.shell import Command, Commands, energy_wh_of, no_more, whole_number
from evcharge.console.tables import table
from evcharge.driver import answers
from evcharge.driver.panels import DriverView, draw
from evcharge.driver.service import Driver
from evcharge.errors import EvchargeError, NoOpenSession, UsageError
from evcharge.protocol.messages import (
    ChargeCompletionResponse,
    ChargingStatusUpdate,
    CpInfo,
    PastSession,
    is_id,
)

LOOK_EVERY_S = 5.0
ASK_EVERY_S = 2.0
"""So that it is seen within 5 s that Central is away."""
MOST_POINTS = 200
PAST_SHOWN = 50
MOST_HISTORY = 10_000


class DriverCLI:
    """It hears all that happens to the driver's charges, whoever began them, and asks what one types."""

    def __init__(self, driver: Driver, events: EventLog) -> None:
        self._driver = driver
        self._events = events
        self._points: list[CpInfo] = []
        self._seen_at: datetime | None = None
        self._trouble: str | None = None
        self._began: ChargingStatusUpdate | None = None
        self._running: ChargingStatusUpdate | None = None
        self._receipt: ChargeCompletionResponse | None = None
        self._past: list[PastSession] = []
        self._past_is_old = True
        self._wake = asyncio.Event()
        self._greeted = False
        self._asked_here: set[UUID] = set()
        commands = {
            "list": Command(
                "[all]", "charge points where a charge can start now, or all", self._list, (lambda: ["all"],)
            ),
            "charge": Command("CP_ID [KWH]", "ask for a charge", self._charge, (self._ids,)),
            "status": Command("", "how my charge stands", self._status),
            "stop": Command("", "stop my charge", self._stop),
            "history": Command("[N]", f"my last {answers.HISTORY} charges, or N", self._history),
        }
        self.front = Front(
            title=f"DriverCLI  {driver.driver_id}",
            commands=Commands(commands, quit_help="leave; a charge goes on"),
            panels=lambda width, height: draw(self.view(), width, height),
            events=events,
            ends_with_stdin=True,
            prompt=f"{driver.driver_id}> ",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until the driver leaves, or `stop`."""
        works = [run_front(self.front, stop), self._hear()]
        if is_full_screen():
            works.append(self._look())
        tasks = [asyncio.ensure_future(work) for work in works]
        greeting = asyncio.ensure_future(self._keep_asking())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, greeting):
                task.cancel()
            await asyncio.wait([*tasks, greeting])
        for task in tasks:
            if not task.cancelled():
                task.result()

    # What it hears and asks for by itself

    async def _hear(self) -> None:
        async for message in self._driver.news():
            if isinstance(message, ChargeCompletionResponse):
                self._ended(message)
            else:
                self._moved(message)

    def _moved(self, update: ChargingStatusUpdate) -> None:
        before = self._running
        if before is None or before.session_id != update.session_id:
            self._began = update
        self._running = update
        if before is None or (before.session_id, before.status) != (update.session_id, update.status):
            # It ran before anybody listened here, if an answer says so, or an update overtakes the first answer.
            old = update.in_reply_to is not None or not (self._greeted or update.session_id in self._asked_here)
            self._events.tell(("still charging: " if old else "") + answers.progress(update))
        elif update.notice not in (None, before.notice):
            self._events.tell(f"warning: {update.notice}")

    def _ended(self, receipt: ChargeCompletionResponse) -> None:
        if self._running is not None and self._running.session_id == receipt.session_id:
            self._began = self._running = None
        known = self._receipt
        if known is not None and (known.session_id, known.revision) == (receipt.session_id, receipt.revision):
            return
        self._receipt = receipt
        self._past_is_old = True
        self._wake.set()
        self._events.tell(answers.receipt(receipt))

    async def _greet(self) -> None:
        """A charge may run already; the answer is heard with all the other news."""
        try:
            await self._driver.status()
        except NoOpenSession:
            pass
        except EvchargeError as problem:
            self._events.tell(f"error: {problem}")
        self._greeted = True

    async def _keep_asking(self) -> None:
        await self._greet()
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            with suppress(
                EvchargeError
            ):  # The silence is told by the driver's link, all else is for who asks for it.
                await self._driver.status()

    async def _look(self) -> None:
        """For the screen: where one can charge now, and what was before."""
        while True:
            try:
                self._take_points(await self._driver.charge_points(True, MOST_POINTS))
                if self._past_is_old:
                    self._past = await self._driver.history(PAST_SHOWN)
                    self._past_is_old = False
            except EvchargeError as problem:
                self._trouble = str(problem)
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    def _take_points(self, points: list[CpInfo]) -> None:
        self._points, self._seen_at, self._trouble = points, clock.now().utc, None

    def view(self) -> DriverView:
        return DriverView(
            charge_points=self._points,
            seen_at=self._seen_at,
            trouble=self._driver.silence or self._trouble,
            began=self._began,
            running=self._running,
            receipt=self._receipt or next(iter(self._past), None),
            past=self._past,
        )

    # What one can say to it

    def _ids(self) -> Iterable[str]:
        return [cp.cp_id for cp in self._points]

    async def _list(self, words: list[str]) -> str:
        if words not in ([], ["all"]):
            raise UsageError("say: list [all]")
        found = await self._driver.charge_points(everything=bool(words))
        if words or not self._points:
            self._take_points(found)
        return answers.charge_points_of(found, table)

    async def _charge(self, words: list[str]) -> str:
        if len(words) not in (1, 2) or not is_id(words[0]):
            raise UsageError("say: charge CP_ID [KWH]")
        energy_wh = energy_wh_of(words[1]) if len(words) == 2 else None
        outcome = await answers.charge(self._driver, words[0], energy_wh, False, self._events.tell)
        self._asked_here.add(outcome.data.session_id)
        return outcome.text

    async def _status(self, words: list[str]) -> str:
        no_more(words, "status")
        return (await answers.status(self._driver)).text

    async def _stop(self, words: list[str]) -> str:
        no_more(words, "stop")
        return (await answers.stop(self._driver)).text

    async def _history(self, words: list[str]) -> str:
        if len(words) > 1:
            raise UsageError("say: history [N]")
        limit = answers.HISTORY
        if words:
            limit = whole_number(words[0], "how many", 1, MOST_HISTORY)
        return answers.history_of(await self._driver.history(limit), table)

"""Operators' commands on their way through the worker and back."""

import asyncio
import itertools
from collections.abc import Callable, Iterable

from evcharge.domain.commands import Actor, Command
from evcharge.domain.decisions import FromOperator, Outcome
from evcharge.errors import EvchargeError, NotDecided

PATIENCE_S = 10.0


class Orders:
    """Belongs to the event loop. `hand_in` puts a command into the inbox; `report` is told what came of it."""

    def __init__(self, hand_in: Callable[[FromOperator], object], patience_s: float = PATIENCE_S) -> None:
        self._hand_in = hand_in
        self._patience_s = patience_s
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._tickets = itertools.count(1)

    async def place(self, actor: Actor, command: Command) -> object:
        """What came of the command; raises its refusal, or `NotDecided` if the worker is held up."""
        ticket = next(self._tickets)
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = outcome
        self._hand_in(FromOperator(ticket, actor, command))
        try:
            async with asyncio.timeout(self._patience_s):
                result = await outcome
        except TimeoutError:
            raise NotDecided(
                f"Central has not decided this within {self._patience_s:g} s, but may still;"
                " look before you ask again"
            ) from None
        finally:
            del self._waiting[ticket]
        if isinstance(result, EvchargeError):
            raise result
        return result

    def report(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            waiting = self._waiting.get(outcome.ticket)
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome.result)

"""Operators' commands on their way to the worker and back: each gets its outcome, or is told there is none."""

import asyncio

import pytest

from evcharge.central.orders import Orders
from evcharge.domain.commands import Actor, SetService
from evcharge.domain.decisions import FromOperator, Outcome
from evcharge.errors import NotDecided, UnknownChargePoint

MARIA = Actor("maria", "http")


def test_each_gets_the_outcome_of_its_own_command_in_whatever_order_they_come() -> None:
    async def work() -> None:
        handed_in: list[FromOperator] = []
        orders = Orders(handed_in.append)
        placed = [asyncio.ensure_future(orders.place(MARIA, SetService(cp_id, True))) for cp_id in ("A", "B", "C")]
        await asyncio.sleep(0)
        assert [(item.actor, item.command) for item in handed_in] == [
            (MARIA, SetService(cp_id, True)) for cp_id in ("A", "B", "C")
        ]
        first, second, third = (item.ticket for item in handed_in)
        refusal = UnknownChargePoint("there is no charge point B")
        orders.report([Outcome(third, ["C"]), Outcome(second, refusal), Outcome(first, [])])
        assert await asyncio.gather(*placed, return_exceptions=True) == [[], refusal, ["C"]]

    asyncio.run(work())


def test_a_command_that_is_not_decided_in_time_is_told_so_and_its_late_outcome_harms_nobody() -> None:
    async def work() -> None:
        handed_in: list[FromOperator] = []
        orders = Orders(handed_in.append, patience_s=0.01)
        with pytest.raises(NotDecided, match=r"Central has not decided this within 0\.01 s, but may still"):
            await orders.place(MARIA, SetService("A", True))
        orders.report([Outcome(handed_in[0].ticket, ["A"])])

    asyncio.run(work())


def test_whoever_goes_away_before_the_outcome_leaves_nothing_behind() -> None:
    async def work() -> None:
        handed_in: list[FromOperator] = []
        orders = Orders(handed_in.append)
        placed = asyncio.ensure_future(orders.place(MARIA, SetService("A", True)))
        await asyncio.sleep(0)
        placed.cancel()
        orders.report([Outcome(handed_in[0].ticket, ["A"])])
        with pytest.raises(asyncio.CancelledError):
            await placed

    asyncio.run(work())

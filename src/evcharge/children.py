"""The programs that demo and replay start as processes of their own, and stop again."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from structlog.typing import FilteringBoundLogger

from evcharge.errors import EvchargeError, KafkaUnusable
from evcharge.transport.kafka import Cluster
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.tcp import Address

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.02
LOG_LINES_SHOWN = 5


@asynccontextmanager
async def own_place(
    kafka: KafkaAccess, program: str, log: FilteringBoundLogger
) -> AsyncIterator[tuple[KafkaAccess, str]]:
    """Topics of its own, and a group, for the network of a trial: no other reads or moves anything there.

    They are removed at the end, also after Ctrl-C. If Kafka does not do so, the log says what is left.
    """
    name = f"evcharge-{program}-{uuid4()}"
    place = replace(kafka, topic_prefix=f"{name}.")
    try:
        yield place, name
    finally:
        try:
            await asyncio.to_thread(Cluster(place, log).remove, name)
        except KafkaUnusable as problem:
            log.error("topics_not_removed", topics=f"{place.topic_prefix}*", group=name, cause=str(problem))


def kafka_arguments(kafka: KafkaAccess, config: Path | None) -> list[str]:
    """What a program is told, so that it uses the same Kafka and the same topics."""
    arguments = ["--kafka", kafka.address]
    if config is not None:
        arguments += ["--kafka-config", str(config)]
    if kafka.topic_prefix:
        arguments += ["--topic-prefix", kafka.topic_prefix]
    return arguments


class ChildFailed(EvchargeError):
    """A program that demo or replay needs has ended, or has not come up."""


@dataclass(frozen=True, slots=True)
class Child:
    """One program; `name` is also the name of its log in the folder."""

    name: str
    process: asyncio.subprocess.Process
    log: Path


class Children:
    """All of them live in one folder: their logs, port files, journals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []
        self._lasting: list[Child] = []

    async def start(self, name: str, *arguments: str) -> Child:
        """Start `evcharge` with these arguments, as a program that lasts; its output goes to the log."""
        child = await self.start_errand(name, *arguments)
        self._lasting.append(child)
        return child

    async def start_errand(self, name: str, *arguments: str) -> Child:
        """The same, for a program that ends by itself."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "evcharge",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C is for us, who end the others in order.
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    async def start_server(self, name: str, *arguments: str) -> Address:
        """Start a program that listens, and wait until it does; raises `ChildFailed` if it does not."""
        port_file = self.folder / f"{name}.port"
        child = await self.start(name, *arguments, "--port", "0", "--port-file", str(port_file))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not port_file.exists():
                    if child.process.returncode is not None:
                        raise _failed(child, f"has ended with exit code {child.process.returncode}")
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise _failed(child, f"did not listen within {START_TIMEOUT_S:g} s") from None
        return Address("127.0.0.1", int(port_file.read_text()))

    async def watch(self) -> None:
        """Until one that should last ends: raises `ChildFailed`."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._lasting}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        child = waits[done.pop()]
        raise _failed(child, f"has ended with exit code {child.process.returncode}")

    async def stop(self) -> None:
        """End all in order; those that do not, at once."""
        alive = [child.process for child in reversed(self._children) if child.process.returncode is None]
        for process in alive:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*(process.wait() for process in alive))
        except TimeoutError:
            for process in alive:
                if process.returncode is None:
                    process.kill()


@asynccontextmanager
async def children(folder: Path) -> AsyncIterator[Children]:
    started = Children(folder)
    try:
        yield started
    finally:
        await started.stop()


async def first_of(*works: Any) -> None:
    """Run these side by side until the first ends or raises; then cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _failed(child: Child, what: str) -> ChildFailed:
    lines = child.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return ChildFailed(f"{child.name} {what}; it last said:\n" + "\n".join(f"  {line}" for line in lines))

"""The programs that demo and replay start as processes of their own, and stop again."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from evcharge.errors import EvchargeError
from evcharge.transport.tcp import Address

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.02
LOG_LINES_SHOWN = 5


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

    async def start(self, name: str, *arguments: str) -> Child:
        """Start `evcharge` with these arguments; its output goes to the log."""
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
        """Until one ends, which it should not: raises `ChildFailed`."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._children}
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


def _failed(child: Child, what: str) -> ChildFailed:
    lines = child.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return ChildFailed(f"{child.name} {what}; it last said:\n" + "\n".join(f"  {line}" for line in lines))

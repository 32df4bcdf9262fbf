"""Real processes, a real Kafka, a real database file; waits are conditions with a deadline."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

EVCHARGE = [sys.executable, "-m", "evcharge"]
BROKEN_THREAD = Path(__file__).parent / "broken_thread.py"
OFF_CLOCK = Path(__file__).parent / "off_clock.py"
DEADLINE_S = 30.0
LOOK_EVERY_S = 0.02

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """What `look` gives as soon as it is true; fails with `what` at the deadline."""
    until_s = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until_s:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(LOOK_EVERY_S)


@dataclass
class Program:
    """One running program with its output, its log, its trace and the port that it took."""

    name: str
    folder: Path
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def output(self) -> str:
        return (self.folder / f"{self.name}.out").read_text()

    @property
    def port(self) -> int:
        return self._port("port")

    @property
    def http_port(self) -> int:
        return self._port("http")

    def _port(self, kind: str) -> int:
        path = self.folder / f"{self.name}.{kind}"
        return int(
            eventually(lambda: path.read_text() if path.exists() else "", f"{self.name} listens\n{self.log}")
        )

    def break_thread(self, name: str) -> None:
        """End this thread of it; for one that was started with `thread_to_break`."""
        (self.folder / "thread.new").write_text(name)
        (self.folder / "thread.new").rename(self.folder / f"{self.name}.thread")

    def trace(self) -> list[dict[str, Any]]:
        path = self.folder / f"{self.name}.trace"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def say(self, line: str) -> None:
        """Type a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        return self.process.wait(deadline_s)

    def memory_bytes(self) -> int:
        """Resident, as Linux counts it."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def saw(self, text: str) -> None:
        eventually(lambda: text in self.output, f"{self.name} says {text!r}; it said:\n{self.output}")


@dataclass
class World:
    """One network: its programs and its files live in `folder`."""

    folder: Path
    kafka: str
    programs: list[Program] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def clock(self, shift_s: str) -> None:
        """Set the clock of what runs with `off_clock` so far off."""
        (self.folder / "shift.new").write_text(shift_s)
        (self.folder / "shift.new").rename(self.folder / "shift")

    def start(
        self,
        name: str,
        *arguments: str,
        env: dict[str, str] | None = None,
        off_clock: bool = False,
        thread_to_break: bool = False,
    ) -> Program:
        """Start `evcharge ARGUMENTS`; stdin stays open, so that commands can be typed.

        With `thread_to_break` the thread that the file `NAME.thread` names, once it is there, is ended.
        """
        program_of = EVCHARGE
        if off_clock:
            program_of = [sys.executable, str(OFF_CLOCK), str(self.folder / "shift")]
        elif thread_to_break:
            program_of = [sys.executable, str(BROKEN_THREAD), str(self.folder / f"{name}.thread")]
        out = (self.folder / f"{name}.out").open("a")
        log = (self.folder / f"{name}.log").open("a")
        for kind in ("port", "http"):
            (self.folder / f"{name}.{kind}").unlink(missing_ok=True)
        process = subprocess.Popen(
            [*program_of, *arguments],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=log,
            text=True,
            cwd=self.folder,
            # A port of its own for every Central.
            env=os.environ | {"EVCHARGE_HTTP": "127.0.0.1:0"} | (env or {}),
        )
        out.close()
        log.close()
        program = Program(name, self.folder, process)
        self.programs.append(program)
        return program

    def central(
        self,
        *arguments: str,
        name: str = "central",
        port: int = 0,
        open_registration: bool = True,
        off_clock: bool = False,
        thread_to_break: bool = False,
    ) -> Program:
        program = self.start(
            name,
            "central",
            *("--host", "127.0.0.1", "--port", str(port), "--port-file", f"{name}.port"),
            *("--kafka", self.kafka, "--db", "evcharge.db", "--trace", f"{name}.trace"),
            *("--http", "127.0.0.1:0", "--http-port-file", f"{name}.http", "--time-scale", "10000"),
            *(["--open-registration"] if open_registration else []),
            *arguments,
            off_clock=off_clock,
            thread_to_break=thread_to_break,
        )
        eventually(lambda: "kafka_joined" in program.log, f"Central is at work\n{program.log}")
        return program

    def engine(self, *arguments: str, name: str = "engine", port: int = 0) -> Program:
        program = self.start(
            name,
            "engine",
            *("--port", str(port), "--port-file", f"{name}.port", "--kafka", self.kafka),
            *("--journal", "journal", "--trace", f"{name}.trace"),
            *arguments,
        )
        assert program.port
        return program

    def monitor(
        self, cp_id: str, engine_port: int, central_port: int, *arguments: str, name: str = "monitor"
    ) -> Program:
        return self.start(
            name,
            "monitor",
            cp_id,
            *("--engine", f"127.0.0.1:{engine_port}", "--central", f"127.0.0.1:{central_port}"),
            *("--trace", f"{name}.trace", "--reconnect-min", "0.1", "--reconnect-max", "1"),
            *arguments,
        )

    def charge_point(
        self, cp_id: str, central: Program, *arguments: str, engine: tuple[str, ...] = ()
    ) -> tuple[Program, Program]:
        """An Engine and its Monitor, registered: `(engine, monitor)`."""
        engine_program = self.engine(*engine, name=f"engine-{cp_id}")
        monitor_program = self.monitor(
            cp_id, engine_program.port, central.port, *arguments, name=f"monitor-{cp_id}"
        )
        self.until_status(cp_id, "ACTIVE")
        return engine_program, monitor_program

    def driver(self, driver_id: str, *arguments: str) -> Program:
        """Start a driver's command."""
        name = f"driver-{driver_id}-{len(self.programs)}"
        return self.start(name, "driver", driver_id, *arguments, "--kafka", self.kafka)

    def ask(self, driver_id: str, *arguments: str, code: int = 0) -> Any:
        """Run a driver's command to its end: its JSON, or its error text when `code` is not 0."""
        program = self.driver(driver_id, *arguments, "--json")
        assert program.wait(60) == code, f"{arguments}: {program.log}{program.output}"
        return json.loads(program.output) if program.output else program.log

    def token(self, name: str, role: str = "operator") -> str:
        """A new token for Central's HTTP interface."""
        program = self.start(f"token-{name}", "token", "add", name, "--role", role, "--db", "evcharge.db")
        assert program.wait() == 0, program.log
        return program.output.strip()

    def http(self, central: Program, token: str | None = None) -> httpx.Client:
        """Central's HTTP interface, for whoever has this token."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        client = httpx.Client(base_url=f"http://127.0.0.1:{central.http_port}", headers=headers, timeout=20)
        self.clients.append(client)
        return client

    def operator(self, central: Program, name: str = "maria") -> httpx.Client:
        return self.http(central, self.token(name))

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What Central has committed."""
        path = self.folder / "evcharge.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError:  # before the first migration
            return []
        finally:
            connection.close()

    def status(self, cp_id: str) -> str | None:
        rows = self.rows("SELECT status FROM charge_points WHERE cp_id = ?", cp_id)
        return rows[0]["status"] if rows else None

    def until_status(self, cp_id: str, status: str, deadline_s: float = DEADLINE_S) -> None:
        eventually(lambda: self.status(cp_id) == status, f"{cp_id} is {status}", deadline_s)

    def session(self) -> sqlite3.Row | None:
        """The latest session."""
        rows = self.rows("SELECT * FROM sessions ORDER BY number DESC LIMIT 1")
        return rows[0] if rows else None

    def until_session(self, status: str, least_wh: int = 0, deadline_s: float = DEADLINE_S) -> sqlite3.Row:
        def look() -> sqlite3.Row | None:
            session = self.session()
            return (
                session if session and session["status"] == status and session["energy_wh"] >= least_wh else None
            )

        return eventually(look, f"the session is {status} with {least_wh} Wh", deadline_s)

    def stop(self) -> None:
        """End everything; Central last and in order, so that it leaves no record to the next test's Central."""
        for client in self.clients:
            client.close()
        for program in sorted(self.programs, key=lambda program: program.name.startswith("central")):
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
                if program.name.startswith("central"):
                    program.process.terminate()
                else:
                    program.process.kill()
            program.process.wait(10)
            if program.process.stdin is not None:
                program.process.stdin.close()

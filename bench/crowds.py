"""Start a crowd of charge points (`crowd_process.py`), and follow what it reports."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec
from harness import eventually

from crowd_process import Report

SCRIPT = Path(__file__).with_name("crowd_process.py")


class Crowd:
    """The process, and the latest of its reports. `starts` has all start commands: session id -> monotonic ns."""

    def __init__(self, process: "subprocess.Popen[bytes]", count: int) -> None:
        self.process = process
        self.report = Report(count)
        self.starts: dict[UUID, int] = {}
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        decode = msgspec.json.Decoder(Report).decode
        for line in self.process.stdout:
            report = decode(line)
            self.starts.update(report.starts)
            self.report = report

    def until(self, look: Callable[[Report], bool], what: str, deadline_s: float) -> Report:
        """The first report seen for which `look` is true."""

        def found() -> Report | None:
            report = self.report
            if self.process.poll() is not None:
                raise AssertionError(f"the crowd has ended before this: {what}")
            return report if look(report) else None

        return eventually(found, what, deadline_s)

    def until_registered(self, deadline_s: float = 120.0) -> Report:
        """All of them are."""
        return self.until(lambda report: report.registered == report.count, "all are registered", deadline_s)

    def beat_every(self, interval_s: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"%f\n" % interval_s)
        self.process.stdin.flush()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(10)


@contextmanager
def crowd_of(
    count: int,
    port: int,
    kafka: str,
    *,
    heartbeat_s: float = 30.0,
    readings_at_once: int | None = None,
    echo: bool = False,
) -> Iterator[Crowd]:
    """`count` charge points of the Central at `port`, until the end of the block; some may not be there yet.

    They charge until they are stopped or, with `readings_at_once`, each charge in a moment; `echo`: at `port` is
    an echo server, and they only beat.
    """
    command = [
        *(sys.executable, str(SCRIPT), "--port", str(port), "--kafka", kafka, "--count", str(count)),
        *("--heartbeat-s", str(heartbeat_s)),
        *(("--at-once", str(readings_at_once)) if readings_at_once is not None else ()),
        *(("--echo",) if echo else ()),
    ]
    crowd = Crowd(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE), count)
    try:
        yield crowd
    finally:
        crowd.stop()

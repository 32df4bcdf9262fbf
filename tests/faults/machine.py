"""What a machine does to its programs: a disk that fills up, a clock that is set; and why it cannot here."""

import glob
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

DISK_SIZE = "16m"
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class SmallDisk:
    """A file system of its own, small enough to be filled."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "faults", folder], check=True)

    def fill(self) -> None:
        """Leave no byte."""
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"\0" * 65_536):
                pass
        with (self.folder / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(b"\0"):
                pass

    def make_room(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def no_small_disk() -> str | None:
    """Why none can be had, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder) / "disk").close()
        except (OSError, subprocess.CalledProcessError):
            return "only root may mount a small file system"
    return None


class Clock:
    """The wall clock of the programs that are started with `env`; their monotonic clock goes on as it does."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.env = {
            "LD_PRELOAD": glob.glob(FAKETIME)[0],
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: int) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{ahead_s:+d}\n")
        os.replace(draft, self._file)


def no_clock() -> str | None:
    """Why none can be set, or None."""
    return None if glob.glob(FAKETIME) else "libfaketime is not installed"

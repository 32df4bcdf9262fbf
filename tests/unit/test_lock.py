"""What `make` and the image install is pinned, each file by its hash; `make lock` writes the three lists."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
DEV: list[str] = PROJECT["project"]["optional-dependencies"]["dev"]
BENCH: list[str] = PROJECT["project"]["optional-dependencies"]["bench"]
BACKEND: list[str] = PROJECT["build-system"]["requires"]


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def pinned(lock: str) -> dict[str, str]:
    """Name -> all that the list says of it."""
    entries = re.split(r"^(?=\S)", re.sub(r"^ *#.*\n", "", (ROOT / lock).read_text(), flags=re.M), flags=re.M)
    return {name_of(entry): entry for entry in entries if entry.strip()}


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", [*RUNTIME, *DEV, *BACKEND]),
        ("requirements-runtime.lock", RUNTIME),
        ("requirements-bench.lock", [*RUNTIME, *BENCH]),
    ],
)
def test_all_that_is_wanted_is_pinned_with_hashes(lock: str, wanted: list[str]) -> None:
    found = pinned(lock)
    missing = {name_of(requirement) for requirement in wanted} - found.keys()
    assert not missing, f"{lock} lacks {', '.join(sorted(missing))}: run `make lock`"
    for name, entry in found.items():
        assert re.match(rf"{re.escape(name)}==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_image_gets_what_was_tested_and_nothing_more() -> None:
    tested, shipped = pinned("requirements.lock"), pinned("requirements-runtime.lock")
    assert not {name: entry for name, entry in shipped.items() if tested[name] != entry}
    assert not {name_of(requirement) for requirement in [*DEV, *BACKEND]} & shipped.keys()

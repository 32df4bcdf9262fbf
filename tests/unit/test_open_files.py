"""The limit of open files is raised as far as the machine allows, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "soft_then"),
    [(64, 256, 200, 200, 200), (64, 256, 1000, 256, 256), (128, 256, 100, 100, 128)],
    ids=["raised", "as far as it goes", "enough already"],
)
def test_the_soft_limit_is_raised(soft: int, hard: int, wanted: int, allowed: int, soft_then: int) -> None:
    script = (
        "import resource; from evcharge.open_files import allow_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"print(allow_open_files({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(allowed), str(soft_then)]

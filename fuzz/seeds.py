"""What fuzzing begins with: the examples of docs/protocol.md."""

import re
from collections.abc import Callable
from pathlib import Path

import atheris

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
MAX_BYTES = 1500


def fuzz(one: Callable[[bytes], None], arguments: list[str]) -> None:
    """`arguments` are libFuzzer's: the folder for what it learns comes first, and gets the examples, too."""
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(EXAMPLES):
        (folder / f"example-{number}").write_text(example, "utf-8")
    atheris.Setup([*arguments, f"-max_len={MAX_BYTES}"], one)
    atheris.Fuzz()

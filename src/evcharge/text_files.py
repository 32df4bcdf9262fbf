"""Files that a person names, and may have edited, on any system and with any editor."""

import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from evcharge.errors import UsageError


def named(text: str | Path) -> Path:
    """The file that is meant: `~` is the home folder, also where no shell has seen it."""
    return Path(os.path.expanduser(text))


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a file in UTF-8: with or without a byte order mark, whatever ends a line, or does not the last.

    Raises `UsageError`, which quotes none of them; `what` is the file to whoever named it.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise UsageError(f"{what} {path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        utf_16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
        raise UsageError(
            f"{what} {path} cannot be read: it is {'UTF-16' if utf_16 else 'not UTF-8'}; save it as UTF-8"
        ) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]

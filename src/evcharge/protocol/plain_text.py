"""Text that may hold a stranger's words, made to do nothing to a terminal, to a log, or to who reads it.

What is not printable becomes its escape, such as `\\x1b`: control characters, the marks that turn the direction of
writing, those of no width, and Unicode's other line ends.
"""

import json


def printable(text: str) -> str:
    """As lines: those that it has are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """As one line, so that it cannot pass for another."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_json(data: bytes) -> str:
    """The same JSON, in which what is not printable is told as JSON tells it."""
    text = data.decode()
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]

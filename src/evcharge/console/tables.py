"""Tables as plain text, for answers: they are read in a terminal, a pipe and a log alike."""

from collections.abc import Iterable, Sequence

from evcharge.protocol.plain_text import one_line

NUMERIC = set("0123456789.,:-+ ")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], none: str) -> str:
    """Columns side by side, those of numbers to the right; `none` is what to say if there are no rows."""
    texts = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    if not texts:
        return none
    columns = list(zip(*texts, strict=True))
    widths = [max(len(name), *map(len, column)) for name, column in zip(head, columns, strict=True)]
    right = [all(NUMERIC.issuperset(cell) for cell in column) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(head), *texts]
    ]
    return "\n".join(lines)

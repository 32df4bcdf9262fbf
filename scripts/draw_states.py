"""Draws the diagrams of docs/states.md anew from the transition tables: python scripts/draw_states.py"""

from pathlib import Path

from evcharge.domain import session, status

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
DIAGRAMS = {"charge-point": status.mermaid, "session": session.mermaid}


def drawn(page: str) -> str:
    """`page` with what stands between the markers of each diagram written anew."""
    for name, mermaid in DIAGRAMS.items():
        begin, end = f"<!-- {name}: drawn by scripts/draw_states.py -->", f"<!-- {name}: end -->"
        before, begun, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise SystemExit(f"{PAGE} has lost a marker of the diagram `{name}`: {begin} or {end}")
        page = f"{before}{begin}\n```mermaid\n{mermaid()}\n```\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text("utf-8")), "utf-8")

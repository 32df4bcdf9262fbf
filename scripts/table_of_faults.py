"""Writes the table of docs/reliability.md from the results of real runs: `make faults` appends them.

.venv/bin/python scripts/table_of_faults.py [RESULTS.jsonl ...]
"""

import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / ".faults" / "results.jsonl"
BEGIN, END = "<!-- runs: begin -->\n", "<!-- runs: end -->\n"


def table(results: list[dict[str, object]]) -> str:
    """What was broken, how often, and how often the books then disagreed."""
    runs: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for result in results:
        names = result["breaks"]
        assert isinstance(names, list)
        runs.update(names)
        if result["wrong"]:
            wrong.update(names)
    sessions = sum(int(str(result["sessions"])) for result in results)
    energy_wh = sum(int(str(result["energy_wh"])) for result in results)
    failed = sum(1 for result in results if result["wrong"])
    days = sorted(str(result["at"])[:10] for result in results)
    head = (
        f"{len(results)} runs from {days[0]} to {days[-1]}, {sessions:,} sessions, {energy_wh / 1000:,.1f} kWh;"
        f" in {failed} of them something was wrong. A run with two breaks counts for both.\n\n"
    )
    rows = [f"| `{name}` | {count} | {wrong[name]} |\n" for name, count in sorted(runs.items())]
    return head + "| Break | Runs | Wrong |\n|---|---|---|\n" + "".join(rows)


def with_table(page: str, text: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{text}{END}{after}"


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or [RESULTS]
    results = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    if not results:
        sys.exit("there are no results yet: make faults")
    PAGE.write_text(with_table(PAGE.read_text(), table(results)))


if __name__ == "__main__":
    main()

"""Run the measurements and print the table: `python -m benchmarks [--only NAME] [--quick] [--output FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import Alone
from benchmarks.topics import TOPICS, measure

if TYPE_CHECKING:
    from benchmarks.rows import Row

RESULTS = Path(__file__).with_name("results.json")

_HEADINGS = ("work", "limit or peer", "of the peer", "hotconf", "ratio", "target", "met")


def main() -> int:
    """Measure, print the table, and write the results. A missed target shows in the table; the exit code is 0."""
    options = _options()
    before = os.getloadavg()[0]
    rows = [row for topic in options.only or TOPICS for row in _measured(topic, quick=options.quick)]
    print(_table(rows))
    results = {"machine": _machine(before), "quick": options.quick, "rows": [row.as_dict() for row in rows]}
    options.output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=TOPICS, help="measure this topic; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it works, not to quote")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go as JSON")
    return parser.parse_args()


def _measured(topic: str, *, quick: bool) -> list[Row]:
    started = time.monotonic()
    measured = Alone(measure, topic, quick).result()
    print(f"{topic}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return measured


def _machine(load: float) -> dict[str, Any]:
    packages = ("pydantic", "pydantic-settings", "rtoml", "watchfiles", "aiohttp")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load_before": round(load, 2),
        "packages": {name: version(name) for name in packages},
    }


def _table(rows: list[Row]) -> str:
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    notes = [f"{', '.join(filter(None, (row.work, row.peer)))}: {row.note}" for row in rows if row.note]
    return "\n".join([padded[0], ruler, *padded[1:], "", *notes])


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row.met]
    target = row.target.text(row.unit) if row.target else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    figures = (_figure(row.peer_value, row.unit), _figure(row.hotconf, row.unit) or "skipped")
    return (row.work, row.peer, *figures, ratio, target, met)


def _figure(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.3g} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"


if __name__ == "__main__":
    sys.exit(main())

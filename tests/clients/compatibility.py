"""The compatibility matrix: versions of Cube × announced versions × modes of durability, and its table in the README.

    python -m tests.clients.compatibility FOLDER     what test_compatibility.py recorded there becomes the record and
                                                     the table (`make compat`)

The record is kept beside this file; tests hold it against the matrix and the README against it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tests.clients.install import folders

RECORD = Path(__file__).resolve().with_suffix(".json")
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- compatibility: begin -->", "<!-- compatibility: end -->"

DRIVERS = [folder.name for folder in folders("clients")]
NEWEST = DRIVERS[-1]
DEFAULT = "1.7.43"
# Nothing, the oldest, each version from which on a client sends more (clients.md §1), and the default.
ANNOUNCED = ["none", "1.6.21", "1.6.22", "1.6.26", "1.6.38", "1.6.66", "1.7.25", DEFAULT]
# Each is a CUBEQUEUE_DURABILITY.
MODES = ["memory", "relaxed", "strict"]


class Shortcut(NamedTuple):
    """Something that a client does where it and the announced version both know it."""

    letter: str
    meaning: str
    driver_since: str
    announced_since: str


# clients.md §1 and §4.
SHORTCUTS = [
    Shortcut("E", "EXCLUSIVE: persistent queries belong to their process", "1.6.23", "1.6.22"),
    Shortcut("X", "EXTERNAL_ID, with `CUBEJS_QUEUE_EXTERNAL_ID=true`", "1.6.34", "1.6.26"),
    Shortcut("P", "native parameters", "1.6.38", "1.6.38"),
    Shortcut("A", "Arrow replies", "1.7.0", "1.6.66"),
    Shortcut("F", "the fast track (ADD_AND_RETRIEVE), with `CUBEJS_QUEUE_FAST_TRACK=true`", "1.7.26", "1.7.25"),
]


class Cell(NamedTuple):
    """One combination."""

    driver: str
    announced: str
    mode: str


CELLS = [Cell(driver, announced, mode) for mode in MODES for driver in DRIVERS for announced in ANNOUNCED]
# What each test run looks at: every driver at the default, the newest at everything, and both of these in each mode.
QUICK = [cell for cell in CELLS if (cell.driver == NEWEST) + (cell.announced == DEFAULT) + (cell.mode == MODES[0]) >= 2]

# Cells that cannot work, each with its reason; their scenarios must fail for as long as they are here.
REASONS: Mapping[Cell, str] = {}

# The letters of the shortcuts taken in a cell; None where it does not work.
Record: TypeAlias = Mapping[Cell, str | None]


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def expected(cell: Cell) -> str | None:
    """The letters of the shortcuts that the client is to take."""
    if cell in REASONS:
        return None
    if cell.announced == "none":
        return ""
    return "".join(
        shortcut.letter
        for shortcut in SHORTCUTS
        if _number(cell.driver) >= _number(shortcut.driver_since)
        and _number(cell.announced) >= _number(shortcut.announced_since)
    )


def save(cell: Cell, letters: str | None, folder: Path) -> None:
    """Record a cell in a folder; for many processes at the same time."""
    (folder / f"{'-'.join(cell)}.json").write_text(json.dumps({**cell._asdict(), "shortcuts": letters}))


def gather(folder: Path) -> dict[Cell, str | None]:
    """What was recorded in a folder, in the order of the matrix."""
    found: dict[Cell, str | None] = {}
    for file in folder.glob("*.json"):
        line: dict[str, Any] = json.loads(file.read_text())
        found[Cell(line["driver"], line["announced"], line["mode"])] = line["shortcuts"]
    missing = [cell for cell in CELLS if cell not in found]
    if missing:
        raise SystemExit(f"{len(missing)} cells were not run, {missing[0]} among them")
    return {cell: found[cell] for cell in CELLS}


def read_record() -> dict[Cell, str | None]:
    """The record that is kept."""
    kept: dict[str, dict[str, dict[str, str | None]]] = json.loads(RECORD.read_text())
    return {
        Cell(driver, announced, mode): letters
        for mode, rows in kept.items()
        for driver, row in rows.items()
        for announced, letters in row.items()
    }


def write_record(record: Record) -> None:
    """Keep it."""
    kept: dict[str, dict[str, dict[str, str | None]]] = {}
    for cell, letters in record.items():
        kept.setdefault(cell.mode, {}).setdefault(cell.driver, {})[cell.announced] = letters
    RECORD.write_text(json.dumps(kept, indent=1) + "\n")


def _table_cell(letters: Sequence[str | None], notes: Sequence[int]) -> str:
    """One cell of the table, for all modes together."""
    if notes or None in letters:
        return "✗ " + ", ".join(f"({note})" for note in notes)
    together = sorted({each for each in letters if each is not None})
    return " or ".join(f"✓ {each}".rstrip() for each in together)


def render(record: Record, reasons: Mapping[Cell, str]) -> str:
    """The table, as Markdown."""
    modes = list(dict.fromkeys(cell.mode for cell in record))
    drivers = list(dict.fromkeys(cell.driver for cell in record))
    announced = list(dict.fromkeys(cell.announced for cell in record))
    texts = list(dict.fromkeys(reasons[cell] for cell in record if cell in reasons))
    lines = [
        "| Cube | " + " | ".join(f"**{each}**" if each == DEFAULT else each for each in announced) + " |",
        "| --- |" + " --- |" * len(announced),
    ]
    for driver in drivers:
        row = []
        for version in announced:
            cells = [Cell(driver, version, mode) for mode in modes]
            notes = sorted({texts.index(reasons[cell]) + 1 for cell in cells if cell in reasons})
            row.append(_table_cell([record[cell] for cell in cells], notes))
        lines.append(f"| {driver} | " + " | ".join(row) + " |")
    lines.append("")
    lines += [f"({number}) {text}" for number, text in enumerate(texts, 1)]
    how = f"Each cell was run in these modes of durability: {', '.join(modes)}."
    legend = [f"- **{shortcut.letter}** {shortcut.meaning}" for shortcut in SHORTCUTS]
    return "\n".join([*lines, how, "", "✓ is that all works; letters are the shortcuts taken:", "", *legend])


def table_of(readme: str) -> str:
    """The table that a README has now."""
    return readme.split(BEGIN, 1)[1].split(END, 1)[0].strip()


def with_table(readme: str, table: str) -> str:
    """The README with another table."""
    before, rest = readme.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def main(arguments: Sequence[str]) -> int:
    """Keep what was recorded in the folder given, and write the table."""
    (folder,) = arguments
    record = gather(Path(folder))
    write_record(record)
    README.write_text(with_table(README.read_text(encoding="utf-8"), render(record, REASONS)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Every cell of the compatibility matrix is run, and the README's table says what came of it (clients.md §1)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.client_codec import ArrowReply
from tests.clients import compatibility
from tests.clients.compatibility import CELLS, MODES, QUICK, REASONS, SHORTCUTS, Cell
from tests.clients.processes import Cubequeue, NodeProcess, package_folder
from tests.clients.recording_proxy import Exchange, RecordingProxy

LIMIT_S = 60
# Where to keep what was found, for `make compat`.
RECORD_FOLDER = os.environ.get("COMPATIBILITY_RECORD")

_EXCLUSIVE = re.compile(r"QUEUE ADD(_AND_RETRIEVE)? EXCLUSIVE ")
_ADDED_WITH_ID = re.compile(r"QUEUE ADD\w* .*EXTERNAL_ID ")


def shortcuts_of(exchanges: Iterable[Exchange]) -> str:
    """The letters of the shortcuts that a client was seen to take, with success."""
    taken = set()
    for each in exchanges:
        if each.reply is None or each.error is not None:
            continue
        if _EXCLUSIVE.match(each.text):
            taken.add("E")
        if _ADDED_WITH_ID.match(each.text):
            taken.add("X")
        if each.request.parameters:
            taken.add("P")
        if isinstance(each.reply, ArrowReply):
            taken.add("A")
        if each.text.startswith("QUEUE ADD_AND_RETRIEVE") and each.rows()[0]["payload"] is not None:
            taken.add("F")
    return "".join(shortcut.letter for shortcut in SHORTCUTS if shortcut.letter in taken)


def settings_of(cell: Cell, folder: Path) -> dict[str, str]:
    """How a server of this cell is set up."""
    settings = {"CUBEQUEUE_ANNOUNCE_VERSION": cell.announced, "CUBEQUEUE_DURABILITY": cell.mode}
    return settings if cell.mode == "memory" else {**settings, "CUBESTORE_DATA_DIR": str(folder / "data")}


def run(cell: Cell, folder: Path) -> tuple[list[str], list[Exchange]]:
    """The failures of the scenarios of a cell, and what went over the wire."""
    packages = package_folder("clients", cell.driver)
    switches = {"CUBEJS_QUEUE_FAST_TRACK": "true", "CUBEJS_QUEUE_EXTERNAL_ID": "true"}
    script = ["run.js", "scenarios/compatibility.js"]
    with Cubequeue(folder / "log", settings_of(cell, folder)) as server, RecordingProxy(server.port) as proxy:
        with NodeProcess(proxy, packages, script, switches, LIMIT_S) as node:
            lines = list(node.lines())
            assert node.exit_code() == 0, node.errors
        assert lines, node.errors
        assert "done" in lines[-1], node.errors
        assert cell.mode == "memory" or any((folder / "data").iterdir()), "its state is on the disk"
    failures = [f"{line['scenario']}: {line['error']}" for line in lines if line.get("ok") is False]
    return failures + server.complaints, proxy.exchanges


def parameters(cells: Iterable[Cell]) -> list[object]:
    return [pytest.param(cell, id="-".join(cell), marks=[] if cell in QUICK else [pytest.mark.soak]) for cell in cells]


@pytest.mark.node
@pytest.mark.parametrize("cell", parameters(CELLS))
def test_cell(cell: Cell, tmp_path: Path) -> None:
    failures, exchanges = run(cell, tmp_path)
    if cell in REASONS:
        assert failures, f"{cell} works, though it should not: {REASONS[cell]}"
        taken = None
    else:
        assert failures == []
        assert [(each.text, each.error) for each in exchanges if each.error is not None] == []
        taken = shortcuts_of(exchanges)
    assert taken == compatibility.expected(cell)
    if RECORD_FOLDER is not None:
        compatibility.save(cell, taken, Path(RECORD_FOLDER))


def test_the_record_is_of_the_whole_matrix_and_as_expected() -> None:
    assert compatibility.read_record() == {cell: compatibility.expected(cell) for cell in CELLS}


def test_the_readme_has_the_table_of_the_record() -> None:
    readme = compatibility.README.read_text(encoding="utf-8")
    assert compatibility.table_of(readme) == compatibility.render(compatibility.read_record(), REASONS)


def test_quick_cells_have_every_driver_announcement_and_mode() -> None:
    assert {cell.driver for cell in QUICK} == set(compatibility.DRIVERS)
    assert {cell.announced for cell in QUICK} == set(compatibility.ANNOUNCED)
    assert {cell.mode for cell in QUICK} == set(MODES)


def test_a_cell_that_cannot_work_is_in_the_table_with_its_reason() -> None:
    works, fails = Cell("1.0.0", "1.6.21", "memory"), Cell("1.0.0", "none", "memory")
    table = compatibility.render({works: "EX", fails: None}, {fails: "It needs the header."})
    assert "| 1.0.0 | ✓ EX | ✗ (1) |" in table
    assert "\n(1) It needs the header.\n" in table


def test_modes_that_differ_are_both_in_the_cell() -> None:
    one, other = Cell("1.0.0", "1.6.21", "memory"), Cell("1.0.0", "1.6.21", "strict")
    assert "| 1.0.0 | ✓ or ✓ E |" in compatibility.render({one: "E", other: ""}, {})


def test_what_was_recorded_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record: dict[Cell, str | None] = {cell: compatibility.expected(cell) for cell in CELLS}
    for cell, letters in record.items():
        compatibility.save(cell, letters, tmp_path)
    assert compatibility.gather(tmp_path) == record
    monkeypatch.setattr(compatibility, "RECORD", tmp_path / "record")
    compatibility.write_record(record)
    assert compatibility.read_record() == record


def test_a_cell_that_was_not_run_is_missed(tmp_path: Path) -> None:
    for cell in CELLS[1:]:
        compatibility.save(cell, "", tmp_path)
    with pytest.raises(SystemExit, match="1 cells were not run"):
        compatibility.gather(tmp_path)


def test_only_the_table_of_the_readme_is_replaced() -> None:
    readme = f"before\n{compatibility.BEGIN}\nold\n{compatibility.END}\nafter\n"
    written = compatibility.with_table(readme, "new")
    assert written == readme.replace("old", "new")
    assert compatibility.table_of(written) == "new"

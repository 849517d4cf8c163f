"""docs/parity.md says of every row of docs/spec/parity.md where it stands, and names what is there."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from tests.docs.blocks import ROOT

_PROOF = re.compile(r"`([^`]+)`")
_ID = re.compile(r"^\| ([A-Z]\d\d) \|", re.MULTILINE)


class Row(NamedTuple):
    """One feature of CubeStore's and its state here."""

    id: str
    state: str
    proofs: list[str]
    remark: str


def rows() -> list[Row]:
    text = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if _ID.match(line)]
    return [Row(id_, state, _PROOF.findall(proof), remark) for id_, state, proof, remark in cells]


ROWS = rows()


def test_every_row_of_the_specification_is_there_once_and_in_order() -> None:
    specified = _ID.findall((ROOT / "docs/spec/parity.md").read_text(encoding="utf-8"))
    assert len(specified) > 90
    assert [row.id for row in ROWS] == specified


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_state_is_one_of_three_and_has_what_it_needs(row: Row) -> None:
    assert row.state in {"done", "divergence", "later"}
    assert bool(row.proofs) is (row.state != "later")
    assert row.remark or row.state != "divergence"


@pytest.mark.parametrize("proof", sorted({proof for row in ROWS for proof in row.proofs}))
def test_what_is_named_exists(proof: str) -> None:
    path, _, name = proof.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^(?:(?:async )?def|class) {name}\b", text, re.MULTILINE), proof

"""The recordings beside this module as data; README.md says what they hold."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from storage.vocabulary import Cell

HERE = Path(__file__).parent


class Step(NamedTuple):
    """One statement of a sequence and the answer of CubeStore: `error`, or columns and rows of text."""

    sequence: int
    number: int
    client: int
    sql: str
    kind: str
    columns: list[str]
    rows: list[list[str | None]]
    error: str | None


class Exchange(NamedTuple):
    """A request to CubeStore and its reply, as the messages of the WebSocket."""

    sql: str
    format: str
    request: bytes
    reply: bytes


class DeploymentStatement(NamedTuple):
    """A statement that a deployment of Cube sent; `route` is `here` or `up`, and `replies` counts kinds of replies."""

    run: str
    route: str
    format: int
    sql: str
    is_cut: bool
    parameters: tuple[Cell, ...] | None
    inline_tables: list[dict[str, Any]]
    trace: str
    times_sent: int
    replies: dict[str, int]


class Upload(NamedTuple):
    """A request that uploads a file. `body_bytes` is the size of its body as sent, `body_start` the first bytes."""

    version: str
    method: str
    target: str
    http_version: str
    headers: list[tuple[str, str]]
    body_bytes: int
    body_start: bytes
    reply: str


@cache
def cubestore_answers() -> list[Step]:
    return [
        Step(
            line["seed"],
            line["n"],
            line["client"],
            line["sql"],
            line["kind"],
            line.get("cols", []),
            line.get("rows", []),
            line.get("error"),
        )
        for line in _lines("cubestore-1.6.60")
    ]


@cache
def upstream_exchanges() -> list[Exchange]:
    return [
        Exchange(line["sql"], line["format"], b64decode(line["request"]), b64decode(line["reply"]))
        for line in _lines("upstream-frames")
    ]


@cache
def deployment_statements() -> list[DeploymentStatement]:
    return [
        DeploymentStatement(
            line["run"],
            line["route"],
            line["fmt"],
            line["sql"],
            line["cut"],
            None if line["params"] is None else tuple(_parameter(value) for _, value in line["params"]),
            line["inline"] or [],
            line["trace"],
            line["count"],
            line["replies"],
        )
        for line in _lines("deployment-statements")
    ]


@cache
def uploads() -> list[Upload]:
    return [
        Upload(
            line["tag"],
            line["method"],
            line["path"],
            line["http"],
            [(name, value) for name, value in line["headers"]],
            line["bytes"],
            bytes.fromhex(line["first200"]),
            line["reply"],
        )
        for line in _lines("uploads")
    ]


def _lines(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(HERE / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _parameter(value: str | float | None) -> Cell:
    return value.encode() if isinstance(value, str) else value

"""Statements and queries in the documentation are ones that the server and Prometheus know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cubequeue_server.arguments import COMMANDS
from tests.cli.running import Running, run, serving
from tests.docs.blocks import ROOT, Block, blocks
from tests.metrics.test_exposition import documented

PAGES: Final = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/runbooks").glob("*.md")),
]
TEXTS: Final = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
QUESTIONS: Final = {
    "continue-wait", "slots", "slow", "client-errors", "limits", "worker-dead", "cancelled", "writes-refused",
}  # fmt: skip
METRICS: Final = {row.name: row for row in documented()}
SUFFIXES: Final = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
FOREIGN: Final = ("container_", "kubelet_", "kube_")


def statements() -> Iterator[tuple[str, str]]:
    for name, text in TEXTS.items():
        for block in blocks(text, "sql"):
            for statement in "\n".join(block.lines).split(";"):
                if statement.strip():
                    yield name, " ".join(statement.split())


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One that has an item in each state, a result, and something cached."""
    with serving("--durability", "memory") as running:
        url = "ws://{}:{}".format(*running.ws)
        queue = "SQL_QUERY_STANDALONE"
        for statement in (
            *(f"QUEUE ADD PRIORITY 1 '{queue}:{key}' '{{\"requestId\":\"the-request-id\"}}'" for key in "abc"),
            *(f"QUEUE RETRIEVE CONCURRENCY 2 '{queue}:{key}'" for key in "ab"),
            f"QUEUE ACK '{queue}:a' 'done'",
            "CACHE SET 'app:key' 'orders'",
        ):
            assert run("sql", "--url", url, statement).returncode == 0
        yield running


@pytest.mark.parametrize(("page", "statement"), list(statements()), ids=lambda part: part[:60])
def test_a_statement_can_be_executed(page: str, statement: str, server: Running) -> None:
    done = run("sql", "--json", "--url", "ws://{}:{}".format(*server.ws), statement)
    assert done.returncode == 0, (page, done.stderr)
    assert done.stdout.startswith(("[", "{"))


def test_the_first_question_finds_the_query(server: Running) -> None:
    (block,) = (
        each for each in blocks(TEXTS["docs/runbooks/continue-wait.md"], "sql") if "request-id" in str(each.lines)
    )
    done = run("sql", "--json", "--url", "ws://{}:{}".format(*server.ws), " ".join(block.lines).rstrip(";"))
    assert {row["id"]: row["status"] for row in json.loads(done.stdout)} == {"b": "Active", "c": "Pending"}


def queries() -> Iterator[tuple[str, Block]]:
    return ((name, block) for name, text in TEXTS.items() for block in blocks(text, "promql"))


@pytest.mark.parametrize(("page", "block"), list(queries()), ids=str)
def test_a_query_asks_for_metrics_that_exist(page: str, block: Block) -> None:
    known = {name + suffix: row for name, row in METRICS.items() for suffix in SUFFIXES[row.type]}
    for line in block.lines:
        asked = re.findall(r"\b((?:cubequeue|process|container|kubelet)_\w+)(?:\{([^}]*)\})?", line)
        assert asked, line
        for name, matchers in asked:
            assert name in known or name.startswith(FOREIGN), name
            if name in known:
                assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", matchers)) <= known[name].labels
        assert line.count("(") == line.count(")")


@pytest.mark.parametrize("page", TEXTS)
def test_metrics_in_the_text_exist(page: str) -> None:
    names = set(METRICS) | {n + s for n, row in METRICS.items() for s in SUFFIXES[row.type]}
    named = set(re.findall(r"`(cubequeue_[a-z_]+)[`{ ]", TEXTS[page])) - {"cubequeue_server"}
    assert named - names == set()


@pytest.mark.parametrize("page", TEXTS)
def test_commands_in_the_text_exist(page: str) -> None:
    for line in commands_of(TEXTS[page]):
        assert line.split()[1] in COMMANDS, line


def commands_of(text: str) -> Iterator[str]:
    """Lines of shell blocks and words of code that begin with the command; `cubequeue is stopping` is no such."""
    for block in blocks(text, "sh"):
        yield from (line for line in block.lines if line.startswith("cubequeue "))
    yield from re.findall(r"`(cubequeue (?!is )[^`]+)`", text)


def test_there_is_a_runbook_for_each_question() -> None:
    assert {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} == QUESTIONS | {"index"}


def test_log_messages_that_runbooks_look_for_are_logged() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "cubequeue_server").rglob("*.py"))
    for page, text in TEXTS.items():
        for message in re.findall(r"\"message\": \"([^\"]+)\"", text):
            options = re.fullmatch(r"\(([^)]*)\)", message)
            for each in options[1].split("|") if options else [message]:
                assert f'"{each}"' in code, (page, each)

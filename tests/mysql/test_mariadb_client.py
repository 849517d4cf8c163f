"""The MySQL port by the `mariadb` command line client."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import ENTRY_POINT, Running, clean_environment, serving
from tests.needed import require_program


@pytest.fixture(scope="module", autouse=True)
def _needs_the_client() -> None:
    require_program("mariadb")


def run(server: Running, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    host, port = server.mysql
    command = ["mariadb", "--no-defaults", "--protocol=tcp", "-h", host, "-P", str(port), "--connect-timeout=10"]
    return subprocess.run(
        [*command, *options], input=text, capture_output=True, text=True, timeout=30, check=False, env=_environment()
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL", "MARIADB"))}


def lines(server: Running, text: str, *options: str) -> list[list[str]]:
    done = run(server, text, "--batch", "--skip-column-names", *options)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_script_of_statements(server: Running) -> None:
    script = """
        QUEUE ADD PRIORITY 3 'shell:a' 'payload';
        QUEUE ADD 'shell:b' 'other';
        SELECT id, status, priority, extra FROM system.queue WHERE prefix = 'shell' ORDER BY priority DESC;
        CACHE SET 'shell:k' 'v';
        CACHE GET 'shell:k';
        CACHE REMOVE 'shell:k';
        SELECT count(*) FROM system.cache WHERE prefix = 'shell';
    """
    first, second, *rest = lines(server, script)
    assert (first[1:], second[1:]) == (["true", "1"], ["true", "2"])
    assert rest == [["a", "Pending", "3", "NULL"], ["b", "Pending", "0", "NULL"], ["true"], ["v"], ["0"]]


def test_a_table_for_people(server: Running) -> None:
    done = run(server, "SELECT 1 AS n, 'text' AS t, NULL AS nothing", "--table")
    assert done.stdout.splitlines() == [
        "+------+------+---------+",
        "| n    | t    | nothing |",
        "+------+------+---------+",
        "|    1 | text | NULL    |",
        "+------+------+---------+",
    ]


def test_an_error_and_going_on(server: Running) -> None:
    done = run(server, "QUEUE FOO;\nSELECT 7;\n", "--force", "--batch", "--skip-column-names")
    assert "ERROR 1815 (HY000)" in done.stderr
    assert 'ParserError("Unknown queue command: foo")' in done.stderr
    assert done.stdout == "7\n"


def test_with_a_database_and_completion(server: Running) -> None:
    assert lines(server, "SELECT 2", "--database=system", "--auto-rehash") == [["2"]]
    assert lines(server, "use anything;\nSELECT 3;\n") == [["3"]]


def test_a_large_value(server: Running) -> None:
    value = "x" * 1_000_000
    assert lines(server, f"CACHE SET 'shell:large' '{value}'; CACHE GET 'shell:large'")[1] == [value]


def test_a_password(server: Running) -> None:
    assert lines(server, "SELECT 1", "--user=anybody", "--password=anything") == [["1"]]
    with serving("--mysql-bind", "127.0.0.1:auto", CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD="s3cret") as guarded:
        assert lines(guarded, "SELECT 1", "--user=ann", "--password=s3cret") == [["1"]]
        refused = run(guarded, "SELECT 1", "--user=ann", "--password=wrong")
        assert refused.returncode == 1
        assert "ERROR 1045 (28000)" in refused.stderr
        assert refused.stdout == ""


def hash_of(password: str) -> str:
    """What `cubequeue hash-password` makes of it."""
    done = subprocess.run(
        [ENTRY_POINT, "hash-password"],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=clean_environment(),
    )
    return done.stdout.strip()


def test_a_password_of_which_only_the_hash_is_known(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"ann:{hash_of('s3cret')}\nbob:plain\n")
    users.chmod(0o600)
    with serving("--mysql-bind", "127.0.0.1:auto", CUBEQUEUE_USERS_FILE=str(users)) as guarded:
        assert lines(guarded, "SELECT 1", "--user=ann", "--password=s3cret") == [["1"]]
        assert lines(guarded, "SELECT 1", "--user=bob", "--password=plain") == [["1"]]
        for user in ("ann", "bob", "nobody"):
            assert run(guarded, "SELECT 1", f"--user={user}", "--password=wrong").returncode == 1


def test_what_people_type_first(server: Running) -> None:
    status = run(server, "\\s")
    assert (status.returncode, status.stderr) == (0, "")
    assert "Server version:\t\t5.1.10" in status.stdout
    assert "Current user:\t\troot" in status.stdout
    described = lines(server, "USE system; DESCRIBE system.cache;")
    assert [row[:2] for row in described] == [
        ["id", "text"],
        ["prefix", "text"],
        ["expire", "timestamp"],
        ["value", "text"],
    ]
    assert lines(server, "SHOW FIELDS FROM system.queue_results")[0][0] == "id"
    wrong = run(server, "SELECT * FROM queues")
    assert wrong.stderr.endswith("Table queues was not found: did you mean system.queue?\n")
    long = run(server, "SELECT count(*) FROM system.queue WHERE id IN (" + ", ".join(["'x'"] * 200_000) + ")")
    assert long.returncode == 1
    assert long.stderr.endswith("SELECT of 1000046 bytes exceeds the maximum of 262144 bytes\n")

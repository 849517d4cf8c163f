"""The MySQL port by PyMySQL (mysql.md)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest

from tests.cli.running import Running, serving
from tests.cli.test_serve import rows as websocket_rows

LONGLONG, STRING = 8, 254


def connect(server: Running, **options: Any) -> Any:
    host, port = server.mysql
    return pymysql.connect(host=host, port=port, **{"user": "anybody", "password": "anything", **options})


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with closing(connect(server)) as connection:
        yield connection


def ask(client: Any, text: str) -> list[tuple[Any, ...]]:
    with client.cursor() as cursor:
        cursor.execute(text)
        return list(cursor.fetchall())


def refusal(client: Any, text: str) -> tuple[int, str]:
    with pytest.raises(pymysql.MySQLError) as error:
        ask(client, text)
    code, message = error.value.args
    return code, message


def test_the_life_of_an_item(client: Any) -> None:
    ((id_, added, pending),) = ask(client, "QUEUE ADD PRIORITY 7 'life:a' 'payload'")
    assert (added, pending) == ("true", 1)
    assert ask(client, "QUEUE LIST WITH_PAYLOAD 'life'") == [("a", id_, "pending", None, "payload")]
    assert ask(client, "SELECT id, status, priority, value FROM system.queue WHERE prefix = 'life'") == [
        ("a", "Pending", 7, "payload")
    ]
    assert ask(client, "QUEUE RETRIEVE CONCURRENCY 1 'life:a'") == [("payload", None, 0, "a", id_)]
    assert ask(client, "QUEUE HEARTBEAT 'life:a'") == []
    assert ask(client, "QUEUE ACK 'life:a' 'done'") == [("true",)]
    assert ask(client, "SELECT path, deleted, value FROM system.queue_results WHERE path = 'life:a'") == [
        ("life:a", "false", "done")
    ]
    assert ask(client, f"QUEUE RESULT_BLOCKING 1000 {id_}") == [("done", "success", id_, None)]


def test_columns_have_mysqls_types(client: Any) -> None:
    ask(client, "QUEUE ADD 'types:a' 'x'")
    with client.cursor() as cursor:
        cursor.execute("SELECT id, priority, created, exclusive, heartbeat FROM system.queue WHERE prefix = 'types'")
        assert [(column[0], column[1]) for column in cursor.description] == [
            ("id", STRING),
            ("priority", LONGLONG),
            ("created", STRING),
            ("exclusive", STRING),
            ("heartbeat", STRING),
        ]
        ((id_, priority, created, exclusive, heartbeat),) = cursor.fetchall()
    assert (id_, priority, exclusive, heartbeat) == ("a", 0, "false", None)
    assert created.endswith("Z")
    assert created[4] + created[10] == "-T"


def test_values_come_back_as_they_were(client: Any) -> None:
    for value in ["", "'\"\\\0\n%_", "\N{GRINNING FACE}" * 70, "x" * 70_000]:
        with client.cursor() as cursor:
            cursor.execute("CACHE SET %s %s", ("values:k", value))
            cursor.execute("CACHE GET 'values:k'")
            assert cursor.fetchall() == ((value,),)
    ask(client, "CACHE SET 'values:b' X'00FF'")
    assert ask(client, "CACHE GET 'values:b'") == [("0x00FF",)]


def test_a_value_larger_than_a_packet(client: Any) -> None:
    for size in (0xFFFFFF - 5, 0xFFFFFF - 4, 20_000_000):
        ask(client, f"CACHE SET 'large:k' '{'x' * size}'")
        assert ask(client, "CACHE GET 'large:k'") == [("x" * size,)]
        assert ask(client, "SELECT value FROM system.cache WHERE prefix = 'large'") == [("x" * size,)]
    ask(client, "CACHE REMOVE 'large:k'")


ERRORS = {
    "QUEUE FOO": 'ParserError("Unknown queue command: foo")',
    "QUEUE ADD EXCLUSIVE 'e:a' 'x'": "QUEUE ADD EXCLUSIVE requires a process_id",
    "CACHE GET ?": 'ParserError("Empty parameters, please send parameters within query")',
    "SELECT nothing FROM system.queue": "Column 'nothing' could not be resolved",
    "CREATE TABLE a.b (c int)": "CREATE TABLE is not supported",
    "LOAD DATA INFILE 'x' INTO TABLE t": "Unsupported SQL: 'LOAD DATA",
    "SELECT 1; SELECT 2": "more than one statement in one text is not supported",
    "BEGIN": "Unsupported SQL: 'BEGIN'",
    "": "Unsupported SQL: ''",
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors_have_no_prefix_and_one_code(client: Any, text: str) -> None:
    code, message = refusal(client, text)
    assert code == 1815
    assert message.startswith(ERRORS[text])
    assert ask(client, "SELECT 1") == [(1,)]


def test_what_clients_ask_when_they_start(client: Any) -> None:
    assert client.get_server_info() == "5.1.10-alpha-msql-proxy"
    assert ask(client, "SELECT @@max_allowed_packet") == [(67108864,)]
    assert ask(client, "select @@version_comment limit 1") == []
    assert ask(client, "SELECT @@session.auto_increment_increment AS a, @@x AS b") == []
    assert ask(client, "select current_user()") == [("root",)]
    assert ask(client, "SHOW SESSION VARIABLES LIKE 'sql_mode'") == [("sql_mode", "TRADITIONAL")]
    assert ask(client, "SET NAMES utf8mb4") == []
    assert ask(client, "USE somewhere") == []
    client.select_db("anywhere")
    client.ping(reconnect=False)
    assert ask(client, "SHOW TABLES") == []
    assert refusal(client, "SHOW NONSENSE") == (1815, "Unknown SHOW: nonsense")


def test_sys_statements(client: Any) -> None:
    rows = ask(client, "SYS CACHESTORE INFO")
    assert "QueueItems.keys_total" in [row[0] for row in rows]
    assert ask(client, "SYS CACHESTORE HEALTHCHECK") == []


def test_text_that_is_no_utf8_is_an_error(client: Any) -> None:
    with pytest.raises(pymysql.MySQLError, match="not valid UTF-8 at byte 11"):
        client.query(b"CACHE GET '\xff'")
    assert ask(client, "SELECT 1") == [(1,)]


def test_a_wait_ends_with_the_ack_of_another_client(server: Running, client: Any) -> None:
    ((id_, _, _),) = ask(client, "QUEUE ADD 'wait:a' 'x'")

    def acknowledge() -> None:
        time.sleep(0.2)
        with closing(connect(server)) as other:
            ask(other, "QUEUE ACK 'wait:a' 'late'")

    worker = threading.Thread(target=acknowledge)
    worker.start()
    assert ask(client, f"QUEUE RESULT_BLOCKING 10000 {id_}") == [("late", "success", id_, None)]
    worker.join()
    start = time.monotonic()
    assert ask(client, "QUEUE RESULT_BLOCKING 200 1") == []
    assert time.monotonic() - start >= 0.2


def test_both_ports_see_the_same(server: Running, client: Any) -> None:
    ask(client, "CACHE SET TTL 600 'both:k' 'v'")
    select = "SELECT id, prefix, value FROM system.cache WHERE prefix = 'both'"
    assert websocket_rows(server.ws, select) == [(b"k", b"both", b"v")]
    assert ask(client, select) == [("k", "both", "v")]


def test_many_rows_arrive_whole_and_in_order(client: Any) -> None:
    for number in range(3_000):
        ask(client, f"QUEUE ADD PRIORITY {number % 5} 'many:{number:05}' 'x'")
    rows = ask(client, "SELECT id, priority FROM system.queue WHERE prefix = 'many' ORDER BY priority DESC, id")
    assert rows == sorted(((f"{n:05}", n % 5) for n in range(3_000)), key=lambda row: (-row[1], row[0]))
    assert len(ask(client, "QUEUE LIST 'many'")) == 3_000


def test_joins_and_groups(client: Any) -> None:
    for name, priority in (("a", 1), ("b", 1), ("c", 2)):
        ask(client, f"QUEUE ADD PRIORITY {priority} 'group:{name}' 'x'")
    ask(client, "CACHE SET 'group:a' 'cached'")
    assert ask(
        client,
        "SELECT priority, count(*) AS n FROM system.queue WHERE prefix = 'group' GROUP BY priority"
        " HAVING count(*) > 0 ORDER BY n DESC LIMIT 1",
    ) == [(1, 2)]
    assert ask(
        client, "SELECT q.id, c.value FROM system.queue q JOIN system.cache c ON c.id = q.id AND c.prefix = q.prefix"
    ) == [("a", "cached")]
    assert ask(client, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'x'") == [(0,)]


# Credentials


def test_credentials_are_demanded() -> None:
    with serving("--mysql-bind", "127.0.0.1:auto", CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD="s3cret") as server:
        with closing(connect(server, user="ann", password="s3cret")) as client:
            assert ask(client, "SELECT 1") == [(1,)]
        for user, password in (("ann", "wrong"), ("ann", ""), ("bob", "s3cret"), ("", "")):
            with pytest.raises(pymysql.OperationalError, match="Access denied") as error:
                connect(server, user=user, password=password)
            assert error.value.args[0] == 1045
        _, _, errors = server.end(15)
    refusals = [json.loads(line) for line in errors.splitlines() if "was refused" in line]
    assert [(each["message"], each["number"]) for each in refusals] == [
        ("a client with a wrong user or password was refused", number) for number in (1, 2, 4)
    ]


def test_no_command_is_carried_out_after_a_refusal() -> None:
    with serving("--mysql-bind", "127.0.0.1:auto", CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD="s3cret") as server:
        client = pymysql.Connection(defer_connect=True, user="bob", password="x", host=server.mysql[0])
        client.port = server.mysql[1]
        with pytest.raises(pymysql.OperationalError):
            client.connect()
        with closing(connect(server, user="ann", password="s3cret")) as admitted:
            admitted._execute_command(0x11, b"bob\0\0\0")  # COM_CHANGE_USER
            with pytest.raises(pymysql.MySQLError):
                admitted._read_ok_packet()
            with pytest.raises(pymysql.MySQLError):
                ask(admitted, "SELECT 1")

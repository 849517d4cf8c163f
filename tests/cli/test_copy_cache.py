"""`cubequeue copy-cache` between real servers: TTLs, marks, the guard, a second run, a source that is stopped."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time

import pytest

from protocol.client_codec import Rows
from tests.cli.running import ENTRY_POINT, clean_environment, serving
from tests.server.client import Client, connected

END = "STANDALONE#SQL_PRE_AGGREGATIONS_REFRESH_END_REACHED:"
LONG_S = 600


def copy(source: tuple[str, int], target: tuple[str, int]) -> subprocess.CompletedProcess[str]:
    urls = ["--from", f"ws://{source[0]}:{source[1]}", "--url", f"ws://{target[0]}:{target[1]}"]
    command = [str(ENTRY_POINT), "copy-cache", *urls]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, env=clean_environment(), check=False)


async def fill(client: Client, statements: list[str]) -> None:
    for start in range(0, len(statements), 500):
        ids = [await client.send(text) for text in statements[start : start + 500]]
        for message_id in ids:
            assert isinstance(await client.reply(message_id), Rows)


def entries(count: int) -> list[str]:
    return [
        *(
            f"CACHE SET TTL {1000 + number} 'STANDALONE#SQL_QUERY_RESULT:{number}' 'v{number}'"
            for number in range(count)
        ),
        *(
            f"CACHE SET TTL 86400 'STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH:t{number}' 'true'"
            for number in range(50)
        ),
        *(f"CACHE SET TTL 86400 'PRE_AGG_JOB_{number}' '{{}}'" for number in range(5)),
        "CACHE SET TTL 1 'short:a' 'gone soon'",
        "CACHE SET 'for ever' 'it\\'s \\\\ ü'",
        f"CACHE SET TTL 86400 '{END}' 'true'",
    ]


def deadlines(rows: list[tuple[bytes | None, ...]]) -> dict[bytes, float]:
    return {row[0] or b"": float(row[1] or 0) for row in rows}


@pytest.mark.parametrize(
    "count", [12_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(LONG_S)])]
)
def test_a_cache_is_copied(count: int) -> None:
    limits = {"CUBESTORE_CACHE_MAX_KEYS": "1000000"}
    with serving(**limits) as source, serving(**limits) as target:

        async def prepare() -> None:
            async with connected(source.ws) as client, connected(target.ws) as other:
                await fill(client, entries(count))
                await other.ask("CACHE SET TTL 5000 'STANDALONE#SQL_QUERY_RESULT:7' 'newer'")
                await client.ask("SYS CACHESTORE END_DROP_GUARD")

        asyncio.run(prepare())
        time.sleep(1.1)
        began_s = time.monotonic()
        done = copy(source.ws, target.ws)
        print(f"{count} entries in {time.monotonic() - began_s:.1f} s")
        assert done.returncode == 0, done.stderr
        copied, present, expired = map(int, re.findall(r"\d+", done.stdout))
        assert (copied, present) == (count + 56, 1)
        assert expired <= 1

        async def compare() -> None:
            async with connected(source.ws) as client, connected(target.ws) as other:
                assert await other.rows("CACHE GET 'STANDALONE#SQL_QUERY_RESULT:7'") == [(b"newer",)]
                assert await other.rows("CACHE GET 'for ever'") == [("it's \\ ü".encode(),)]
                assert await other.rows(f"CACHE GET '{END}'") == [(b"true",)]
                assert await other.rows("CACHE GET 'STANDALONE#SQL_QUERY_RESULT:9'") == [(b"v9",)]
                marks = "STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH:"
                assert sorted(await other.rows(f"CACHE KEYS '{marks}'")) == sorted(
                    await client.rows(f"CACHE KEYS '{marks}'")
                )
                for prefix in ("STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH", "STANDALONE#SQL_QUERY_RESULT"):
                    where = f" WHERE prefix = '{prefix}' AND id <> '7' ORDER BY id LIMIT 100"
                    sql = f"SELECT id, UNIX_TIMESTAMP(expire) AS t FROM system.cache{where}"
                    theirs, ours = deadlines(await client.rows(sql)), deadlines(await other.rows(sql))
                    assert theirs.keys() == ours.keys()
                    assert all(abs(theirs[key] - ours[key]) <= 1.0 for key in theirs)

        asyncio.run(compare())
        again = copy(source.ws, target.ws)
        assert again.returncode == 0, again.stderr
        assert again.stdout.startswith(f"0 entries copied, {count + 57} were there already")


def test_a_source_that_is_not_there_is_said_and_nothing_is_written() -> None:
    with serving() as target:
        done = copy(("127.0.0.1", 1), target.ws)
        assert done.returncode == 1
        assert "ws://127.0.0.1:1" in done.stderr


def test_a_source_that_guards_tables_itself_leaves_the_guard_on() -> None:
    with serving() as source, serving() as target:

        async def prepare() -> None:
            async with connected(source.ws) as client:
                await fill(client, entries(10))

        asyncio.run(prepare())
        assert copy(source.ws, target.ws).returncode == 0

        async def look() -> None:
            async with connected(target.ws) as client:
                await client.ask(f"CACHE SET '{END}' 'true'")
                assert await client.rows(f"CACHE GET '{END}'") == [(None,)]
                assert len(await client.rows("CACHE KEYS 'STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH:'")) == 50

        asyncio.run(look())

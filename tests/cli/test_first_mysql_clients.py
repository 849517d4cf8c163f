"""The first clients of the MySQL port: its protocol is imported when they come."""

from __future__ import annotations

import asyncio

from tests.cli.running import serving
from tests.server.mysql_client import OK, mysql


def test_clients_that_come_while_the_protocol_is_imported_are_all_served() -> None:
    with serving(CUBESTORE_BIND_ADDR="127.0.0.1:auto", CUBESTORE_PORT="auto") as server:

        async def log_in(after_s: float) -> int:
            await asyncio.sleep(after_s)
            async with mysql(server.mysql, log_in=False) as client:
                return (await client.log_in())[0]

        async def log_all_in() -> list[int]:
            return await asyncio.gather(*(log_in(at / 200) for at in range(40)))

        assert asyncio.run(log_all_in()) == [OK] * 40

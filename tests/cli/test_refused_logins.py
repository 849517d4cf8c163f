"""Logins that are refused: anybody can send them, so they cannot fill the log."""

from __future__ import annotations

import asyncio
import signal

from tests.cli.running import serving
from tests.server.mysql_client import ERROR, mysql


def test_refused_logins_of_the_mysql_port_are_logged_a_few_times() -> None:
    flags = {"CUBESTORE_BIND_ADDR": "127.0.0.1:auto", "CUBEQUEUE_USER": "bob", "CUBEQUEUE_PASSWORD": "s3cret"}
    with serving(CUBESTORE_PORT="auto", **flags) as server:

        async def be_refused() -> None:
            for _ in range(20):
                async with mysql(server.mysql, log_in=False) as client:
                    assert (await client.log_in())[0] == ERROR

        asyncio.run(be_refused())
        _, _, errors = server.end(signal.SIGTERM)
    assert len([line for line in errors.splitlines() if "refused" in line or "denied" in line]) == 5

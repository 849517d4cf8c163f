"""Silent sockets at the limit of open files: writes and probes go on."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from bench.client import Client
from protocol.client_codec import Rows
from tests.cli.running import ENTRY_POINT, serving

LIMIT = 640
SILENT = 700


@pytest.mark.parametrize("port", ["ws", "status"])
def test_silent_sockets_take_no_files_from_the_journal_and_the_probes(port: str, tmp_path: Path) -> None:
    """1 100 at a limit of 1 024 made the journal fail with `Too many open files`, and all writes be refused."""
    command = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$0" "$@"', ENTRY_POINT)
    with (
        serving("--data-dir", str(tmp_path), command=command) as server,
        contextlib.ExitStack() as silent,
        Client(server.ws[1], "writes") as client,
    ):
        address = server.ws if port == "ws" else server.status
        for _ in range(SILENT):
            silent.enter_context(socket.create_connection(address, timeout=5))
        for number in range(20):
            client.send(b"QUEUE ADD PRIORITY 0 'q:%d' '%s'" % (number, os.urandom(500_000).hex().encode()))
            assert isinstance(client.answer(), Rows)
        assert server.get("/livez")[0] == 200
        assert server.get("/readyz")[0] == 200
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 300

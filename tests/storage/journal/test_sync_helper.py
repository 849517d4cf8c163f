"""The process that syncs, from the other end of its channel."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

from storage.journal import sync_helper


def started(directory: Path) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-I", "-S", sync_helper.__file__, str(theirs.fileno()), str(directory)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
    ours.settimeout(20)
    return ours, process


def test_it_answers_the_newest_number_and_ends_with_the_channel(tmp_path: Path) -> None:
    (tmp_path / "000004.log").write_bytes(b"rows")
    channel, process = started(tmp_path)
    with channel, process:
        channel.send((7).to_bytes(8, "little"))
        assert channel.recv(64) == struct.pack("<qi", 7, 0) + struct.pack(">QQ", 4, len(b"rows"))
        channel.close()
        assert process.communicate(timeout=20)[1] == b""
        assert process.returncode == 0


def test_regression_a_server_that_dies_with_an_answer_on_the_way_leaves_no_traceback(tmp_path: Path) -> None:
    channel, process = started(tmp_path)
    with channel, process:
        channel.send((7).to_bytes(8, "little"))
        assert select.select([channel], [], [], 20)[0]
        channel.close()  # with what is unread: the other end is reset
        assert process.communicate(timeout=20)[1] == b""
        assert process.returncode == 0

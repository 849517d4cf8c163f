"""What reaches the server of the settings that are its own."""

from __future__ import annotations

from cubequeue_server.process import server_options
from cubequeue_server.process_limits import Sockets
from tests.settings.test_settings import load

SOCKETS = Sockets(11, 12)


def test_the_limits_of_connections_reach_the_server() -> None:
    loaded = load(
        CUBESTORE_MAX_WS_CONNECTIONS_PER_USER="3",
        CUBESTORE_DROP_WS_PROCESSING_MESSAGES_AFTER="90",
        CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE="32MiB",
    )
    options = server_options(loaded.settings, SOCKETS)
    assert options.max_connections_per_user == 3
    assert options.processing_kept_s == 90.0
    assert (options.max_connections, options.max_handshakes) == SOCKETS
    assert options.max_message_bytes == 32 * 1024 * 1024
    assert options.max_unfinished_bytes == 256 * 1024 * 1024


def test_the_largest_message_fits_among_what_is_unfinished() -> None:
    loaded = load(CUBEQUEUE_UNFINISHED_MAX_SIZE="16MiB", CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE="128MiB")
    assert server_options(loaded.settings, SOCKETS).max_unfinished_bytes > 128 * 1024 * 1024

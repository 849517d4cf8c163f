"""The settings of a CubeStore behind, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubequeue_server.settings.values import UpstreamAddress


class TargetError(Exception):
    """Settings or files of a CubeStore behind that cannot be used; the text is the line that the start ends with."""


@dataclass(slots=True, frozen=True)
class UpstreamSettings:
    """Where the CubeStore is, and how far what waits for it may grow. Empty texts are what was not given."""

    address: UpstreamAddress
    user: str = ""
    password_file: str = ""
    tls_ca: str = ""
    timeout_ms: int = 60_000
    max_waiting: int = 10_000
    max_waiting_bytes: int = 256 << 20
    reply_max_bytes: int = 100 << 20
    is_required: bool = False
    upload_idle_timeout_ms: int = 60_000
    max_uploads: int = 100


def upstream_settings(values: Mapping[str, Any]) -> UpstreamSettings | None:
    """From the values by setting name; None where no CubeStore is set."""
    address: UpstreamAddress | None = values["upstream"]
    if address is None:
        return None
    return UpstreamSettings(
        address=address,
        user=values["upstream_user"],
        password_file=values["upstream_password_file"],
        tls_ca=values["upstream_tls_ca"],
        timeout_ms=values["upstream_timeout"],
        max_waiting=values["upstream_max_waiting"],
        max_waiting_bytes=values["upstream_max_waiting_size"],
        reply_max_bytes=values["upstream_reply_max_size"],
        is_required=values["upstream_required"],
        upload_idle_timeout_ms=values["upload_idle_timeout"],
        max_uploads=values["max_uploads"],
    )

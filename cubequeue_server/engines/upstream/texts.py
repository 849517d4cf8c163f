"""What clients are told when a statement for the CubeStore behind cannot be answered."""

from __future__ import annotations

STOPPED = "cubequeue is stopping"


def unreachable(target: object, reason: str, waited_s: float) -> str:
    """No connection came about in time."""
    return (
        f"CubeStore at {target} cannot be reached: {reason} (waited {waited_s:g} s). Queue and cache are not affected."
    )


def declined(target: object, reason: str) -> str:
    """The CubeStore lets nobody in with these credentials."""
    return f"CubeStore at {target} refused the connection: {reason}"


def lost_twice(reason: str) -> str:
    """The statement is to blame for the loss of connections."""
    return f"The connection to CubeStore was lost twice while it worked on this statement: {reason}"


def lost_unkept(reason: str) -> str:
    """The statement cannot be sent again: its bytes were let go."""
    return (
        "The connection to CubeStore was lost while it worked on this statement, which was not kept to be sent again"
        f" (CUBEQUEUE_UPSTREAM_MAX_WAITING_SIZE): {reason}"
    )


def message_too_large(reason: str) -> str:
    """The CubeStore closed with 1009 for this statement."""
    return f"CubeStore closed the connection because of this statement: {reason}"


def too_many_waiting(limit: int) -> str:
    """One statement more than may wait."""
    return f"{limit} statements wait for CubeStore already, the limit is CUBEQUEUE_UPSTREAM_MAX_WAITING"


def too_many_bytes_waiting(limit_bytes: int) -> str:
    """Statements that wait for a connection fill the room that there is for them."""
    return (
        f"{limit_bytes} bytes of statements may wait for CubeStore, the limit is CUBEQUEUE_UPSTREAM_MAX_WAITING_SIZE,"
        " and this statement does not fit"
    )


def reply_too_large(size_bytes: int) -> str:
    """An answer above the limit."""
    return f"CubeStore answered with {size_bytes} bytes, more than CUBEQUEUE_UPSTREAM_REPLY_MAX_SIZE"


def away(target: object, reason: str) -> str:
    """Where the CubeStore is required, and is not there."""
    return f"CubeStore at {target} cannot be reached: {reason} (CUBEQUEUE_UPSTREAM_REQUIRED)"


def tables_of_both(here: str, there: str) -> str:
    """A SELECT that no one can answer alone."""
    return (
        f"SELECT names tables of both sides: {here} is in cubequeue, {there} in CubeStore."
        " Ask for them in statements of their own."
    )


def too_many_uploads(limit: int) -> str:
    """One upload more than may run."""
    return f"{limit} uploads to CubeStore run already, the limit is CUBEQUEUE_MAX_UPLOADS"


def upload_lost(target: object, reason: str) -> str:
    """The CubeStore ended the connection of an upload without an answer."""
    return f"The connection to CubeStore at {target} was lost during the upload: {reason}"


def upload_idle(target: object | None, timeout_s: float) -> str:
    """An upload made no progress, because of the CubeStore or, without a target, of the client."""
    side = "the client sent" if target is None else f"CubeStore at {target} took"
    return f"{side} nothing of the upload for {timeout_s:g} s (CUBEQUEUE_UPLOAD_IDLE_TIMEOUT)"

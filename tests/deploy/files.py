"""The deployment files, parsed, and what several tests read from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
CUBEQUEUE_SERVICE: Final[dict[str, Any]] = COMPOSE["services"]["cubequeue"]
MANIFESTS: Final[dict[str, dict[str, Any]]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
}
POD: Final[dict[str, Any]] = MANIFESTS["statefulset"]["spec"]["template"]["spec"]
CONTAINER: Final[dict[str, Any]] = POD["containers"][0]

# The C library's, not a setting: large blocks go back to the system, so that a few large messages do not stay for good.
ALLOCATOR: Final = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
_CREDENTIALS: Final = {"CUBEQUEUE_USER", "CUBEQUEUE_PASSWORD", "CUBEQUEUE_PASSWORD_FILE"}

MIB: Final = 1 << 20


def compose_environment() -> dict[str, str]:
    """What the service's environment is in deploy/compose.yaml, as it stands there."""
    environment: dict[str, str] = CUBEQUEUE_SERVICE["environment"]
    return environment


def kubernetes_environment() -> dict[str, str]:
    """The same of the container of the StatefulSet."""
    return {each["name"]: each["value"] for each in CONTAINER["env"]}


def profile() -> dict[str, str]:
    """The small profile: the environment without credentials."""
    return {name: value for name, value in compose_environment().items() if name not in _CREDENTIALS}


def dockerfile_words(instruction: str) -> list[str]:
    """The words after an instruction of the Dockerfile, of its last occurrence."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(rf"^{instruction}\s+(.*)$", text, re.MULTILINE)
    return str(found[-1]).split()

"""The files of deploy/shared-store: their settings are what cubequeue takes, and they name each other rightly."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from cubequeue_server.settings.resolve import Settings, load_settings
from cubequeue_server.settings.store_address import Kind
from tests.deploy.files import DEPLOY

FOLDER: Final = DEPLOY / "shared-store"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVERS: Final = ["cubequeue-1", "cubequeue-2", "cubequeue-3"]


def manifest(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def settings_of(environment: dict[str, str]) -> Settings:
    """As in the image, whose environment has a data directory."""
    loaded = load_settings({}, {"CUBESTORE_DATA_DIR": "/data", **environment})
    assert loaded.warnings == ()
    return loaded.settings


def check(settings: Settings) -> None:
    assert settings.store is not None
    assert settings.store.address.kind is Kind.SENTINEL
    assert settings.store.address.master_name == "cube"
    assert settings.store.durability == "replicated"


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_of_the_compose_file(name: str) -> None:
    environment = COMPOSE["services"][name]["environment"]
    settings = settings_of(environment)
    check(settings)
    assert settings.store is not None
    assert {host for host, _ in settings.store.address.hosts} <= COMPOSE["services"].keys()


def test_the_engines_of_the_compose_file_are_what_replicated_demands() -> None:
    for name in ("valkey-1", "valkey-2", "valkey-3"):
        command = COMPOSE["services"][name]["command"]
        assert command[command.index("--min-replicas-to-write") + 1] == "1"
        assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    [sentinel] = {str(COMPOSE["services"][f"sentinel-{number}"]["command"]) for number in (1, 2, 3)}
    down_after_ms = re.search(r"down-after-milliseconds cube (\d+)", sentinel)
    assert down_after_ms is not None
    settings = settings_of(COMPOSE["services"][SERVERS[0]]["environment"])
    assert settings.store is not None
    assert settings.store.late_ms < int(down_after_ms[1])


def test_the_balancer_knows_all_servers() -> None:
    text = (FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
    assert re.findall(r"^  server (\S+) (\S+):3030$", text, re.MULTILINE) == [(name, name) for name in SERVERS]


def test_the_deployment() -> None:
    deployment = manifest("deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    check(settings_of({each["name"]: each["value"] for each in container["env"]}))
    assert deployment["spec"]["replicas"] == 3
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for name in ("service", "poddisruptionbudget"):
        selector = manifest(name)["spec"]["selector"]
        assert (selector.get("matchLabels") or selector).items() <= labels.items()
    assert manifest("poddisruptionbudget")["spec"]["maxUnavailable"] == 1
    files = set(manifest("kustomization")["secretGenerator"][0]["files"])
    paths = {each["value"] for each in container["env"] if each["name"].endswith("_FILE")}
    assert {path.rpartition("/")[2] for path in paths} == files

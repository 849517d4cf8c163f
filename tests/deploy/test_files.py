"""The deployment files agree with the settings, the Dockerfile, the routes of the server, and with each other.

`make lint-deploy` has the tools of the trade look at them: hadolint, docker-compose, kubernetes-validate.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cubequeue_server.settings.resolve import Loaded, load_settings
from tests.cli.running import serving
from tests.deploy.files import (
    ALLOCATOR,
    COMPOSE,
    CONTAINER,
    CUBEQUEUE_SERVICE,
    DEPLOY,
    MANIFESTS,
    MIB,
    POD,
    ROOT,
    compose_environment,
    dockerfile_words,
    kubernetes_environment,
    profile,
)
from tests.needed import reason

USER_ID, GROUP_ID = (int(part) for part in dockerfile_words("USER")[0].split(":"))
PORTS = [int(word) for word in dockerfile_words("EXPOSE")]
DATA = dockerfile_words("VOLUME")[0]


def load(environment: dict[str, str]) -> Loaded:
    """The settings that an environment gives under the profile's memory limit."""
    settings = {name: value for name, value in environment.items() if name not in ALLOCATOR}
    return load_settings({}, {**settings, "CUBESTORE_DATA_DIR": DATA}, None, 256 * MIB)


@pytest.mark.parametrize("environment", [compose_environment(), kubernetes_environment()], ids=["compose", "k8s"])
def test_every_variable_is_a_setting_with_a_value_that_is_allowed(environment: dict[str, str]) -> None:
    given = set(environment) - set(ALLOCATOR)
    assert all(name.startswith(("CUBEQUEUE_", "CUBESTORE_")) for name in given)
    assert {name: environment[name] for name in environment if name in ALLOCATOR} == ALLOCATOR
    loaded = load(environment)  # a value out of range would raise
    assert loaded.warnings == ()  # a name that is none of the table's would be told of
    assert {origin.label for origin in loaded.origins.values() if origin.explicit} == given | {"CUBESTORE_DATA_DIR"}


def test_a_typing_error_would_be_noticed() -> None:
    assert load({**compose_environment(), "CUBEQUEUE_MAX_CONECTIONS": "1"}).warnings


def test_both_say_the_same_profile() -> None:
    names = set(profile())
    assert {name: value for name, value in kubernetes_environment().items() if name in names} == profile()
    assert set(kubernetes_environment()) - names == {"CUBEQUEUE_USER", "CUBEQUEUE_PASSWORD_FILE"}
    assert CUBEQUEUE_SERVICE["mem_limit"] == CUBEQUEUE_SERVICE["memswap_limit"] == "256m"
    assert CONTAINER["resources"]["limits"] == {"cpu": "500m", "memory": "256Mi"}
    assert CUBEQUEUE_SERVICE["cpus"] == 0.5
    assert CONTAINER["resources"]["requests"]["memory"] == CONTAINER["resources"]["limits"]["memory"]


def test_ports_user_and_volume_are_the_images() -> None:
    defaults = load_settings({}, {}).settings
    assert defaults.status is not None
    assert defaults.mysql is not None
    served = [defaults.http.port, defaults.status.port, defaults.mysql.port]
    assert served == PORTS
    assert [port["containerPort"] for port in CONTAINER["ports"]] == PORTS
    assert [port["port"] for port in MANIFESTS["service"]["spec"]["ports"]] == PORTS
    names = {port["name"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in MANIFESTS["service"]["spec"]["ports"]} == names
    assert {port["port"] for rule in MANIFESTS["networkpolicy"]["spec"]["ingress"] for port in rule["ports"]} < names
    pod = POD["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (USER_ID, GROUP_ID, GROUP_ID)
    assert CUBEQUEUE_SERVICE["user"] == f"{USER_ID}:{GROUP_ID}"
    assert CUBEQUEUE_SERVICE["volumes"] == [f"cubequeue:{DATA}"]
    assert "cubequeue" in COMPOSE["volumes"]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounts["data"] == DATA
    assert MANIFESTS["statefulset"]["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    assert kubernetes_environment()["CUBEQUEUE_PASSWORD_FILE"] == f"{mounts['password']}/password"
    environment = dict(word.split("=", 1) for word in dockerfile_words("ENV"))
    assert environment["CUBESTORE_DATA_DIR"] == DATA


def test_the_pod_has_no_rights_that_it_does_not_need() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (CUBEQUEUE_SERVICE["read_only"], CUBEQUEUE_SERVICE["cap_drop"]) == (True, ["ALL"])
    assert CUBEQUEUE_SERVICE["security_opt"] == ["no-new-privileges:true"]


def test_there_is_one_of_it_and_everything_finds_it() -> None:
    workload, service = MANIFESTS["statefulset"], MANIFESTS["service"]
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["serviceName"] == service["metadata"]["name"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert MANIFESTS["networkpolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(MANIFESTS["kustomization"]["resources"]) == files
    (secret,) = MANIFESTS["kustomization"]["secretGenerator"]
    (volume,) = (volume for volume in POD["volumes"] if "secret" in volume)
    assert volume["secret"]["secretName"] == secret["name"]
    assert [item["key"] for item in volume["secret"]["items"]] == secret["files"]


def test_probes_and_annotations_name_paths_that_answer_without_credentials(tmp_path: Path) -> None:
    annotations = MANIFESTS["statefulset"]["spec"]["template"]["metadata"]["annotations"]
    probes = {CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert {CONTAINER[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "liveness", "readiness")} == {"status"}
    password = tmp_path / "password"
    password.write_text("secret")
    environment = {**kubernetes_environment(), "CUBEQUEUE_PASSWORD_FILE": str(password)}
    with serving(**environment) as server:
        assert {server.get(path)[0] for path in probes} == {200}
        assert server.get(annotations["prometheus.io/path"])[0] == 401  # as the comment beside it says
    defaults = load_settings({}, {}).settings
    assert defaults.status is not None
    assert annotations["prometheus.io/port"] == str(defaults.status.port)


def test_cube_is_told_to_use_it() -> None:
    for name in ("cube-api", "cube-refresh-worker"):
        service = COMPOSE["services"][name]
        environment = service["environment"]
        user, _, rest = environment["CUBEJS_CUBESTORE_HOST"].partition(":")
        assert user == compose_environment()["CUBEQUEUE_USER"]
        assert rest.endswith("@cubequeue")
        assert rest.removesuffix("@cubequeue") == compose_environment()["CUBEQUEUE_PASSWORD"]
        assert int(environment["CUBEJS_CUBESTORE_PORT"]) in PORTS
        assert service["depends_on"] == {"cubequeue": {"condition": "service_healthy"}}


@pytest.mark.e2e  # they bring the packages
def test_every_variable_of_cube_is_one_that_it_reads() -> None:
    cube = ROOT / "tests/e2e/packages/1.7.43/node_modules/@cubejs-backend"
    known = (cube / "shared/dist/src/env.js").read_text(encoding="utf-8")
    for service in ("cube-api", "cube-refresh-worker"):
        for name in COMPOSE["services"][service]["environment"]:
            # Some are put together there: keyByDataSource('CUBEJS_DB_TYPE').
            assert re.search(rf"['\"]{name}['\"]", known), name


def test_the_health_check_is_the_images() -> None:
    words = dockerfile_words("HEALTHCHECK")
    command: list[Any] = json.loads(" ".join(words[words.index("CMD") + 1 :]))
    assert CUBEQUEUE_SERVICE["healthcheck"]["test"] == ["CMD", *command]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason=reason("kubectl"))
def test_kustomize_puts_the_manifests_together(tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", folder)
    command = ["kubectl", "kustomize", str(folder)]
    missing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert missing.returncode != 0  # without a password
    (folder / "password").write_text("secret")
    made = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    for kind in ("StatefulSet", "Service", "Secret", "NetworkPolicy"):
        assert f"kind: {kind}\n" in made
    assert re.search(r"image: registry\.example\.com/cubequeue:\d", made)


def test_with_a_cubestore_behind_cube_still_knows_one_host() -> None:
    overlay = yaml.safe_load((DEPLOY / "compose.pre-aggregations.yaml").read_text(encoding="utf-8"))
    environment = overlay["services"]["cubequeue"]["environment"]
    loaded = load({**compose_environment(), **environment})
    assert loaded.warnings == ()
    assert loaded.settings.upstream is not None
    assert loaded.settings.upstream.address.host in overlay["services"]
    assert not any("CUBEJS_CUBESTORE_HOST" in str(each) for each in overlay["services"].values())


def test_the_manifests_with_a_cubestore_behind_let_cubequeue_reach_it() -> None:
    made = yaml.safe_load((DEPLOY / "kubernetes/upstream/kustomization.yaml").read_text(encoding="utf-8"))
    of_set, of_policy = (yaml.safe_load(patch["patch"]) for patch in made["patches"])
    variable = of_set[0]["value"]
    loaded = load({**kubernetes_environment(), "CUBEQUEUE_PASSWORD_FILE": "", variable["name"]: variable["value"]})
    assert loaded.settings.upstream is not None
    ports = {rule["port"] for each in of_policy[0]["value"] for rule in each["ports"]}
    assert ports == {53, loaded.settings.upstream.address.port}
    assert {patch["target"]["kind"] for patch in made["patches"]} == {"StatefulSet", "NetworkPolicy"}

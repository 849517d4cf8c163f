"""The Helm chart: its profiles, what each value changes, and that it says the same as the manifests and the image.

`make lint-deploy` has helm and kubernetes-validate look at each profile.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from cubequeue_server.settings.resolve import Settings, load_settings
from cubequeue_server.version import __version__
from tests.deploy.charts import (
    CHART,
    PROFILES,
    TOOLS,
    container,
    plain_environment,
    pod,
    quantity,
    rendered,
    template,
)
from tests.deploy.files import ALLOCATOR, CONTAINER, DEPLOY, MANIFESTS, MIB, POD, ROOT, profile
from tests.needed import require

_MONITORING = ("metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true")
_OF_THE_CHART = {"CUBEQUEUE_PASSWORD_FILE"}


def settings_of(name: str) -> Settings:
    """The settings of a profile under its own memory limit; a variable that is no setting fails the test."""
    manifests = rendered(profile=name)
    environment = {
        variable: value
        for variable, value in plain_environment(manifests).items()
        if variable not in {*ALLOCATOR, *_OF_THE_CHART}
    }
    memory = quantity(container(manifests)["resources"]["limits"]["memory"])
    loaded = load_settings({}, {**environment, "CUBESTORE_DATA_DIR": "/data"}, None, memory)
    assert loaded.warnings == ()
    return loaded.settings


@pytest.mark.parametrize("name", PROFILES)
def test_the_volume_of_a_profile_holds_twice_what_may_live(name: str) -> None:
    """docs/durability.md: at most twice what lives and 96 MiB, and up to 64 MiB more for a start."""
    settings = settings_of(name)
    lives = settings.queue.max_bytes + settings.cache.max_bytes + settings.answers.max_bytes
    volume = rendered(profile=name)["StatefulSet"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert quantity(volume["resources"]["requests"]["storage"]) >= 2 * lives + (96 + 64) * MIB


@pytest.mark.parametrize("name", PROFILES)
def test_the_page_of_sizes_says_what_a_profile_holds(name: str) -> None:
    manifests, settings = rendered(profile=name), settings_of(name)
    limits = container(manifests)["resources"]["limits"]
    (volume,) = manifests["StatefulSet"]["spec"]["volumeClaimTemplates"]
    row = [
        name,
        limits["memory"].replace("Mi", " MiB").replace("Gi", " GiB"),
        str(float(limits["cpu"].removesuffix("m")) / (1000 if limits["cpu"].endswith("m") else 1)).removesuffix(".0"),
        *(f"{each // MIB} MiB" for each in (settings.cache.max_bytes, settings.queue.max_bytes)),
        f"{round(settings.answers.max_bytes / MIB)} MiB",
        str(settings.queue.max_items),
        str(settings.cache.max_keys),
        str(settings.max_connections),
        volume["spec"]["resources"]["requests"]["storage"].replace("Gi", " GiB"),
    ]
    assert f"| {' | '.join(row)} |" in (ROOT / "docs/sizing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PROFILES)
def test_memory_is_requested_in_full(name: str) -> None:
    resources = container(rendered(profile=name))["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_profiles_grow() -> None:
    settings = [settings_of(name) for name in PROFILES]
    for what in ("queue.max_items", "queue.max_bytes", "cache.max_bytes", "cache.max_keys", "max_connections"):
        numbers = [_of(each, what) for each in settings]
        assert numbers == sorted(numbers), what


def _of(settings: Settings, path: str) -> int:
    found: Any = settings
    for name in path.split("."):
        found = getattr(found, name)
    number: int = found
    return number


def test_the_small_profile_is_that_of_the_manifests() -> None:
    manifests = rendered(profile="small")
    assert {
        name: value for name, value in plain_environment(manifests).items() if name not in _OF_THE_CHART
    } == profile()
    assert container(manifests)["resources"] == CONTAINER["resources"]
    of_manifests = MANIFESTS["statefulset"]["spec"]["volumeClaimTemplates"]
    assert manifests["StatefulSet"]["spec"]["volumeClaimTemplates"] == of_manifests


def test_the_defaults_are_the_medium_profile() -> None:
    assert rendered() == rendered(profile="medium")


def test_the_pod_is_that_of_the_manifests() -> None:
    manifests = rendered(profile="small")
    assert pod(manifests)["securityContext"] == POD["securityContext"]
    assert pod(manifests)["automountServiceAccountToken"] is False
    assert pod(manifests)["enableServiceLinks"] is False
    for key in ("ports", "securityContext", "volumeMounts"):
        assert container(manifests)[key] == CONTAINER[key], key
    for key in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container(manifests)[key]["httpGet"].pop("scheme") == "HTTP"
        assert container(manifests)[key] == CONTAINER[key], key
    assert manifests["StatefulSet"]["spec"]["replicas"] == 1
    assert manifests["Service"]["spec"]["ports"] == MANIFESTS["service"]["spec"]["ports"]
    policy, of_manifests = manifests["NetworkPolicy"]["spec"], MANIFESTS["networkpolicy"]["spec"]
    assert (policy["ingress"], policy["egress"]) == (of_manifests["ingress"], of_manifests["egress"])


@pytest.mark.parametrize("service", ["chart", "manifests"])
def test_a_full_disk_keeps_reads_going(service: str) -> None:
    """Readiness tells of it, and the only pod stays an endpoint all the same."""
    specification = rendered()["Service"]["spec"] if service == "chart" else MANIFESTS["service"]["spec"]
    assert specification["publishNotReadyAddresses"] is True
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_selectors_find_the_pod() -> None:
    manifests = rendered(*_MONITORING, "podDisruptionBudget.enabled=true")
    labels = manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifests["StatefulSet"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    of_service = manifests["Service"]["metadata"]["labels"]
    assert manifests["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= of_service.items()
    assert manifests["StatefulSet"]["spec"]["serviceName"] == manifests["Service"]["metadata"]["name"]


def test_no_password_stands_outside_its_secret() -> None:
    manifests = rendered(*_MONITORING)
    secret = manifests.pop("Secret")
    assert secret["stringData"] == {"username": "cube", "password": "secret"}
    assert "secret" not in plain_environment(manifests).values()
    (endpoint,) = manifests["ServiceMonitor"]["spec"]["endpoints"]
    name = secret["metadata"]["name"]
    assert endpoint["basicAuth"] == {
        "username": {"name": name, "key": "username"},
        "password": {"name": name, "key": "password"},
    }
    mounts = {each["name"]: each["mountPath"] for each in container(manifests)["volumeMounts"]}
    assert plain_environment(manifests)["CUBEQUEUE_PASSWORD_FILE"] == f"{mounts['password']}/password"


def test_a_new_password_makes_a_new_pod() -> None:
    annotations = [
        rendered(f"auth.password={each}")["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
        for each in ("one", "two")
    ]
    assert annotations[0] != annotations[1]


def test_a_secret_that_exists_is_used() -> None:
    manifests = rendered("auth.existingSecret=mine", *_MONITORING)
    assert "Secret" not in manifests
    (volume,) = pod(manifests)["volumes"]
    assert volume["secret"]["secretName"] == "mine"
    assert manifests["ServiceMonitor"]["spec"]["endpoints"][0]["basicAuth"]["username"]["name"] == "mine"


def test_without_users_there_is_nothing_of_them() -> None:
    manifests = rendered("auth.enabled=false", *_MONITORING)
    assert "Secret" not in manifests
    assert "CUBEQUEUE_USER" not in str(manifests)
    assert "basicAuth" not in str(manifests)


def test_tls_is_for_every_port_and_every_probe() -> None:
    manifests = rendered("tls.secretName=mine", *_MONITORING)
    variables = plain_environment(manifests)
    mounts = {each["name"]: each["mountPath"] for each in container(manifests)["volumeMounts"]}
    assert variables["CUBEQUEUE_TLS_CERT"] == f"{mounts['tls']}/tls.crt"
    assert variables["CUBEQUEUE_TLS_KEY"] == f"{mounts['tls']}/tls.key"
    probes = [container(manifests)[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    assert {each["httpGet"]["scheme"] for each in probes} == {"HTTPS"}
    assert manifests["ServiceMonitor"]["spec"]["endpoints"][0]["scheme"] == "https"


def test_without_persistence_the_data_directory_is_an_empty_one() -> None:
    manifests = rendered("persistence.enabled=false")
    assert {"name": "data", "emptyDir": {}} in pod(manifests)["volumes"]
    assert "volumeClaimTemplates" not in manifests["StatefulSet"]["spec"]


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        ((), "set auth.password"),
        (("auth.password=s3/cret",), "auth"),  # Cube's driver would send it percent-encoded
        (("auth.password=x", "persistance.enabled=false"), "persistance"),
        (("auth.password=x", "settings.MAX_ITEMS=5"), "MAX_ITEMS"),
        (("auth.password=x", "environment.CUBEQUEUE_USER=ann"), "CUBEQUEUE_USER"),
        (("auth.password=x", "persistence.accessModes={ReadWriteMany}"), "accessModes"),
        (("auth.password=x", "metrics.prometheusRule.docsUrl=docs"), "docsUrl"),
    ],
)
def test_a_wrong_value_is_refused(sets: tuple[str, ...], complaint: str) -> None:
    done = template(*sets)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_versions_are_the_applications() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == __version__
    assert container(rendered())["image"] == f"registry.example.com/cubequeue:{__version__}"
    (image,) = MANIFESTS["kustomization"]["images"]
    assert image["newTag"] == __version__
    job = yaml.safe_load((DEPLOY / "kubernetes/backup/cronjob.yaml").read_text(encoding="utf-8"))
    (backup,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert backup["image"] == f"registry.example.com/cubequeue:{__version__}"


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_the_operators_own_schema_takes_it(kind: str) -> None:
    definition_file = TOOLS / f"monitoring.coreos.com_{kind.lower()}s.yaml"
    require(importlib.util.find_spec("jsonschema") and definition_file.exists(), "the schemas: make lint-deploy")
    validator: Any = importlib.import_module("jsonschema").Draft202012Validator
    definition = yaml.safe_load(definition_file.read_text(encoding="utf-8"))
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    manifest = rendered(*_MONITORING, "tls.secretName=mine", "metrics.serviceMonitor.labels.release=p")[kind]
    validator(schema).validate(manifest)
    manifest["spec"]["typing"] = "error"
    assert not validator(schema).is_valid(manifest)


def strict(schema: Any) -> Any:
    """The schema with every unknown property refused; a cluster would drop them silently."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    return made

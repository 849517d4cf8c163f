"""The Helm chart, rendered by helm (`make lint-deploy` builds it), and what tests read from the result."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.files import DEPLOY, ROOT
from tests.needed import require

CHART: Final = DEPLOY / "helm/cubequeue"
TOOLS: Final = ROOT / ".cache/tools"
PROFILES: Final = ("small", "medium", "large")
_PASSWORD: Final = "auth.password=secret"

Manifests = dict[str, dict[str, Any]]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm; the test is skipped where it was not built, and fails where CI=true."""
    require((TOOLS / "helm").exists(), "helm: make lint-deploy")
    return subprocess.run([TOOLS / "helm", *arguments], capture_output=True, text=True, timeout=60, check=False)


def template(*sets: str, profile: str | None = None) -> subprocess.CompletedProcess[str]:
    """What `helm template` says, for a release called `cube`."""
    values = [] if profile is None else ["--values", str(CHART / f"values-{profile}.yaml")]
    flags = [word for each in sets for word in ("--set", each)]
    return helm("template", "cube", CHART, "--kube-version", "1.30", *values, *flags)


def rendered(*sets: str, profile: str | None = None) -> Manifests:
    """The manifests by their kind: there is one of each."""
    done = template(_PASSWORD, *sets, profile=profile)
    assert done.returncode == 0, done.stderr
    documents = [each for each in yaml.safe_load_all(done.stdout) if each is not None]
    manifests = {each["kind"]: each for each in documents}
    assert len(manifests) == len(documents)
    return manifests


def pod(manifests: Manifests) -> dict[str, Any]:
    """The specification of the pod."""
    spec: dict[str, Any] = manifests["StatefulSet"]["spec"]["template"]["spec"]
    return spec


def container(manifests: Manifests) -> dict[str, Any]:
    """The only container."""
    (only,) = pod(manifests)["containers"]
    found: dict[str, Any] = only
    return found


def plain_environment(manifests: Manifests) -> dict[str, str]:
    """The variables whose value stands in the manifest."""
    return {each["name"]: each["value"] for each in container(manifests)["env"] if "value" in each}


def quantity(text: str) -> int:
    """Bytes of a quantity of Kubernetes that has a binary unit."""
    units = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
    return int(text[:-2]) * units[text[-2:]]

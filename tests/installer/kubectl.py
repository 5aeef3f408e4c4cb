"""What `kubectl kustomize` makes of manifests/fleet."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import binaries_directory
from tests.conftest import cannot_run_here

FLEET = Path(__file__).parents[2] / "manifests/fleet"

Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    """The objects of a kustomization, as kubectl renders them."""
    return list(yaml.safe_load_all(_rendered(folder)))


def fleet_from(folder: Path) -> Path:
    """manifests/fleet as a kustomization in `folder` names it: kustomize takes relative paths only."""
    return Path(*[".."] * (len(folder.resolve().parts) - 1)) / FLEET.resolve().relative_to("/")


@cache
def _rendered(folder: Path) -> str:
    argv = [_kubectl(), "kustomize", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def by_name(objects: list[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """Objects by kind, namespace and name; none twice."""
    named = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
    assert len(named) == len(objects)
    return named


def _kubectl() -> str:
    own = binaries_directory() / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if found is None:
        cannot_run_here("manifests are compared with kubectl kustomize, and kubectl is not installed")
    return found

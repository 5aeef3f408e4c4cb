"""helm, built from the Go module proxy once per version, as the cluster's programs are."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.binaries import Module, build_module
from tests.cluster.paths import keyed
from tests.cluster.progress import build_lock, step

_MODULE = Module("helm.sh/helm/v3", "v3.19.2", {"helm": "helm.sh/helm/v3/cmd/helm"})
_TARGET = keyed("helm", [repr(_MODULE)])


def helm() -> Path:
    """The program. Skips loudly where it cannot be built, and fails there in CI."""
    program = _TARGET / "helm"
    if program.exists():
        return program
    if shutil.which("go") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must render the chart with helm, which is built with Go", pytrace=False)
        pytest.skip("THE CHART IS NOT TESTED: helm is built with Go, which is not installed")
    with build_lock():
        if not program.exists():
            _TARGET.mkdir(parents=True, exist_ok=True)
            with step(f"building helm {_MODULE.version}: about four minutes on two cores, once per version"):
                build_module(_MODULE, _TARGET)
    return program


def template(chart: Path, values: dict[str, Any], namespace: str = "eidos") -> list[dict[str, Any]]:
    """The objects `helm install` would make."""
    argv = [str(helm()), "template", "eidos", str(chart), "--namespace", namespace, "--values", "-"]
    text = subprocess.run(
        argv, input=yaml.safe_dump(values), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [document for document in yaml.safe_load_all(text) if document]

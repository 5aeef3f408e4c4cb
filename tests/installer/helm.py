"""helm, built from the Go module proxy once per version, as the cluster's programs are."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import Module, build_module
from tests.cluster.paths import keyed
from tests.cluster.progress import build_lock, step, tried_again
from tests.conftest import cannot_run_here

_MODULE = Module("helm.sh/helm/v3", "v3.19.2", {"helm": "helm.sh/helm/v3/cmd/helm"})
_TARGET = keyed("helm", [repr(_MODULE)])


def helm() -> Path:
    """The program. Skips loudly where it cannot be built, and fails there in CI."""
    program = _TARGET / "helm"
    if program.exists():
        return program
    if shutil.which("go") is None:
        cannot_run_here("the chart is rendered with helm, which is built with Go, and Go is not installed")
    with build_lock():
        if not program.exists():
            _TARGET.mkdir(parents=True, exist_ok=True)
            with step(f"building helm {_MODULE.version}: about four minutes on two cores, once per version"):
                tried_again(lambda: build_module(_MODULE, _TARGET))
    return program


def run_helm(folder: Path, kubeconfig: Path, *arguments: str) -> str:
    """What helm prints, used on a cluster as a user does; its own files are in `folder`."""
    homes = {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run(
        [str(helm()), f"--kubeconfig={kubeconfig}", *arguments],
        env={**os.environ, **homes},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def template(chart: Path, values: dict[str, Any], namespace: str = "eidos") -> list[dict[str, Any]]:
    """The objects `helm install` would make."""
    argv = [str(helm()), "template", "eidos", str(chart), "--namespace", namespace, "--values", "-"]
    text = subprocess.run(
        argv, input=yaml.safe_dump(values), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [document for document in yaml.safe_load_all(text) if document]

"""The example scripts and the workflow under docs/examples, run as they are on the real cluster."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.jobmode import CHECKOUT, Jobs, good

pytestmark = pytest.mark.cluster


@pytest.fixture
def scripts(jobs: Jobs, namespace: str, contexts: Path) -> dict[str, str]:
    """The environment the example scripts are run in."""
    eidos = jobs.folder / "eidos"
    eidos.write_text(f'#!/bin/sh\nexec {jobs.command()[0]} -m cli "$@"\n')
    eidos.chmod(0o755)
    return {**jobs.environment(contexts), "EIDOS": str(eidos), "IMAGE": jobs.image, "NAMESPACE": namespace}


def _script(jobs: Jobs, environment: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    name, *rest = argv
    script = CHECKOUT / "docs/examples" / name
    return subprocess.run(
        ["bash", str(script), *rest],
        env=environment, cwd=jobs.folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_the_multi_cluster_script(jobs: Jobs, scripts: dict[str, str]) -> None:
    clusters = ("prod-us-east", "prod-eu-west", "staging")
    good(_script(jobs, scripts, "multi-cluster.sh", *clusters))
    assert {path.name for path in jobs.folder.glob("snapshot-*.yaml")} == {f"snapshot-{c}.yaml" for c in clusters}


def test_the_drift_script(jobs: Jobs, scripts: dict[str, str]) -> None:
    scripts = {**scripts, "NODE_SELECTOR": "nvidia.com/gpu.present=true"}
    assert "baseline written to baseline.yaml" in good(_script(jobs, scripts, "drift.sh", "baseline.yaml"))
    assert "no drift" in good(_script(jobs, scripts, "drift.sh", "baseline.yaml"))
    baseline = jobs.folder / "baseline.yaml"
    baseline.write_text(baseline.read_text().replace("driver: ", "driver: old-", 1))
    done = _script(jobs, scripts, "drift.sh", "baseline.yaml")
    assert done.returncode == 1
    assert "Configuration drift detected!" in done.stdout


def test_the_steps_of_the_workflow(jobs: Jobs, scripts: dict[str, str]) -> None:
    """Capture and compare of the GitHub Actions example, as its shell runs them."""
    workflow = yaml.safe_load((CHECKOUT / "docs/examples/github-actions.yaml").read_text())
    steps = {step.get("name"): step.get("run", "") for step in workflow["jobs"]["snapshot"]["steps"]}
    # The published image cannot be pulled here, and there is no device plugin to promise a GPU.
    capture = steps["Capture snapshot"].replace("--require-gpu", f"--image {jobs.image}")
    capture = capture.replace("gpu-operator", scripts["NAMESPACE"])
    environment = {**scripts, "PATH": f"{jobs.folder}:{scripts['PATH']}"}
    good(_shell(jobs, environment, capture))
    (jobs.folder / "snapshot.yaml").rename(jobs.folder / "baseline.yaml")
    good(_shell(jobs, environment, capture))
    assert "no drift" in good(_shell(jobs, environment, steps["Compare with the baseline"])).lower()


def _shell(jobs: Jobs, environment: dict[str, str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        env=environment, cwd=jobs.folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

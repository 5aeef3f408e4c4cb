"""What the tests of Job mode share: the agent's image on the nodes, the command as a user runs it, and namespaces."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.furnish import put_nvml
from tests.cluster.images import AGENT_IMAGE, AGGREGATOR_IMAGE, agent_archive, aggregator_archive

CHECKOUT: Final = Path(__file__).parents[2]
GPU_NODE: Final = ("--node-selector", "nvidia.com/gpu.present=true")
# What belongs to no namespace and would be left of a run.
CLUSTER_WIDE: Final = ("clusterroles", "clusterrolebindings")
_PUBLISHED: Final = re.compile(r"ghcr\.io/nvidia/eidos(/eidos)?:[\w.]+")


@pytest.fixture(scope="session")
def agent_image(cluster: Cluster) -> str:
    """The image of Dockerfile.agent on every node, and NVML on gpu-1."""
    cluster.load_image(agent_archive())
    return AGENT_IMAGE


@pytest.fixture(scope="session")
def aggregator_image(cluster: Cluster) -> str:
    """The image of Dockerfile.aggregator on every node."""
    cluster.load_image(aggregator_archive())
    return AGGREGATOR_IMAGE


@pytest.fixture
def jobs(cluster: Cluster, agent_image: str, tmp_path: Path) -> "Jobs":
    put_nvml(cluster)
    return Jobs(cluster, agent_image, tmp_path)


@pytest.fixture
def namespace(jobs: "Jobs") -> Iterator[str]:
    """A namespace of the test's own; what it left outside of it goes too."""
    with jobs.namespace("snapshots") as name:
        yield name
    jobs.forget()


@pytest.fixture
def contexts(jobs: "Jobs") -> Path:
    """A kubeconfig with three contexts of the one cluster."""
    document = yaml.safe_load(jobs.cluster.kubeconfig.read_text())
    (context,) = document["contexts"]
    document["contexts"] = [{**context, "name": name} for name in ("prod-us-east", "prod-eu-west", "staging")]
    document["current-context"] = "staging"
    path = jobs.folder / "three.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def good(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that must have succeeded printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout


class Jobs:
    """A cluster that the command is used on."""

    def __init__(self, cluster: Cluster, image: str, folder: Path) -> None:
        self.cluster = cluster
        self.image = image
        self.folder = folder

    # ---- kubectl

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def names(self, kind: str, namespace: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(kind, "-n", namespace)["items"]}

    def apply(self, text: str) -> None:
        """A manifest as it is written, but for the image, which cannot be pulled here."""
        self.kubectl("apply", "-f", "-", stdin=_PUBLISHED.sub(self.image, text))

    def complete(self, job: str, namespace: str) -> None:
        """Wait for a Job as the documentation says; a failed one fails the test with its log."""
        try:
            self.kubectl("wait", "--for=condition=complete", f"job/{job}", "-n", namespace, "--timeout=100s")
        except KubectlError as error:
            raise AssertionError(f"{error}\n{self.kubectl('logs', f'job/{job}', '-n', namespace)}") from error

    def stored(self, name: str, namespace: str) -> bytes:
        """A snapshot as the documentation fetches it."""
        path = r"jsonpath={.data.snapshot\.yaml}"
        return self.kubectl("get", "configmap", name, "-n", namespace, "-o", path).encode()

    @contextmanager
    def namespace(self, name: str, *labels: str) -> Iterator[str]:
        """A namespace that is there for the block, and gone at its end."""
        self.kubectl("create", "namespace", name)
        try:
            # The first that the cluster itself puts there, a moment later.
            self.kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "-n", name, "--timeout=100s")
            if labels:
                self.kubectl("label", "namespace", name, *labels)
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=100s")

    def forget(self) -> None:
        """Remove what runs and manifests leave outside of namespaces."""
        self.kubectl("delete", ",".join(CLUSTER_WIDE), "-l", "app.kubernetes.io/name=eidos", "--ignore-not-found")

    def quota(self, namespace: str, *hard: str) -> None:
        """A quota `none` that is in force: one that the cluster has not counted for yet refuses nothing."""
        self.kubectl("create", "quota", "none", f"--hard={','.join(hard)}", "-n", namespace)
        self.kubectl("wait", "--for=jsonpath={.status.hard}", "quota/none", "-n", namespace, "--timeout=100s")

    def everything(self, *namespaces: str) -> set[str]:
        """All there is that a run might have made, but for namespaces on their way out."""
        found = {f"{kind}/{name}" for kind in CLUSTER_WIDE for name in self._listed(kind)}
        found |= {
            f"namespaces/{item['metadata']['name']}"
            for item in self.get("namespaces")["items"]
            if "deletionTimestamp" not in item["metadata"]
        }
        kinds = ("serviceaccounts", "roles", "rolebindings", "jobs", "configmaps")
        for namespace in namespaces:
            found |= {f"{namespace}/{k}/{name}" for k in kinds for name in self._listed(k, "-n", namespace)}
            found |= {f"{namespace}/pods/{name}" for name in self._kept_pods(namespace)}
        return found

    def _kept_pods(self, namespace: str) -> list[str]:
        """But for those whose Job is gone: the cluster removes them in its own time."""
        pods = self.get("pods", "-n", namespace)["items"]
        jobs = {name.rpartition("/")[2] for name in self._listed("jobs", "-n", namespace)}
        owners = {pod["metadata"]["name"]: pod["metadata"].get("ownerReferences", []) for pod in pods}
        return [name for name, refs in owners.items() if not refs or {ref["name"] for ref in refs} & jobs]

    def _listed(self, *arguments: str) -> list[str]:
        return self.kubectl("get", *arguments, "-o", "name").split()

    # ---- eidos

    def command(self, *arguments: str, image: str | None = None) -> list[str]:
        return [
            *(sys.executable, "-m", "cli", "snapshot", "--deploy-agent"),
            *("--image", image or self.image),
            *arguments,
        ]

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EIDOS_", "KUBE"))}
        return {**kept, "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig), "PYTHONPATH": str(CHECKOUT)}

    def eidos(
        self, *arguments: str, kubeconfig: Path | None = None, image: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`eidos snapshot --deploy-agent` to its end."""
        return subprocess.run(
            self.command(*arguments, image=image),
            env=self.environment(kubeconfig),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def start(
        self, *arguments: str, kubeconfig: Path | None = None, image: str | None = None
    ) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(
            self.command(*arguments, image=image),
            env=self.environment(kubeconfig),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

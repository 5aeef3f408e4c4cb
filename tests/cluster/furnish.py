"""What a GPU node has that the stand-in machines have not: NVIDIA's library, for Jobs to find on the host."""

from typing import Final

from tests.cluster.cluster import Cluster
from tests.nvml.standin import build, scenario

LIBRARY: Final = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
_ANSWERS: Final = "/run/eidos-test-nvml-answers"


def put_nvml(cluster: Cluster, node: str = "gpu-1", name: str = "h100x8", changes: str = "") -> None:
    """Let the NVML stand-in answer on a running node by a scenario of tests/nvml."""
    cluster.nodes[node].put(build(), LIBRARY)
    cluster.nodes[node].write(f"{LIBRARY}.scenario", scenario(name, changes))


def hold_nvml(cluster: Cluster, node: str = "gpu-1") -> None:
    """Let NVML answer only after `let_nvml_answer`: until then a snapshot of the node in a privileged pod goes on."""
    cluster.nodes[node].machine.run(["rm", "-f", _ANSWERS])
    put_nvml(cluster, node, changes=f"nvmlInitWithFlags = !wait /host{_ANSWERS}")


def let_nvml_answer(cluster: Cluster, node: str = "gpu-1") -> None:
    cluster.nodes[node].write(_ANSWERS, "")

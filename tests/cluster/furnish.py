"""What a GPU node has that the stand-in machines have not: NVIDIA's library, for Jobs to find on the host."""

from typing import Final

from tests.cluster.cluster import Cluster
from tests.nvml.standin import build, scenario

LIBRARY: Final = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"


def put_nvml(cluster: Cluster, node: str = "gpu-1", name: str = "h100x8", changes: str = "") -> None:
    """Let the NVML stand-in answer on a running node by a scenario of tests/nvml."""
    cluster.nodes[node].put(build(), LIBRARY)
    cluster.nodes[node].write(f"{LIBRARY}.scenario", scenario(name, changes))

"""How fleets name their nodes."""

from collections.abc import Callable
from typing import Final

NAMINGS: Final[dict[str, Callable[[int], str]]] = {
    "counted": lambda n: f"gpu-{n:05}",
    "cloud": lambda n: f"ip-10-{n % 64}-{n * 31 % 256}-{n * 17 % 253}.us-west-2.compute.internal",
    "kwok": lambda n: f"kwok-{n:06}-{'x' * 51}",  # as tests.cluster.kwok names them
    "pool": lambda n: f"gke-prod-h100-pool-{n * 2654435761 % 2**32:08x}-{n:04x}",
}

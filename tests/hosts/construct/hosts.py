"""All constructed hosts by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.hosts.archive import dump
from tests.hosts.construct import a100_mig, cloud_vm, cpu_only, grace_arm64, h100_8x_ib, talos
from tests.hosts.tree import Tree

BUILDERS: Final[Mapping[str, Callable[[], Tree]]] = {
    "h100-8x-ib": h100_8x_ib.build,
    "a100-mig": a100_mig.build,
    "grace-arm64": grace_arm64.build,
    "cpu-only": cpu_only.build,
    "talos": talos.build,
    "cloud-vm": cloud_vm.build,
}


def path_of(name: str) -> Path:
    """Where the archive of a host is."""
    return Path(__file__).parent.parent / name / "tree.txt"


def text_of(name: str) -> str:
    """The archive of a host, as it is to be committed."""
    return f"# Constructed by tests/hosts/construct; not a recording of any machine.\n\n{dump(BUILDERS[name]())}"

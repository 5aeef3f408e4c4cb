"""File trees of GPU nodes, true to what Linux and the NVIDIA driver document, to put the stand-in on."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.collectors.base import Context, Options
from agent.collectors.gpu import GpuCollector
from agent.host import Host
from agent.nvml_source import NvmlSource
from tests.nvml.standin import install

H100_BUSES: Final = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
"""As in the scenario h100x8."""
LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


def add_gpu(root: Path, bus: str, device: str = "0x2330", driver: str = "nvidia", numa_node: int = 0) -> None:
    """A GPU on PCI. `bus` is a bus number, or a whole bus id."""
    bus = bus if ":" in bus else f"0000:{bus}:00.0"
    directory = root / "sys/bus/pci/devices" / bus
    directory.mkdir(parents=True)
    for name, value in (("vendor", "0x10de"), ("device", device), ("class", "0x030200"), ("numa_node", numa_node)):
        (directory / name).write_text(f"{value}\n")
    if driver:
        (directory / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")


def add_information(root: Path, bus: str, model: str = "NVIDIA H100 80GB HBM3") -> None:
    """What the driver says about one GPU in /proc."""
    directory = root / f"proc/driver/nvidia/gpus/0000:{bus}:00.0"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "information").write_text(
        f"Model: \t\t {model}\nIRQ:   \t\t 120\nGPU UUID: \t GPU-????????-????-????-????-????????????\n"
        f"Video BIOS: \t 96.00.bc.00.01\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\n"
        f"Bus Location: \t 0000:{bus}:00.0\nDevice Minor: \t 0\nGPU Firmware: \t 570.133.20\nGPU Excluded:\t No\n"
    )


def load_driver(root: Path, version: str = "570.133.20", is_open: bool = True) -> None:
    """The nvidia module is loaded."""
    kind = "Open Kernel Module for x86_64" if is_open else "x86_64 Kernel Module"
    (root / "proc/driver/nvidia").mkdir(parents=True, exist_ok=True)
    (root / "proc/driver/nvidia/version").write_text(
        f"NVRM version: NVIDIA UNIX {kind}  {version}  Release Build  (dvs-builder@U22-I3-B02)\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    (root / "sys/module/nvidia").mkdir(parents=True, exist_ok=True)
    (root / "sys/module/nvidia/version").write_text(f"{version}\n")


def bare_node(root: Path) -> Path:
    """A node without GPUs, that passes for this very machine, and has a place for the lease."""
    (root / "run").mkdir(parents=True)
    boot_id = root / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    shutil.copyfile("/proc/sys/kernel/random/boot_id", boot_id)
    return root


def h100_node(root: Path, scenario: str = "h100x8", changes: str = "", buses: Sequence[str] = H100_BUSES) -> Path:
    """A node with H100s on PCI, their driver loaded and the stand-in as its library."""
    bare_node(root)
    for number, bus in enumerate(buses):
        add_gpu(root, bus, numa_node=2 * number // len(buses))
        add_information(root, bus)
    load_driver(root)
    install(root / LIBRARIES, scenario, changes)
    return root


def source(root: Path) -> NvmlSource:
    """Looks for the library on the node only, whatever is installed on the machine the tests run on."""
    empty = root / "own-root"
    empty.mkdir(exist_ok=True)
    return NvmlSource(Host(str(empty)), environment={})


def collector(root: Path, keep: bool = False) -> GpuCollector:
    return GpuCollector(source(root), keep)


def context(root: Path, deadline: float, volatile: bool = False) -> Context:
    return Context(Host(str(root)), "gpu-node-1", deadline, Options(include_volatile=volatile))


def children(root: Path) -> list[int]:
    """Process ids of the NVML children that were started for this node."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            is_child = any(word.endswith(b"/nvml_child.py") for word in words)
            if is_child and any(str(root).encode() in word for word in words) and state != "Z":
                found.append(int(name))
    return found

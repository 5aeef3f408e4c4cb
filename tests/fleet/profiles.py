"""Constructed nodes of five kinds, about as many facts as real ones have, true to the documented key formats."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from common.model import CollectionEntry, MeasurementType, Metadata, Scalar, Snapshot, State, Subtype, in_order

TIMESTAMP: Final = "2026-01-01T00:00:00Z"
COLLECTORS: Final = ("release", "cmdline", "sysctl", "modules", "cpu", "memory", "firmware", "pci", "network")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the nodes of one kind have in common."""

    name: str
    gpus: int
    gpu: str
    driver: str
    kernel: str
    distribution: str
    modules: int
    seed: int

    def snapshot(self, node: str, changes: Mapping[tuple[str, str, str], Scalar | None] | None = None) -> Snapshot:
        """See `snapshot`."""
        return snapshot(self, node, changes)


class Kind(Protocol):
    """What nodes can be made of."""

    @property
    def name(self) -> str:
        """Unique among the kinds of a fleet."""

    def snapshot(self, node: str, changes: Mapping[tuple[str, str, str], Scalar | None] | None = None) -> Snapshot:
        """The snapshot of one node. `changes` sets facts by (type, subtype, key), or removes them with None."""


PROFILES: Final = (
    Profile("h100", 8, "NVIDIA H100 80GB HBM3", "570.86.15", "6.8.0-57-generic", "22.04", 170, 1),
    Profile("a100", 8, "NVIDIA A100-SXM4-80GB", "550.144.03", "5.15.0-130-generic", "22.04", 160, 2),
    Profile("l40s", 4, "NVIDIA L40S", "570.86.15", "6.8.0-57-generic", "24.04", 150, 3),
    Profile("gh200", 1, "NVIDIA GH200 480GB", "570.86.15", "6.8.0-1021-nvidia-64k", "22.04", 140, 4),
    Profile("cpu", 0, "", "", "6.1.0-31-amd64", "12", 120, 5),
)


def snapshot(
    profile: Profile, node: str, changes: Mapping[tuple[str, str, str], Scalar | None] | None = None
) -> Snapshot:
    """The snapshot of one node. `changes` sets facts by (type, subtype, key), or removes them with None."""
    data = _facts(profile, node)
    for (kind, subtype, key), value in (changes or {}).items():
        facts = data.setdefault((MeasurementType(kind), subtype), {})
        if value is None:
            facts.pop(key, None)
        else:
            facts[key] = value
    return Snapshot(
        metadata=Metadata(version="0.1.0", source_node=node, timestamp=TIMESTAMP),
        collection=_collection(profile),
        measurements=in_order((kind, Subtype(name, facts)) for (kind, name), facts in data.items()),
    )


def _collection(profile: Profile) -> list[CollectionEntry]:
    entries = [CollectionEntry(name, MeasurementType.OS, State.OK) for name in COLLECTORS]
    if profile.gpus:
        entries.append(CollectionEntry("gpu", MeasurementType.GPU, State.OK))
    else:
        entries.append(CollectionEntry("gpu", MeasurementType.GPU, State.ABSENT, reason="no NVIDIA device"))
    return [*entries, CollectionEntry("systemd", MeasurementType.SYSTEMD, State.OK)]


def _facts(profile: Profile, node: str) -> dict[tuple[MeasurementType, str], dict[str, Scalar]]:
    own = zlib.crc32(node.encode())
    data: dict[tuple[MeasurementType, str], dict[str, Scalar]] = {
        (MeasurementType.OS, "release"): {
            "ID": "debian" if profile.name == "cpu" else "ubuntu",
            "VERSION_ID": profile.distribution,
            "PRETTY_NAME": f"Linux {profile.distribution}",
        },
        (MeasurementType.OS, "grub"): {
            "BOOT_IMAGE": f"/boot/vmlinuz-{profile.kernel}",
            "ro": "",
            "iommu": "pt",
            "console": "ttyS0,115200",
        },
        (MeasurementType.OS, "sysctl"): _sysctl(profile, node),
        (MeasurementType.OS, "kmod"): {
            f"module_{profile.seed if n % 9 == 0 else 0}_{n}": True for n in range(profile.modules)
        },
        (MeasurementType.OS, "cpu"): {
            "model": f"cpu of {profile.name}",
            "sockets": 2,
            "smt": True,
            "governor": "performance",
        },
        (MeasurementType.OS, "memory"): {"total-kib": 2113489204 + profile.seed, "thp": "madvise", "hugepages": 0},
        (MeasurementType.OS, "network"): {
            "eth0.mtu": 9000,
            "eth0.driver": "mlx5_core",
            "eth0.speed": 400000,
            "eth0.address": f"02:00:{own >> 24:02x}:{own >> 16 & 255:02x}:{own >> 8 & 255:02x}:{own & 255:02x}",
        },
        (MeasurementType.OS, "firmware"): {
            "dmi.sys_vendor": "Example",
            "dmi.product_uuid": f"{own:08x}-0000-4000-8000-000000000000",
            "dmi.product_serial": f"S{own}",
            "dmi.board_serial": f"B{own}",
        },
        (MeasurementType.OS, "nvme"): {
            "drive.size": 3840755982336,
            **{f"drive{index}.serial": f"N{own:x}{index}" for index in range(8)},
        },
    }
    if profile.gpus:
        data[MeasurementType.GPU, "smi"] = {
            "gpu-count": profile.gpus,
            "driver": profile.driver,
            "cuda-version": "12.8",
            "gpu.model": profile.gpu,
            "gpu.persistence-mode": "Enabled",
        }
        data[MeasurementType.GPU, "devices"] = {
            **{
                f"{key}[0-{profile.gpus - 1}]": value
                for key, value in (("memory-mib", 81559), ("power-limit", 700.0))
            },
        }
    for unit in ("containerd.service", "kubelet.service"):
        data[MeasurementType.SYSTEMD, unit] = {
            "CPUQuotaPerSecUSec": (1 << 64) - 1,  # systemd's "no limit"
            **{
                f"Property{number}": f"value {number * profile.seed if number % 25 == 0 else number}"
                for number in range(149)
            },
        }
    return data


def _sysctl(profile: Profile, node: str) -> dict[str, Scalar]:
    facts: dict[str, Scalar] = {
        f"/proc/sys/group{number % 40}/setting_{number}": str(number * profile.seed if number % 20 == 0 else number)
        for number in range(1100)
    }
    facts["/proc/sys/kernel/hostname"] = node
    facts["/proc/sys/kernel/osrelease"] = profile.kernel
    facts["/proc/sys/vm/swappiness"] = "60"
    return facts

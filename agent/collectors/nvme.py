"""OS.nvme: NVMe controllers, their firmware and namespaces, and how the kernel queues to them.

Source: /sys/class/nvme (Documentation/ABI/testing/sysfs-nvme), queue attributes of their block devices
(Documentation/ABI/stable/sysfs-block).
"""

import re
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs, fold_devices, pci_address, present
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_CLASS: Final = "/sys/class/nvme"
_CONTROLLER: Final = re.compile(r"nvme(\d{1,9})")
_NAMESPACE: Final = re.compile(r"nvme\d+(?:c\d+)?n(\d{1,9})")
_SECTOR: Final = 512  # of `size`, whatever the device's own block size

_QUEUE_TEXTS: Final = ("scheduler", "write_cache")
_QUEUE_NUMBERS: Final = (
    "io_timeout",
    "logical_block_size",
    "max_sectors_kb",
    "nomerges",
    "nr_requests",
    "physical_block_size",
    "read_ahead_kb",
    "rq_affinity",
    "wbt_lat_usec",
)


def parse_scheduler(text: str) -> str:
    """The chosen one of a block device's schedulers, which stands in brackets: `[none] mq-deadline kyber`."""
    chosen = re.search(r"\[([^\[\]]*)\]", text)
    return chosen[1].strip() if chosen else text.strip()


def parse_model(text: str) -> str:
    """A model's name as one word of a key: spaces, which vendors pad with, become `_`."""
    return "_".join(text.split()) or "unknown"


class NvmeCollector:
    """Reads every NVMe controller; those of one model are folded."""

    name = "nvme"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            names = ctx.host.listdir(_CLASS)
        except OSError as error:
            return Collected.of({"nvme": outcome_of(error, _CLASS)})
        sysfs = Sysfs(ctx.host)
        found: list[tuple[str, int, str]] = sorted(
            (pci_address(sysfs.target(f"{_CLASS}/{name}")), int(match[1]), name)
            for name in names
            if (match := _CONTROLLER.fullmatch(name))
        )
        if not found:
            return Collected.of({"nvme": Absent("there are no NVMe controllers")})
        facts = fold_devices((_group(sysfs, name), _attributes(sysfs, name, address)) for address, _, name in found)
        return Collected.of({"nvme": Ok(facts, sysfs.context())})


def _group(sysfs: Sysfs, name: str) -> str:
    """The model; drives of other machines (over TCP, RDMA, Fibre Channel) are kept apart: they are not the node's."""
    model = parse_model(sysfs.text(f"{_CLASS}/{name}/model") or "")
    return model if sysfs.text(f"{_CLASS}/{name}/transport") in (None, "", "pcie") else f"fabrics.{model}"


def _attributes(sysfs: Sysfs, name: str, address: str) -> dict[str, Scalar]:
    directory = f"{_CLASS}/{name}"
    attributes = present(
        {
            "address": sysfs.text(f"{directory}/address") or address,
            "firmware-revision": sysfs.text(f"{directory}/firmware_rev"),
            "name": name,
            "numa-node": sysfs.integer(f"{directory}/numa_node"),
            "queue-count": sysfs.integer(f"{directory}/queue_count"),
            "serial": sysfs.text(f"{directory}/serial"),
            "state": sysfs.text(f"{directory}/state"),
            "subsystem-nqn": sysfs.text(f"{directory}/subsysnqn"),
            "submission-queue-size": sysfs.integer(f"{directory}/sqsize"),
            "transport": sysfs.text(f"{directory}/transport"),
        }
    )
    for entry in sysfs.names(directory):
        if match := _NAMESPACE.fullmatch(entry):
            attributes.update(_namespace(sysfs, f"{directory}/{entry}", f"namespace{match[1]}"))
    return attributes


def _namespace(sysfs: Sysfs, directory: str, prefix: str) -> dict[str, Scalar]:
    sectors = sysfs.integer(f"{directory}/size")
    values: dict[str, Scalar | None] = {
        "size-bytes": None if sectors is None or not 0 <= sectors < 1 << 54 else sectors * _SECTOR,
        "wwid": sysfs.text(f"{directory}/wwid"),
    }
    for attribute in _QUEUE_NUMBERS:
        values[f"queue.{attribute.replace('_', '-')}"] = sysfs.integer(f"{directory}/queue/{attribute}")
    for attribute in _QUEUE_TEXTS:
        values[f"queue.{attribute.replace('_', '-')}"] = parse_scheduler(
            sysfs.text(f"{directory}/queue/{attribute}") or ""
        )
    return {f"{prefix}.{key}": value for key, value in present(values).items()}

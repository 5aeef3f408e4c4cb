"""GPU.xid: what the NVIDIA driver reported to the kernel log since the log's oldest line, counted by kind and GPU.

NVML tells of Xids only while somebody waits for them; the kernel log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg)
tells of those that have been. The log forgets, so the counts are volatile: what stays of an Xid is in the GPU's
state, recovery action and row remapping.
"""

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent.collectors.base import outcome_of
from agent.collectors.gpu_folding import Folding
from agent.collectors.gpu_sysfs import pci_bus
from agent.host import Host
from common.model import Ok, Outcome

_KMSG: Final = "/dev/kmsg"
_RECORD_LIMIT: Final = 8192  # the kernel's own limit is below; a shorter buffer makes read(2) fail
_MOST_RECORDS: Final = 200_000
_XID: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.\d)?\): (\d{1,5})\b"
)


def parse_xid(record: str) -> tuple[str, int] | None:
    """PCI bus (`0000:1b:00`) and number in one record of the kernel log; None when it reports no Xid."""
    found = _XID.search(record)
    return (pci_bus(f"{found[1]}.0").removesuffix(".0"), int(found[2])) if found else None


def xid_facts(records: Iterable[str], indexes: Mapping[str, int]) -> Outcome:
    """Counts as `count.79[3]`. `indexes` is PCI bus id to GPU index; a GPU that is not in it keeps its bus."""
    by_bus = {bus.rpartition(".")[0]: index for bus, index in indexes.items()}
    counts: dict[tuple[str, int], int] = {}
    for record in records:
        if found := parse_xid(record):
            counts[found] = counts.get(found, 0) + 1
    folding = Folding()
    for (bus, number), count in sorted(counts.items()):
        if bus in by_bus:
            folding.put("xid", f"count.{number}", by_bus[bus], count)
        else:
            folding.put("xid", f"count.{number}[{bus}]", None, count)
    return Ok(folding.folded().get("xid", {}))


def read_kernel_log(path: str, deadline: float) -> Iterator[str]:
    """The lines of the log as it is now. Raises OSError when it may not be read. A plain file serves as well."""
    rest = ""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD_LIMIT)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # nothing more now
                    break
                if error.errno == errno.EPIPE:  # overwritten while we read: go on with the oldest there is
                    continue
                raise
            if not record or time.monotonic() > deadline:
                break
            *lines, rest = (rest + record.decode("utf-8", "replace")).split("\n")
            yield from lines
        yield rest
    finally:
        os.close(descriptor)


def read_xids(host: Host, indexes: Mapping[str, int], deadline: float) -> Outcome:
    """What the kernel log says now."""
    try:
        return xid_facts(read_kernel_log(host.resolve(_KMSG), deadline), indexes)
    except OSError as error:
        return outcome_of(error, _KMSG)

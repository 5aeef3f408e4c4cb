"""Builds small /sys trees under a temporary directory, laid out as the kernel does: real directories, class links."""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.collectors.base import Collector, Context
from agent.host import Host
from common.model import Absent, Failed, Ok, Outcome, Scalar

Attributes = Mapping[str, str | int | bytes]


class DeviceTree:
    """A host root to put devices into."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | int | bytes) -> None:
        """A file; text ends in a newline as in /sys."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def attributes(self, directory: str, attributes: Attributes) -> None:
        (self.root / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name, value in attributes.items():
            self.write(f"{directory}/{name}", value)

    def link(self, path: str, target: str) -> None:
        """A symbolic link; an absolute target is a host path, written relative as the kernel does."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(os.path.relpath(target, os.path.dirname(path)) if target.startswith("/") else target)

    def pci(
        self, address: str, driver: str = "", attributes: Attributes | None = None, **more: str | int | bytes
    ) -> str:
        """A PCI device on the first root complex; gives its directory."""
        directory = f"/sys/devices/pci0000:00/{address}"
        self.attributes(directory, {**(attributes or {}), **more})
        self.link(f"/sys/bus/pci/devices/{address}", directory)
        if driver:
            self.link(f"{directory}/driver", f"/sys/bus/pci/drivers/{driver}")
        return directory

    def outcomes(self, collector: Collector) -> dict[str, Outcome]:
        """What a collector makes of the tree, parts that could not be read included."""
        return collector.collect(Context(host=Host(str(self.root)), node="node-1", deadline=float("inf"))).subtypes

    def collect(self, collector: Collector) -> Outcome:
        """What a collector of one subtype makes of the tree; parts that could not be read are left out."""
        [outcome] = [found for name, found in self.outcomes(collector).items() if not name.endswith("]")]
        return outcome

    def facts(self, collector: Collector) -> dict[str, Scalar]:
        outcome = self.collect(collector)
        assert isinstance(outcome, Ok), outcome
        return outcome.data

    def reason(self, collector: Collector) -> str:
        outcome = self.collect(collector)
        assert isinstance(outcome, Absent | Failed), outcome
        return outcome.reason

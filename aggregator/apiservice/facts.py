"""The few facts of a node that its object shows, read once for each distinct content."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from aggregator.catalog import Catalog
from aggregator.fold import NodeFacts
from common.model import MeasurementType, Scalar

_MOST: Final = 20_000
"""Contents remembered; beyond, those that no node has any more are forgotten."""
_SUBTYPES: Final = {
    (MeasurementType.GPU, "smi"): ("gpu-count", "gpu.model", "driver", "cuda-version"),
    (MeasurementType.OS, "release"): ("PRETTY_NAME",),
    (MeasurementType.OS, "sysctl"): ("/proc/sys/kernel/osrelease",),
}


class Shown(NamedTuple):
    """What is shown of a node's facts; empty where it has no such."""

    gpus: int | UnsetType = UNSET
    gpu_model: str = ""
    driver: str = ""
    cuda: str = ""
    kernel: str = ""
    os: str = ""


class ShownFacts:
    """Reads them. `learn` does what takes time and may run beside the loop; `get` only looks up."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._shown: dict[NodeFacts, Shown] = {}
        self._read: dict[bytes, Mapping[str, Scalar]] = {}

    def get(self, facts: NodeFacts) -> Shown | None:
        """None when they must be learnt first."""
        return self._shown.get(facts)

    def learn(self, wanted: Collection[NodeFacts]) -> None:
        """Have all of these known: those of every node. Content must not be dropped meanwhile."""
        if len(self._shown) > _MOST:
            self._shown = {facts: self._shown[facts] for facts in wanted if facts in self._shown}
        if len(self._read) > _MOST:
            self._read = {}
        for facts in wanted:
            if facts not in self._shown:
                self._shown[facts] = self._show(facts)

    def _show(self, facts: NodeFacts) -> Shown:
        found: dict[str, Scalar] = {}
        for section in facts.sections:
            kind, subtypes = self._catalog.subtypes(section)
            for (wanted_kind, subtype), keys in _SUBTYPES.items():
                if kind is wanted_kind and subtype in subtypes:
                    found.update(self._keys(subtypes[subtype], keys))
        gpus = found.get("gpu-count", UNSET)
        return Shown(
            gpus=gpus if isinstance(gpus, int) else UNSET,
            gpu_model=str(found.get("gpu.model", "")),
            driver=str(found.get("driver", "")),
            cuda=str(found.get("cuda-version", "")),
            kernel=str(found.get("/proc/sys/kernel/osrelease", "")),
            os=str(found.get("PRETTY_NAME", "")),
        )

    def _keys(self, digest: bytes, keys: Iterable[str]) -> Mapping[str, Scalar]:
        known = self._read.get(digest)
        if known is None:
            data = self._catalog.data(digest)
            known = self._read[digest] = {key: data[key] for key in keys if key in data}
        return known

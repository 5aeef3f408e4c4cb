"""Nodes made from the recorded and constructed hosts under tests/hosts: their golden snapshots, under other names.

Measurement types that a golden snapshot does not have yet come from the constructed profiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.formats import load_snapshot
from common.model import Metadata, Scalar, Snapshot, Subtype, in_order
from common.section import comparable, restored
from tests.fleet.profiles import PROFILES, Profile

_HOSTS: Final = Path(__file__).parents[1] / "hosts"
_NAMES: Final = ("h100-8x-ib", "a100-mig", "cloud-vm", "grace-arm64", "cpu-only")


@dataclass(frozen=True, slots=True)
class Host:
    """One host of tests/hosts."""

    name: str
    golden: Snapshot
    otherwise: Profile

    def snapshot(self, node: str, changes: Mapping[tuple[str, str, str], Scalar | None] | None = None) -> Snapshot:
        """As the host, but called `node`, with facts changed (or removed, by None)."""
        there = self.golden.metadata.source_node
        made = self.otherwise.snapshot(node)
        have = {measurement.type for measurement in self.golden.measurements}
        subtypes = [(m.type, s) for m in made.measurements if m.type not in have for s in m.subtypes]
        for measurement in self.golden.measurements:
            for subtype in measurement.subtypes:
                data = {key: restored(comparable(value, there), node) for key, value in subtype.data.items()}
                for (kind, name, key), value in (changes or {}).items():
                    if (kind, name) == (measurement.type.value, subtype.subtype):
                        data.pop(key, None)
                        if value is not None:
                            data[key] = value
                subtypes.append((measurement.type, Subtype(subtype.subtype, data, subtype.context)))
        return Snapshot(
            metadata=Metadata(made.metadata.version, node, made.metadata.timestamp),
            collection=self.golden.collection,
            measurements=in_order(subtypes),
        )


def hosts() -> list[Host]:
    """The five."""
    loaded = []
    for name, profile in zip(_NAMES, PROFILES, strict=True):
        path = _HOSTS / name / "snapshot.yaml"
        loaded.append(Host(name, load_snapshot(path.read_bytes(), str(path)), profile))
    return loaded

"""NodeTopology: labels and taints of all nodes of a cluster, and who has them. Pure.

Existing readers know the texts `effect|value|n1,n2` and `value|n1,n2`. A key with several entries is written once per
entry, as `key.Effect` or `key.value`. Where even that would name two entries, or an entry and another key, they are
written as kubectl writes them, `key=value:Effect` and `key=value`, which name one only: nothing is ever lost.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from common.model import MeasurementType, Ok, Outcome, Scalar
from common.stability import Stability, default_rules

SUBTYPES: Final = ("summary", "taint", "label")

T = TypeVar("T")


class TaintId(NamedTuple):
    """A taint, wherever it is."""

    key: str
    effect: str
    value: str


class LabelId(NamedTuple):
    """A label with its value."""

    key: str
    value: str


class Topology:
    """Labels and taints with the nodes that have them, gathered node by node."""

    def __init__(self) -> None:
        self.nodes = 0
        self.labels: defaultdict[LabelId, list[str]] = defaultdict(list)
        self.taints: defaultdict[TaintId, list[str]] = defaultdict(list)

    def add(self, name: str, labels: Mapping[str, str], taints: Iterable[TaintId]) -> None:
        """One more node. A taint that it has twice counts once."""
        self.nodes += 1
        for key, value in labels.items():
            self.labels[LabelId(key, value)].append(name)
        for taint in dict.fromkeys(taints):
            self.taints[taint].append(name)

    def outcomes(self, most: int) -> dict[str, Outcome]:
        """The three subtypes; lists of nodes are cut to `most` names unless that is 0.

        What the cluster sets and removes by itself does not count, or the counts would drift with it.
        """
        return {
            "summary": Ok(summary_of(self.nodes, self.taints, self.labels)),
            "taint": Ok(encode_taints(self.taints, most)),
            "label": Ok(encode_labels(self.labels, most)),
        }


def summary_of(nodes: int, taints: Iterable[TaintId], labels: Iterable[LabelId]) -> dict[str, Scalar]:
    """How many there are of each."""
    return {
        "node-count": nodes,
        "taint-count": sum(not is_volatile("taint", taint.key) for taint in taints),
        "label-count": sum(not is_volatile("label", label.key) for label in labels),
    }


def is_volatile(subtype: str, key: str) -> bool:
    """Whether the cluster sets and removes it by itself."""
    return default_rules().classify(MeasurementType.NODE_TOPOLOGY.value, subtype, key) is Stability.VOLATILE


def encode_labels(labels: Mapping[LabelId, list[str]], most: int) -> dict[str, Scalar]:
    """key → `value|n1,n2`; `key.value` where a key has several values."""
    values = Counter(label.key for label in labels)
    short = {label: label.key if values[label.key] == 1 else f"{label.key}.{label.value}" for label in labels}
    plain = {label for label in labels if values[label.key] == 1}
    names = _distinct(short, plain, {label: f"{label.key}={label.value}" for label in labels})
    return {names[label]: f"{label.value}|{node_list(nodes, most)}" for label, nodes in labels.items()}


def encode_taints(taints: Mapping[TaintId, list[str]], most: int) -> dict[str, Scalar]:
    """key → `effect|value|n1,n2`; `key.Effect` → `value|n1,n2` where a key has several entries."""
    entries = Counter(taint.key for taint in taints)
    plain = {taint for taint in taints if entries[taint.key] == 1}
    short = {taint: taint.key if taint in plain else f"{taint.key}.{taint.effect}" for taint in taints}
    names = _distinct(short, plain, {taint: f"{taint.key}={taint.value}:{taint.effect}" for taint in taints})
    data: dict[str, Scalar] = {}
    for taint, nodes in taints.items():
        effect = f"{taint.effect}|" if taint in plain else ""
        data[names[taint]] = f"{effect}{taint.value}|{node_list(nodes, most)}"
    return data


def _distinct(short: Mapping[T, str], plain: set[T], full: Mapping[T, str]) -> dict[T, str]:
    """The short name of each entry, or its full one where the short one is not its own. Plain keys stay."""
    wanted = Counter(short.values())
    return {entry: name if entry in plain or wanted[name] == 1 else full[entry] for entry, name in short.items()}


def node_list(nodes: list[str], most: int) -> str:
    """Names sorted and joined by `,`; beyond `most` (0: all) only how many more there are."""
    names = sorted(nodes)
    if 0 < most < len(names):
        return f"{','.join(names[:most])} (+{len(names) - most} more)"
    return ",".join(names)

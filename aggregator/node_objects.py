"""K8s.node, which the cluster says of each node, beside what the node's agent sent. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from aggregator.cluster_facts import with_node
from aggregator.fold import Contents, NodeFacts
from common.canonical import NAMING, Domain, content_digest, encode, section_content, subtype_content
from common.model import CollectionEntry, MeasurementType, Scalar
from common.section import comparable
from common.stability import Stability, default_rules

SUBTYPE: Final = "node"

_KIND: Final = MeasurementType.K8S


class NodeObjects:
    """`Contents` of a fold: what agents sent, and what `add` adds."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._manifests: dict[bytes, dict[str, bytes]] = {}
        self._data: dict[bytes, dict[str, Scalar]] = {}
        self._outcomes: dict[bytes, list[CollectionEntry]] = {}
        self._sections: dict[tuple[tuple[str, Scalar], ...], bytes] = {}
        self._with_node: dict[bytes, bytes] = {}
        self._interned: dict[NodeFacts, NodeFacts] = {}

    def add(self, node: str, facts: NodeFacts, data: Mapping[str, Scalar]) -> NodeFacts:
        """A node's facts with K8s.node among them; as they are where nothing is known of that."""
        if not data:
            return facts
        mine = default_rules().select(_KIND.value, SUBTYPE, data, {Stability.STABLE})
        stable = {key: comparable(value, node) for key, value in mine.items()}
        token = tuple(stable.items())
        if (section := self._sections.get(token)) is None:
            section = self._sections[token] = self._section(stable)
        added = NodeFacts((section, *facts.sections), self._outcome(facts.outcome))
        return self._interned.setdefault(added, added)

    def _section(self, data: dict[str, Scalar]) -> bytes:
        name = content_digest(Domain.SUBTYPE, subtype_content(_KIND, SUBTYPE, data), NAMING)
        manifest = {SUBTYPE: name} if data else {}
        section = content_digest(Domain.SECTION, section_content(_KIND, manifest), NAMING)
        self._data[name], self._manifests[section] = data, manifest
        return section

    def _outcome(self, digest: bytes) -> bytes:
        known = self._with_node.get(digest)
        if known is None:
            lines = [*self._contents.outcome(digest), *with_node([], node_is_known=True)]
            known = self._with_node[digest] = content_digest(Domain.OUTCOME, encode(lines), NAMING)
            self._outcomes[known] = lines
        return known

    def subtypes(self, manifest: bytes) -> tuple[MeasurementType, Mapping[str, bytes]]:
        """See Contents."""
        if manifest in self._manifests:
            return _KIND, self._manifests[manifest]
        return self._contents.subtypes(manifest)

    def data(self, subtype: bytes) -> Mapping[str, Scalar]:
        """See Contents."""
        return self._data[subtype] if subtype in self._data else self._contents.data(subtype)

    def outcome(self, digest: bytes) -> Sequence[CollectionEntry]:
        """See Contents."""
        return self._outcomes[digest] if digest in self._outcomes else self._contents.outcome(digest)

"""Which content the aggregator has, decoded, and in its own terms whatever schema version an agent digests under.

An agent of another schema version names the same content by other digests. Here everything gets the digest of one
schema version (`NAMING`), so that neither agents that are upgraded nor an upgraded aggregator show a node as changed.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aggregator.blobs import BlobStore, compress, decompress
from aggregator.fold import NodeFacts
from common.canonical import NAMING, Domain, content_digest, section_content
from common.model import CollectionEntry, MeasurementType, Scalar
from common.section import (
    Manifest,
    Own,
    known_identity,
    known_subtype,
    read_identity,
    read_manifest,
    read_outcome,
    read_subtype,
)
from common.wire import Closed, FrameError, SectionDigests

_MOST_MANIFESTS: Final = 4096
"""Decoded manifests kept at once; others are decoded again."""

_READERS: Final = {
    Domain.SECTION: read_manifest,
    Domain.SUBTYPE: read_subtype,
    Domain.IDENTITY: read_identity,
    Domain.OUTCOME: read_outcome,
}


_TAGS: Final = {domain: bytes([number]) for number, domain in enumerate(Domain)}
"""First byte of a key in the store: a digest claimed for one kind of content never finds another."""


class Catalog:
    """Verified content. `Contents` of aggregator.fold for own digests; everything else takes an agent's digests."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._own: dict[bytes, bytes] = {}  # key by an agent's digest: key by ours, where they differ
        self._manifests: OrderedDict[bytes, Manifest] = OrderedDict()
        self._outcomes: OrderedDict[bytes, list[CollectionEntry]] = OrderedDict()
        self._interned: dict[NodeFacts, NodeFacts] = {}

    def has(self, domain: Domain, digest: bytes) -> bool:
        """Whether the content under an agent's digest is here (of a section: its manifest)."""
        key = _TAGS[domain] + digest
        return key in self._store or key in self._own

    def add(self, domain: Domain, digest: bytes, compressed: bytes, schema: int) -> None:
        """Take what an agent sent under a digest it was asked for.

        Raises FrameError when it is not what the digest names or not well-formed, StoreFullError when there is no
        room.
        """
        content = decompress(compressed)
        if content_digest(domain, content, schema) != digest:
            raise FrameError(Closed.WRONG_CONTENT, f"{domain} content does not match its digest")
        try:
            _READERS[domain](content)
        except ValueError as error:
            raise FrameError(Closed.WRONG_CONTENT, f"{domain} content is malformed: {error}") from error
        key = _TAGS[domain] + digest
        if schema == NAMING or domain in (Domain.SECTION, Domain.IDENTITY):
            # A foreign manifest stays under its own digest until its subtypes are here: see `adopt`.
            self._store.add(key, compressed)
            return
        ours = _TAGS[domain] + content_digest(domain, content, NAMING)
        self._store.add(ours, compressed)
        self._own[key] = ours

    def manifest(self, digest: bytes) -> Manifest:
        """A manifest that is here, with the digests of the agent it came from. Raises KeyError."""
        known = self._manifests.get(digest)
        if known is None:
            known = self._manifests[digest] = read_manifest(self._read(Domain.SECTION, digest))
            if len(self._manifests) > _MOST_MANIFESTS:
                self._manifests.popitem(last=False)
        return known

    def adopt(self, digest: bytes) -> bytes:
        """Our digest of a section whose manifest and subtypes are all here. Raises StoreFullError."""
        key = _TAGS[Domain.SECTION] + digest
        if key in self._own:
            return self._own[key][1:]
        manifest = self.manifest(digest)
        subtypes = {name: self._ours(Domain.SUBTYPE, subtype) for name, subtype in manifest.subtypes.items()}
        content = section_content(manifest.kind, subtypes)
        ours = content_digest(Domain.SECTION, content, NAMING)
        if ours != digest:
            self._store.add(_TAGS[Domain.SECTION] + ours, compress(content))
            self._own[key] = _TAGS[Domain.SECTION] + ours
        return ours

    def _ours(self, domain: Domain, digest: bytes) -> bytes:
        key = _TAGS[domain] + digest
        return self._own.get(key, key)[1:]

    def _read(self, domain: Domain, digest: bytes) -> bytes:
        return self._store.read(_TAGS[domain] + digest)

    def facts(self, sections: Iterable[SectionDigests], outcome: bytes) -> NodeFacts:
        """A node's facts in our own digests; equal facts are one object. All content must be here."""
        facts = NodeFacts(
            tuple(self.adopt(section.stable) for section in sections), self._ours(Domain.OUTCOME, outcome)
        )
        return self._interned.setdefault(facts, facts)

    def subtypes(self, manifest: bytes) -> tuple[MeasurementType, Mapping[str, bytes]]:
        """A manifest, as fold wants it."""
        read = self.manifest(manifest)
        return read.kind, read.subtypes

    def data(self, subtype: bytes) -> Mapping[str, Scalar]:
        """One subtype's stable facts."""
        return known_subtype(self._read(Domain.SUBTYPE, subtype)).data

    def outcome(self, digest: bytes) -> Sequence[CollectionEntry]:
        """How a node's collectors ended."""
        known = self._outcomes.get(digest)
        if known is None:
            known = self._outcomes[digest] = read_outcome(self._read(Domain.OUTCOME, digest))
            if len(self._outcomes) > _MOST_MANIFESTS:
                self._outcomes.popitem(last=False)
        return known

    def identity(self, digest: bytes) -> tuple[MeasurementType, Mapping[str, Own]]:
        """What is one node's own in one section."""
        read = known_identity(self._read(Domain.IDENTITY, digest))
        return read.kind, read.subtypes

    def forget_all_but(
        self,
        sections: Iterable[bytes],
        identities: Iterable[bytes],
        outcomes: Iterable[bytes],
        facts: Iterable[NodeFacts],
    ) -> int:
        """Drop content that nothing refers to; how many pieces were dropped. Not while a fold reads.

        The first three are agents' digests that are still to be had; `facts` is what nodes are known by.
        """
        self._interned = {known: known for known in facts}
        manifests = set(sections).union(*(known.sections for known in self._interned))
        keep = {_TAGS[Domain.SECTION] + digest for digest in manifests}
        keep.update(_TAGS[Domain.IDENTITY] + digest for digest in identities)
        keep.update(_TAGS[Domain.OUTCOME] + digest for digest in outcomes)
        keep.update(_TAGS[Domain.OUTCOME] + known.outcome for known in self._interned)
        for digest in manifests:
            if _TAGS[Domain.SECTION] + digest in self._store:
                keep.update(_TAGS[Domain.SUBTYPE] + subtype for subtype in self.manifest(digest).subtypes.values())
        self._own = {theirs: ours for theirs, ours in self._own.items() if theirs in keep}
        keep.update(self._own.values())
        for digest in [digest for digest in self._manifests if digest not in manifests]:
            self._manifests.pop(digest, None)
        for digest in [digest for digest in self._outcomes if _TAGS[Domain.OUTCOME] + digest not in keep]:
            self._outcomes.pop(digest, None)
        return self._store.keep_only(keep)

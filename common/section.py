"""A node's snapshot as content-addressed pieces, and back.

A section is one measurement type. Its stable facts are one piece of content per subtype, named by digest, under a
manifest that lists them; what is the node's own (identity facts and the text about subtypes) is one piece beside it.
How the collectors ended is one piece per node. Equal pieces on a thousand nodes are one piece: the node's own name
inside a stable value is written as `${node}`.

    split(snapshot) -> Pieces          on the agent
    assemble(node, …, pieces) -> Snapshot     on the aggregator; assemble(split(x)) == x

Pure: no I/O.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import msgspec

from common.canonical import Domain, content_digest, encode, section_content, subtype_content
from common.model import (
    CollectionEntry,
    Failed,
    FailureCode,
    MeasurementType,
    Metadata,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)
from common.stability import NODE_PLACEHOLDER, Rules, Stability, default_rules, without_node_name
from common.version import SCHEMA
from common.wire import MAX_CONTENT, Digest, SectionDigests

MAX_SUBTYPES: Final = 2048
"""Most subtypes in one section."""

_PLACEHOLDER: Final = re.compile(r"(\$+)(?=\{node\})")
_Read = TypeVar("_Read")
_INTEGERS: Final = range(-(2**63), 2**64)


class SubtypeContent(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The stable facts of one subtype, with `${node}` where the node's name was."""

    kind: MeasurementType
    subtype: str
    data: dict[str, Scalar]


class Manifest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Which content each subtype of a section has."""

    kind: MeasurementType
    subtypes: Annotated[dict[str, Digest], msgspec.Meta(max_length=MAX_SUBTYPES)]


class Own(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What one subtype has that is the node's own: identity facts, and text about it. Never compared."""

    data: dict[str, Scalar] = {}
    context: dict[str, str] = {}


class IdentityContent(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What one section has that is the node's own, by subtype."""

    kind: MeasurementType
    subtypes: Annotated[dict[str, Own], msgspec.Meta(max_length=MAX_SUBTYPES)]


OutcomeContent = list[CollectionEntry]
"""How every collector ended: the snapshot's `collection:`, in its order."""


_subtype: Final = msgspec.msgpack.Decoder(SubtypeContent)
_manifest: Final = msgspec.msgpack.Decoder(Manifest)
_identity: Final = msgspec.msgpack.Decoder(IdentityContent)
_outcome: Final = msgspec.msgpack.Decoder(OutcomeContent)


def read_subtype(content: bytes) -> SubtypeContent:
    """Decode one subtype's stable facts. Raises ValueError unless they are its canonical bytes."""
    read = _subtype.decode(content)
    return _if_canonical(read, content, subtype_content(read.kind, read.subtype, read.data))


def known_subtype(content: bytes) -> SubtypeContent:
    """As `read_subtype`, for content that was checked when it came."""
    return _subtype.decode(content)


def read_manifest(content: bytes) -> Manifest:
    """Decode a section's manifest. Raises ValueError unless it is its canonical bytes."""
    read = _manifest.decode(content)
    return _if_canonical(read, content, section_content(read.kind, read.subtypes))


def read_identity(content: bytes) -> IdentityContent:
    """Decode what is a node's own in one section. Raises ValueError unless it is its canonical bytes."""
    read = _identity.decode(content)
    return _if_canonical(read, content, encode(read))


def known_identity(content: bytes) -> IdentityContent:
    """As `read_identity`, for content that was checked when it came."""
    return _identity.decode(content)


def read_outcome(content: bytes) -> OutcomeContent:
    """Decode how a node's collectors ended. Raises ValueError unless it is its canonical bytes."""
    read = _outcome.decode(content)
    return _if_canonical(read, content, encode(read))


def _if_canonical(read: _Read, content: bytes, canonical: bytes) -> _Read:
    """One content has one digest: bytes that say the same in another way are refused."""
    if canonical != content:
        raise ValueError("the content is not in canonical form")
    return read


@dataclass(frozen=True, slots=True)
class Pieces:
    """One node's snapshot, taken apart: its digests, and the content under every digest."""

    sections: tuple[SectionDigests, ...]
    outcome: bytes
    contents: Mapping[bytes, bytes]


def split(snapshot: Snapshot, rules: Rules | None = None, schema: int = SCHEMA) -> Pieces:
    """Take a snapshot apart. A section is there for every measurement type, empty where nothing was read.

    A subtype that cannot be sent (too large, or holding what cannot be compared, such as NaN) is left out, and
    says so in the outcome: one odd subtype never costs the rest.
    """
    rules = rules or default_rules()
    node = snapshot.metadata.source_node
    contents: dict[bytes, bytes] = {}
    refused: list[CollectionEntry] = []
    by_kind = {measurement.type: measurement for measurement in snapshot.measurements}
    sections = []
    for kind in MeasurementType:
        manifest: dict[str, bytes] = {}
        own: dict[str, Own] = {}
        for subtype in by_kind[kind].subtypes if kind in by_kind else ():
            trouble = _unsendable(subtype)
            if trouble is not None:
                refused.append(
                    CollectionEntry("link", kind, State.FAILED, subtype.subtype, trouble.code, trouble.reason)
                )
                continue
            _split_subtype(kind, subtype, node, rules, schema, manifest, own, contents)
        sections.append(_section(kind, manifest, own, schema, contents))
    outcome = encode([*snapshot.collection, *refused])
    digest = content_digest(Domain.OUTCOME, outcome, schema)
    contents[digest] = outcome
    return Pieces(tuple(sections), digest, contents)


def _split_subtype(
    kind: MeasurementType,
    subtype: Subtype,
    node: str,
    rules: Rules,
    schema: int,
    manifest: dict[str, bytes],
    own: dict[str, Own],
    contents: dict[bytes, bytes],
) -> None:
    name, data = subtype.subtype, subtype.data
    identity = rules.select(kind.value, name, data, {Stability.IDENTITY})
    if identity or subtype.context:
        own[name] = Own(identity, subtype.context)
    stable = {key: comparable(value, node) for key, value in data.items() if key not in identity}
    if stable or not data:
        content = subtype_content(kind.value, name, stable)
        digest = manifest[name] = content_digest(Domain.SUBTYPE, content, schema)
        contents[digest] = content


def _section(
    kind: MeasurementType,
    manifest: dict[str, bytes],
    own: dict[str, Own],
    schema: int,
    contents: dict[bytes, bytes],
) -> SectionDigests:
    content = section_content(kind.value, manifest)
    stable = content_digest(Domain.SECTION, content, schema)
    contents[stable] = content
    if not own:
        return SectionDigests(kind, stable)
    content = encode(IdentityContent(kind, own))
    identity = content_digest(Domain.IDENTITY, content, schema)
    contents[identity] = content
    return SectionDigests(kind, stable, identity)


def _unsendable(subtype: Subtype) -> Failed | None:
    """Why a subtype cannot travel, or None."""
    for key, value in subtype.data.items():
        if isinstance(value, int) and value not in _INTEGERS:
            return Failed(FailureCode.MALFORMED, f"{key} is an integer of more than 64 bits")
    try:
        size = len(encode(subtype.context)) + len(subtype_content("", subtype.subtype, subtype.data))
    except UnicodeEncodeError:
        return Failed(FailureCode.MALFORMED, "a text in it is not Unicode")
    except ValueError as error:
        return Failed(FailureCode.MALFORMED, str(error))
    # `${node}` may be longer than the name it stands for: half the limit leaves room for any sane value.
    if size > MAX_CONTENT // 2:
        return Failed(FailureCode.TOO_LARGE, f"more than {MAX_CONTENT // 2} bytes")
    return None


def assemble(
    node: str,
    version: str,
    timestamp: str,
    subtypes: Mapping[MeasurementType, Mapping[str, Mapping[str, Scalar]]],
    own: Mapping[MeasurementType, Mapping[str, Own]],
    outcome: OutcomeContent,
) -> Snapshot:
    """The snapshot that `split` took apart, from its decoded pieces: exactly what one-shot mode writes."""
    measurements: list[tuple[MeasurementType, Subtype]] = []
    for kind in MeasurementType:
        stable, private = subtypes.get(kind, {}), own.get(kind, {})
        for name in {*stable, *private}:
            mine = private.get(name, Own())
            data = {key: restored(value, node) for key, value in stable.get(name, {}).items()} | mine.data
            measurements.append((kind, Subtype(name, data, mine.context)))
    return Snapshot(
        metadata=Metadata(version=version, source_node=node, timestamp=timestamp),
        collection=outcome,
        measurements=in_order(measurements),
    )


def comparable(value: Scalar, node: str) -> Scalar:
    """The value with the node's name as `${node}`. Reversible: a literal `${node}` is escaped by one more `$`."""
    if not isinstance(value, str):
        return value
    escaped = _PLACEHOLDER.sub(r"\1$", value) if NODE_PLACEHOLDER in value else value
    replaced = without_node_name(escaped, node)
    # Not every name can be put back ("$" before it, or a name that is itself a placeholder): then it stays.
    return replaced if replaced == escaped or restored(replaced, node) == value else escaped


def restored(value: Scalar, node: str) -> Scalar:
    """The value as it was on the node."""
    if not isinstance(value, str) or NODE_PLACEHOLDER not in value:
        return value
    return re.sub(r"(\$+)\{node\}", lambda found: _restore(found, node), value)


def _restore(found: re.Match[str], node: str) -> str:
    return node if len(found[1]) == 1 else found[0][1:]

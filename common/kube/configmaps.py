"""Documents in ConfigMaps, `cm://namespace/name`: how they are laid out, and reading them.

    data:
      snapshot.yaml   the document, or (snapshot.json, snapshot.txt) in another format
      format          yaml, json or txt
      timestamp       RFC 3339, UTC
      shards.json     only when the document is longer than about 900 KiB: what it consists of (sharding.py);
                      snapshot.yaml is then what stays readable of it (excerpt.py)

Shards are ConfigMaps of their own with content names, never changed, owned by the index. configmap_writer.py sees to
it that whoever reads finds one whole document or another. The index bears the digest of its data in an annotation.
"""

import asyncio
from typing import Final, NamedTuple

import msgspec

from common.document import MOST_BYTES
from common.errors import Code, InputError, OutputError
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.kube.sharding import IncompleteError, ShardIndex, index_digest, join
from common.kube.types import ConfigMap

NAME: Final = "app.kubernetes.io/name"
COMPONENT: Final = "app.kubernetes.io/component"
VERSION_LABEL: Final = "app.kubernetes.io/version"
DIGEST: Final = "eidos.nvidia.com/digest"
"""Annotation of an index."""
SHARDS: Final = "shards.json"
PIECE: Final = "zstd"
FORMATS: Final = ("yaml", "json", "txt")
KEYS: Final = frozenset({*(f"snapshot.{name}" for name in FORMATS), "format", "timestamp", SHARDS})
_ATTEMPTS: Final = 5
_AT_ONCE: Final = 16


class Document(msgspec.Struct, frozen=True):
    """A whole document as it was stored."""

    content: bytes
    format: str
    timestamp: str


class Stored(NamedTuple):
    """A document and its ConfigMap."""

    config_map: ConfigMap
    document: Document


class Listed(msgspec.Struct, frozen=True):
    """One document in a namespace."""

    name: str
    format: str
    timestamp: str
    version: str
    sharded: bool


def configmap_path(namespace: str, name: str = "") -> str:
    """Of one ConfigMap, or of all in a namespace."""
    return path_of("v1", "configmaps", namespace, name)


async def read_document(kube: Kube, namespace: str, name: str, limit: int = MOST_BYTES) -> bytes:
    """The whole document's bytes. Raises InputError when there is none or it is not whole, KubeError."""
    return (await get_document(kube, namespace, name, limit)).content


async def get_document(kube: Kube, namespace: str, name: str, limit: int = MOST_BYTES) -> Document:
    """The whole document. Raises InputError when there is none or it is not whole, KubeError."""
    return (await get_stored(kube, namespace, name, limit)).document


async def get_stored(
    kube: Kube, namespace: str, name: str, limit: int = MOST_BYTES, attempts: int = _ATTEMPTS
) -> Stored:
    """The whole document, and its ConfigMap. One attempt will do where nobody else writes.

    Raises InputError when there is none or it is not whole, KubeError.
    """
    why = ""
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(kube.pause(attempt, None))
        found = await kube.get(configmap_path(namespace, name), ConfigMap)
        index = shard_index(found)
        if index is not None and index.size > limit:
            raise _too_large(namespace, name, limit)
        if index is None:
            return Stored(found, _whole(found, namespace, name, limit))
        try:
            content = join(index, await _read_shards(kube, namespace, index), limit)
        except IncompleteError as error:  # replaced while we were reading, or really broken: look again
            why = str(error)
            continue
        except OverflowError:
            raise _too_large(namespace, name, limit) from None
        document = Document(content, found.data.get("format", "yaml"), found.data.get("timestamp", ""))
        return Stored(found, document)
    raise InputError(
        Code.INPUT_MALFORMED,
        f"cm://{namespace}/{name} is not whole: {why}",
        "Take the snapshot again.",
    )


async def _read_shards(kube: Kube, namespace: str, index: ShardIndex) -> list[bytes]:
    """All of them, a few at a time: an index may list any number. Raises IncompleteError, KubeError."""
    pieces: list[bytes] = []
    for at in range(0, len(index.shards), _AT_ONCE):
        some = index.shards[at : at + _AT_ONCE]
        pieces += await asyncio.gather(*(_read_shard(kube, namespace, shard.name) for shard in some))
        if sum(map(len, pieces)) > index.most_packed:
            raise IncompleteError("its parts are longer than its index says")
    return pieces


async def _read_shard(kube: Kube, namespace: str, shard: str) -> bytes:
    try:
        found = await kube.get(configmap_path(namespace, shard), ConfigMap)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            raise IncompleteError(f"its part {shard} is not there") from None
        raise
    return found.binary_data.get(PIECE, b"")


def shard_index(found: ConfigMap) -> ShardIndex | None:
    """What a document consists of; None when it is whole in its ConfigMap. Raises InputError."""
    text = found.data.get(SHARDS)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=ShardIndex)
    except msgspec.DecodeError as error:
        place = f"cm://{found.metadata.namespace}/{found.metadata.name}"
        raise InputError(Code.INPUT_MALFORMED, f"{place} has a {SHARDS} that is not an index of shards") from error


def is_ours(found: ConfigMap) -> bool:
    """Whether we may change it: by our labels; or by keys, as earlier tools wrote them, and no others."""
    labels, keys = found.metadata.labels, found.data.keys()
    labelled = labels.get(NAME) == "eidos" and labels.get(COMPONENT) == "snapshot"
    return labelled or (not found.binary_data and {"format", "timestamp"} <= keys <= KEYS)


def is_as_written(found: ConfigMap) -> bool:
    """Whether an index of ours still has the data it was written with, nothing more and nothing less."""
    return (
        is_ours(found)
        and not found.binary_data
        and found.metadata.annotations.get(DIGEST) == index_digest(found.data)
    )


def foreign(namespace: str, name: str) -> OutputError:
    """The error for a ConfigMap that is somebody else's and that we will not touch."""
    return OutputError(
        f"cm://{namespace}/{name} is left alone: a ConfigMap of that name is there and is not a snapshot of ours",
        "Choose another name, or delete that ConfigMap.",
    )


def listed_shards(found: ConfigMap | None) -> set[str]:
    """What the index that was replaced consisted of; nothing where it cannot be read."""
    try:
        index = shard_index(found) if found is not None else None
    except InputError:
        return set()
    return {shard.name for shard in index.shards} if index else set()


def _whole(found: ConfigMap, namespace: str, name: str, limit: int) -> Document:
    stated = found.data.get("format", "")
    for candidate in (stated, *FORMATS):
        text = found.data.get(f"snapshot.{candidate}")
        if text is not None:
            content = text.encode()
            if len(content) > limit:
                raise _too_large(namespace, name, limit)
            return Document(content, candidate, found.data.get("timestamp", ""))
    keys = ", ".join(sorted([*found.data, *found.binary_data])) or "none"
    raise InputError(
        Code.INPUT_WRONG_KIND,
        f"cm://{namespace}/{name} holds no snapshot: it has no key snapshot.yaml (keys: {keys})",
    )


def _too_large(namespace: str, name: str, limit: int) -> InputError:
    return InputError(Code.INPUT_TOO_LARGE, f"cm://{namespace}/{name} is longer than {limit} bytes")


async def delete_document(kube: Kube, namespace: str, name: str) -> bool:
    """Delete a document, shards included. False when there is none. Raises OutputError for what is not ours."""
    try:
        found = await kube.get(configmap_path(namespace, name), ConfigMap)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return False
        raise
    if not is_ours(found):
        raise foreign(namespace, name)
    deleted = await kube.delete(configmap_path(namespace, name), preconditions={"uid": found.metadata.uid})
    # Their owner is gone and the cluster would remove them in time; whoever looks now should find nothing.
    for shard in sorted(listed_shards(found)):
        await kube.delete(configmap_path(namespace, shard))
    return deleted


async def list_documents(kube: Kube, namespace: str) -> list[Listed]:
    """The documents in a namespace, by name."""
    found, _ = await kube.list(
        configmap_path(namespace), ConfigMap, {"labelSelector": f"{NAME}=eidos,{COMPONENT}=snapshot"}
    )
    listed = [
        Listed(
            name=item.metadata.name,
            format=item.data.get("format", ""),
            timestamp=item.data.get("timestamp", ""),
            version=item.metadata.labels.get(VERSION_LABEL, ""),
            sharded=SHARDS in item.data,
        )
        for item in found
    ]
    return sorted(listed, key=lambda item: item.name)

"""Writing documents to ConfigMaps (configmaps.py says how they are laid out), whole or not at all.

Shards are written first, the index after them, and what it replaced is removed last. Another writer's change in
between is noticed by the index's resourceVersion, and the write begins again. A ConfigMap that is not ours is never
touched.

Writers of equal content share shards, so one may remove what another has just come to need. Therefore a writer marks
its shards after its index stands, and a shard is removed only unchanged since it was last seen unneeded: either the
removal comes too late and fails, or the mark does, and that writer writes again.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from common.errors import Code, EidosError, OutputError
from common.excerpt import Excerpt
from common.kube.client import FIELD_MANAGER, METADATA_LIST, Kube, KubeError
from common.kube.configmaps import (
    COMPONENT,
    DIGEST,
    KEYS,
    NAME,
    PIECE,
    SHARDS,
    VERSION_LABEL,
    configmap_path,
    foreign,
    is_ours,
    listed_shards,
)
from common.kube.owner import OwnerFields
from common.kube.sharding import SHARD_BYTES, fitted, index_digest, split
from common.kube.types import ConfigMap, Metadata, ObjectMeta
from common.version import VERSION

INDEX_LABEL: Final = "eidos.nvidia.com/index"
_NEEDED_BY: Final = "eidos.nvidia.com/needed-by"
_ATTEMPTS: Final = 20
_EXCERPT_BYTES: Final = 800 << 10
_LONGEST_LABEL: Final = 63
_ORPHAN_AGE: Final = timedelta(hours=1)
"""Shards no index lists may be another writer's, whose index is still to come; none takes that long."""

Fence = Callable[[], Awaitable[None]]

_log: Final = logging.getLogger(__name__)


async def write_document(
    kube: Kube,
    namespace: str,
    name: str,
    content: bytes,
    document_format: str,
    excerpt: Excerpt,
    now: datetime | None = None,
    owner: OwnerFields | None = None,
    fence: Fence | None = None,
) -> ConfigMap:
    """Store a document whole or not at all; the index as it was stored.

    `excerpt` is asked when it needs shards; it goes when `owner` goes. `fence` is asked after the version has been
    read that the index will replace, and raises when we may no longer write: a writer that was held up for long
    replaces nothing that came after it.

    Raises OutputError when the ConfigMap there is somebody else's, KubeError, and what `fence` raises.
    """
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data, shards = _contents(name, content, document_format, excerpt, stamp)
    last: KubeError | None = None
    for attempt in range(_ATTEMPTS):
        if last is not None:
            await asyncio.sleep(kube.pause(attempt, last))
        current = await _current(kube, namespace, name)
        try:
            index = await _write_all(kube, namespace, name, data, shards, current, owner, fence)
            await _adopt(kube, namespace, name, shards, index.metadata)
        except KubeError as error:
            if error.code is not Code.CLUSTER_CONFLICT:
                raise
            last = error
            continue
        await _sweep(kube, namespace, name, keep=set(shards), replaced=listed_shards(current))
        return index
    raise last or AssertionError("every attempt returns or sets the error")


async def _write_all(
    kube: Kube,
    namespace: str,
    name: str,
    data: dict[str, str],
    shards: dict[str, bytes],
    current: ConfigMap | None,
    owner: OwnerFields | None,
    fence: Fence | None,
) -> ConfigMap:
    """Shards, then the index, which is returned. Where it is refused, the new shards go again."""
    made: list[ObjectMeta] = []
    try:
        await _all(_write_shard(kube, namespace, name, *shard, made) for shard in shards.items())
        if fence is not None:
            await fence()
        return await _write_index(kube, namespace, name, data, current, owner, fenced=fence is not None)
    except EidosError as error:
        # Only after a clear refusal: when the answer was lost, the index may stand and need them; after a conflict
        # the next attempt will.
        refused = not isinstance(error, KubeError) or 400 <= error.status < 500
        if refused and error.code is not Code.CLUSTER_CONFLICT:
            await _delete(kube, namespace, name, made)
        raise


async def check_document(kube: Kube, namespace: str, name: str) -> None:
    """Raise what `write_document` would most likely raise, by a dry run."""
    current = await _current(kube, namespace, name)
    try:
        await _write_index(kube, namespace, name, {"format": "yaml"}, current, None, dry_run=True)
    except KubeError as error:
        if error.code is not Code.CLUSTER_CONFLICT:  # that is for the write itself to settle
            raise


def _contents(
    name: str, content: bytes, document_format: str, excerpt: Excerpt, stamp: str
) -> tuple[dict[str, str], dict[str, bytes]]:
    """The index's data, and the shards by name."""
    key = f"snapshot.{document_format}"
    data = {"format": document_format, "timestamp": stamp}
    if len(content) <= SHARD_BYTES:
        return {key: _text(content), **data}, {}
    index, shards = split(content, name)
    listing = msgspec.json.encode(index)
    room = SHARD_BYTES - len(listing)
    if room <= 0:
        raise OutputError(f"the document has {len(content)} bytes, too many to store in ConfigMaps")
    return {key: _text(excerpt(min(_EXCERPT_BYTES, room))), SHARDS: listing.decode(), **data}, shards


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise OutputError("the document is not UTF-8 text, which a ConfigMap must be") from error


async def _current(kube: Kube, namespace: str, name: str) -> ConfigMap | None:
    """What is there now. Raises OutputError when it is not ours."""
    try:
        found = await kube.get(configmap_path(namespace, name), ConfigMap)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return None
        raise
    if not is_ours(found):
        raise foreign(namespace, name)
    return found


async def _write_shard(
    kube: Kube, namespace: str, name: str, shard: str, piece: bytes, made: list[ObjectMeta]
) -> None:
    """Create one shard and note it in `made`; one that is there already is as good."""
    labels = _labels("snapshot-shard") | {INDEX_LABEL: fitted(name, _LONGEST_LABEL)}
    body = _body(namespace, shard, labels) | {"immutable": True, "binaryData": {PIECE: piece}}
    try:
        made.append((await kube.create(configmap_path(namespace), body, Metadata)).metadata)
    except KubeError as error:
        if error.reason != "AlreadyExists":
            raise
        # An earlier attempt's, or an equal document's. The name stands for the content, but not for its owner.
        try:
            found = await kube.get(configmap_path(namespace, shard), ConfigMap)
        except KubeError as gone:
            raise _swept(gone, namespace, name) from None
        if found.binary_data.get(PIECE) != piece:
            raise foreign(namespace, shard) from None


async def _write_index(
    kube: Kube,
    namespace: str,
    name: str,
    data: dict[str, str],
    current: ConfigMap | None,
    owner: OwnerFields | None,
    *,
    dry_run: bool = False,
    fenced: bool = False,
) -> ConfigMap:
    """Apply at exactly the version that was read; where there was nothing, without taking anything over."""
    body = _body(namespace, name, _labels("snapshot")) | {"data": data}
    body["metadata"]["annotations"] = {DIGEST: index_digest(data)}
    if owner is not None:
        body["metadata"]["ownerReferences"] = [owner]
    if current is not None:
        body["metadata"]["resourceVersion"] = current.metadata.resource_version
    params = {"dryRun": "All"} if dry_run else {}
    path = configmap_path(namespace, name)
    if current is None and fenced:  # applying would merge ours into what an equal of ours has just written
        return await kube.create(configmap_path(namespace), body, ConfigMap)
    try:
        written = await kube.apply(path, body, ConfigMap, force=current is not None, params=params)
    except KubeError as error:
        if error.code is not Code.CLUSTER_FORBIDDEN:
            raise
        return await _write_index_without_patch(kube, namespace, name, body, current, params)
    if dry_run:
        return written
    if current is None and any(entry.manager != FIELD_MANAGER for entry in written.metadata.managed_fields):
        # Somebody created it in the same moment and we were merged into theirs: applying nothing takes ours back.
        await kube.apply(path, _body(namespace, name, {}), ConfigMap)
        raise foreign(namespace, name)
    stale = (written.data.keys() & KEYS) - data.keys()
    if stale:  # another tool's, in another format, which applying ours does not remove
        written = await kube.patch(path, {"data": dict.fromkeys(stale)}, ConfigMap)
    return written


async def _write_index_without_patch(
    kube: Kube, namespace: str, name: str, body: dict[str, Any], current: ConfigMap | None, params: dict[str, str]
) -> ConfigMap:
    """The Role documented for earlier tools allows create and update, not the patch that applying is."""
    if current is None:
        return await kube.create(configmap_path(namespace), body, ConfigMap, params)
    metadata = body["metadata"]
    metadata["labels"] = {**current.metadata.labels, **metadata["labels"]}
    metadata["annotations"] = {**current.metadata.annotations, **metadata["annotations"]}
    return await kube.replace(configmap_path(namespace, name), body, ConfigMap, params)


async def _adopt(kube: Kube, namespace: str, name: str, shards: Iterable[str], index: ObjectMeta) -> None:
    """Mark the shards as needed, and make the index their owner, so that deleting it deletes them."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": index.uid}
    marks = {_NEEDED_BY: uuid.uuid4().hex}  # never the same twice: the mark must change the shard's version
    body = {"metadata": {"ownerReferences": [owner], "annotations": marks}}
    try:
        await _all(kube.patch(configmap_path(namespace, shard), body, Metadata) for shard in shards)
    except KubeError as error:
        if error.code is not Code.CLUSTER_FORBIDDEN:
            raise _swept(error, namespace, name) from None
        _log.warning("deleting cm://%s/%s will leave its shards behind: %s", namespace, name, error.message)


def _swept(error: KubeError, namespace: str, name: str) -> KubeError:
    """A shard that is not there was removed by another writer: a conflict. Any other error is what it is."""
    if error.code is not Code.CLUSTER_NOT_FOUND:
        return error
    return KubeError(
        Code.CLUSTER_CONFLICT, f"cannot write cm://{namespace}/{name}: somebody else removed parts of it"
    )


async def _sweep(kube: Kube, namespace: str, name: str, keep: set[str], replaced: set[str]) -> None:
    """Delete the shards of what was replaced, and those a killed writer left. The document is stored by now."""
    selector = f"{COMPONENT}=snapshot-shard,{INDEX_LABEL}={fitted(name, _LONGEST_LABEL)}"
    before = (datetime.now(UTC) - _ORPHAN_AGE).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        there, _ = await kube.list(
            configmap_path(namespace), Metadata, {"labelSelector": selector}, accept=METADATA_LIST
        )
        unneeded = [
            shard
            for shard in (item.metadata for item in there)
            if shard.name not in keep and (shard.name in replaced or shard.creation_timestamp < before)
        ]
        if unneeded:
            # Looked at after the shards: an index that stands by now and needs one of them is seen here.
            needed = listed_shards(await _current(kube, namespace, name))
            await _delete(kube, namespace, name, [shard for shard in unneeded if shard.name not in needed])
    except EidosError as error:
        _log.warning("shards that cm://%s/%s no longer needs may be left: %s", namespace, name, error.message)


async def _delete(kube: Kube, namespace: str, name: str, shards: Iterable[ObjectMeta]) -> None:
    try:
        await _all(_delete_unchanged(kube, namespace, shard) for shard in shards)
    except KubeError as error:
        _log.warning("shards that cm://%s/%s no longer needs are left: %s", namespace, name, error.message)


async def _delete_unchanged(kube: Kube, namespace: str, shard: ObjectMeta) -> None:
    unchanged = {"uid": shard.uid, "resourceVersion": shard.resource_version}
    try:
        await kube.delete(configmap_path(namespace, shard.name), preconditions=unchanged)
    except KubeError as error:
        if error.code is not Code.CLUSTER_CONFLICT:  # then another writer needs it
            raise


async def _all(calls: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Make the calls at the same time and raise what went wrong first, when none is under way any more."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _body(namespace: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _labels(component: str) -> dict[str, str]:
    return {NAME: "eidos", COMPONENT: component, VERSION_LABEL: VERSION.replace("+", "_")}

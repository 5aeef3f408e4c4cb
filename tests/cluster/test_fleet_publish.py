"""ConfigMap eidos-fleet on a real API server: one whole document, small or in shards, whoever reads and when."""

import asyncio
import base64
import json

import msgspec
import pytest
import yaml
import zstandard

from aggregator.names import NodeNames
from aggregator.publish import FLEET, ConfigMapPublisher
from common.fleet import FleetMetadata, FleetSnapshot
from common.formats import Format, dump_plain
from common.kube.configmaps import SHARDS, get_document, read_document
from tests.aggregator.test_document import document_of, fleet
from tests.cluster.cluster import Cluster
from tests.cluster.kube_client import client_of, namespace

__all__ = ["namespace"]

pytestmark = pytest.mark.cluster


def documents(count: int, naming: str, runs: int = 1) -> list[FleetSnapshot]:
    """The same fleet in several runs."""
    nodes, contents = fleet(count, naming)
    document = document_of(nodes, contents, NodeNames(nodes))
    metadata = [FleetMetadata("1", f"run-{run}", f"2026-01-01T00:00:0{run}Z") for run in range(runs)]
    return [msgspec.structs.replace(document, metadata=each) for each in metadata]


def render(document: FleetSnapshot) -> bytes:
    """As it is published."""
    return dump_plain(document, Format.YAML)


def with_kubectl(cluster: Cluster, namespace: str, name: str = FLEET) -> dict[str, str]:
    """A ConfigMap as somebody with kubectl and nothing else sees it."""
    found = json.loads(cluster.kubectl("get", "configmap", name, f"--namespace={namespace}", "-o", "json"))
    return {key: value for part in ("data", "binaryData") for key, value in found.get(part, {}).items()}


async def test_a_small_document_is_read_with_kubectl_alone(cluster: Cluster, namespace: str) -> None:
    (document,) = documents(40, "counted")
    async with client_of(cluster.kubeconfig) as kube:
        await ConfigMapPublisher(kube, namespace).publish(document)
        stored = await get_document(kube, namespace, FLEET)
    data = with_kubectl(cluster, namespace)
    assert data == {
        "snapshot.yaml": render(document).decode(),
        "format": "yaml",
        "timestamp": document.metadata.timestamp,
    }
    assert (stored.content, stored.timestamp) == (render(document), document.metadata.timestamp)


async def test_a_large_document_is_whole_in_shards_and_its_excerpt_is_read_with_kubectl(
    cluster: Cluster, namespace: str
) -> None:
    (document,) = documents(20_000, "pool")
    content = render(document)
    assert len(content) > 900 << 10
    async with client_of(cluster.kubeconfig) as kube:
        await ConfigMapPublisher(kube, namespace).publish(document)
        assert await read_document(kube, namespace, FLEET) == content
    data = with_kubectl(cluster, namespace)
    excerpt = yaml.safe_load(data["snapshot.yaml"])
    assert excerpt["summary"] == yaml.safe_load(content)["summary"]
    assert "measurements" in excerpt["leftOut"]
    index = json.loads(data[SHARDS])
    pieces = [with_kubectl(cluster, namespace, shard["name"])["zstd"] for shard in index["shards"]]
    packed = b"".join(map(base64.b64decode, pieces))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == content


async def test_a_reader_polling_while_it_is_overwritten_sees_one_whole_document(
    cluster: Cluster, namespace: str
) -> None:
    """Sharded and small ones in turn, as a fleet that grows and shrinks would have it."""
    published = [*documents(20_000, "pool", runs=3), *documents(40, "counted", runs=3)]
    rendered = {render(document) for document in published}
    seen: list[bytes] = []
    async with client_of(cluster.kubeconfig, seconds=250) as kube:
        publisher = ConfigMapPublisher(kube, namespace)
        await publisher.publish(published[0])

        async def poll() -> None:
            while True:
                seen.append(await read_document(kube, namespace, FLEET))

        readers = [asyncio.create_task(poll()) for _ in range(3)]
        for large, small in zip(published[:3], published[3:], strict=True):
            await publisher.publish(large)
            await publisher.publish(small)
        for reader in readers:
            reader.cancel()
        ended = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    assert len(set(seen)) > 1, "something was overwritten while they read"
    assert set(seen) <= rendered

"""cm:// documents on a real API server."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from common.errors import OutputError
from common.kube.client import Kube
from common.kube.configmap_writer import check_document, write_document
from common.kube.configmaps import configmap_path, delete_document, list_documents, read_document
from common.kube.types import ConfigMap, Metadata
from common.kube.watch import Change, ChangeKind, Reset, watch
from tests.cluster.cluster import Cluster
from tests.cluster.kube_client import client_of, grant, namespace

__all__ = ["namespace"]

pytestmark = pytest.mark.cluster


def _noise(seed: int, length: int = 2_200_000) -> bytes:
    """Text that packs to half its length: two shards unless said otherwise."""
    return random.Random(seed).randbytes(length // 2).hex().encode()  # noqa: S311 - no secret


def _excerpt(limit: int) -> bytes:
    return b"kind: Snapshot\n"


async def _write(kube: Kube, namespace: str, content: bytes, name: str = "snap") -> None:
    await write_document(kube, namespace, name, content, "yaml", _excerpt)


async def _names(kube: Kube, namespace: str) -> set[str]:
    found, _ = await kube.list(configmap_path(namespace), Metadata)
    return {item.metadata.name for item in found} - {"kube-root-ca.crt"}


async def test_documents_of_every_size(cluster: Cluster, namespace: str) -> None:
    async with client_of(cluster.kubeconfig) as kube:
        for seed, length in enumerate((10, 900 << 10, (900 << 10) + 2, 9_000_000, 10)):
            content = _noise(seed, length)
            await check_document(kube, namespace, "snap")
            await _write(kube, namespace, content)
            assert await read_document(kube, namespace, "snap") == content
        assert await _names(kube, namespace) == {"snap"}
        found = await kube.get(configmap_path(namespace, "snap"), ConfigMap)
        assert [(entry.manager, entry.operation) for entry in found.metadata.managed_fields] == [("eidos", "Apply")]
        assert [item.name for item in await list_documents(kube, namespace)] == ["snap"]
    path = ".data.snapshot\\.yaml"
    assert (
        cluster.kubectl("get", "cm", "snap", f"--namespace={namespace}", "-o", f"jsonpath={{{path}}}")
        == _noise(4, 10).decode()
    )


async def test_deleting_the_index_deletes_its_shards(cluster: Cluster, namespace: str) -> None:
    async with client_of(cluster.kubeconfig) as kube:
        await _write(kube, namespace, _noise(1))
        shards = {"labelSelector": "app.kubernetes.io/component=snapshot-shard"}
        async with aclosing(watch(kube, configmap_path(namespace), Metadata, shards)) as events:
            first = await anext(events)
            assert isinstance(first, Reset)
            left = {item.metadata.name for item in first.items}
            assert len(left) > 1
            # By hand, as a user would: the garbage collector does the rest.
            cluster.kubectl("delete", "cm", "snap", f"--namespace={namespace}")
            while left:
                event = await anext(events)
                if isinstance(event, Change) and event.kind is ChangeKind.DELETED:
                    left.discard(event.item.metadata.name)
        await _write(kube, namespace, _noise(2))
        assert await delete_document(kube, namespace, "snap")
        assert not await _names(kube, namespace)


async def test_a_foreign_configmap_is_left_alone(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "-n", namespace, "--timeout=100s")
    async with client_of(cluster.kubeconfig) as kube:
        before = await kube.get(configmap_path(namespace, "kube-root-ca.crt"), ConfigMap)
        for content in (b"short", _noise(1)):
            with pytest.raises(OutputError, match="is left alone"):
                await _write(kube, namespace, content, "kube-root-ca.crt")
        assert await kube.get(configmap_path(namespace, "kube-root-ca.crt"), ConfigMap) == before
        assert not await _names(kube, namespace)


async def test_the_documented_roles_are_enough(cluster: Cluster, namespace: str) -> None:
    earlier = grant(cluster, namespace, "earlier", ("get,list,create,update", "configmaps"))
    ours = grant(cluster, namespace, "ours", ("get,list,create,update,patch,delete", "configmaps"))
    for kubeconfig in (earlier, ours):
        async with client_of(kubeconfig) as kube:
            for content in (b"short", _noise(1), _noise(2), b"short"):
                await check_document(kube, namespace, "snap")
                await _write(kube, namespace, content)
                assert await read_document(kube, namespace, "snap") == content


@asynccontextmanager
async def _readers(kube: Kube, namespace: str, whole: set[bytes]) -> AsyncIterator[list[bytes]]:
    """Four readers who read all the time; what they saw is in the list, and all of it is whole."""
    seen: list[bytes] = []

    async def keep_reading() -> None:
        while True:
            seen.append(await read_document(kube, namespace, "snap"))

    tasks = [asyncio.create_task(keep_reading()) for _ in range(4)]
    yield seen
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert set(seen) <= whole


async def test_writers_and_readers_at_once(cluster: Cluster, namespace: str) -> None:
    documents = [_noise(seed) for seed in range(3)]
    async with client_of(cluster.kubeconfig) as kube:
        await _write(kube, namespace, documents[0])
        async with _readers(kube, namespace, set(documents)) as seen:
            await asyncio.gather(*(_write(kube, namespace, document) for document in [*documents, documents[0]]))
        assert seen
        assert await read_document(kube, namespace, "snap") in documents


WRITER = """
import asyncio, sys, time
from common.kube.client import Kube
from common.kube.configmap_writer import write_document
from common.kube.target import load_target

async def main(kubeconfig, namespace, path):
    ask = Kube._request
    async def told(self, call, body, headers):
        answer = await ask(self, call, body, headers)
        print(call, flush=True)
        return answer
    Kube._request = told
    content = open(path, "rb").read()
    async with Kube(load_target(kubeconfig, environment={}), deadline=time.monotonic() + 60) as kube:
        await write_document(kube, namespace, "snap", content, "yaml", lambda limit: b"kind: Snapshot\\n")
    print("done", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(300)  # a process for each call after which it is killed
async def test_a_writer_killed_anywhere_leaves_readers_whole(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """kill -9 after the first, second, ... call of a sharded write that replaces another."""
    whole = {_noise(0)}
    async with client_of(cluster.kubeconfig, seconds=280) as kube:
        await _write(kube, namespace, _noise(0))
        calls = 0
        while True:
            calls += 1
            content = tmp_path / "content"
            content.write_bytes(_noise(calls))
            whole.add(_noise(calls))
            async with _readers(kube, namespace, whole) as seen:
                finished = await _write_and_kill(cluster, namespace, content, calls)
            assert seen
            assert await read_document(kube, namespace, "snap") in whole
            if finished:
                break
        assert calls > 8
        await _write(kube, namespace, b"short")
        assert await read_document(kube, namespace, "snap") == b"short"


async def _write_and_kill(cluster: Cluster, namespace: str, content: Path, calls: int) -> bool:
    """True when the writer was done before it had made so many calls."""
    arguments = (sys.executable, "-c", WRITER, str(cluster.kubeconfig), namespace, str(content))
    writer = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    heard = 0
    async for line in writer.stdout:
        heard += 1
        if line.strip() == b"done":
            await writer.wait()
            return True
        if heard == calls:
            writer.send_signal(signal.SIGKILL)
            break
    await writer.stdout.read()
    await writer.wait()
    return False

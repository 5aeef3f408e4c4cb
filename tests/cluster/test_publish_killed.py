"""A publisher killed with -9, over and over, wherever it happens to be: readers see one whole document or another."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.publish import FLEET
from common.formats import Format, dump_plain
from common.kube.configmaps import get_document
from tests.cluster.cluster import Cluster
from tests.cluster.kube_client import client_of, namespace
from tests.cluster.publisher import document

__all__ = ["namespace"]

pytestmark = pytest.mark.cluster

KILLS = 8
PUBLICATION = 0.3
"""Seconds; it is killed at any moment of them."""


async def test_killed_wherever_it_is(cluster: Cluster, namespace: str) -> None:
    chance = random.Random(7)  # noqa: S311  # no secret
    whole = {dump_plain(document(number), Format.YAML) for number in range(2)}
    seen, reading = set[bytes](), True

    async def read() -> None:
        """A document that is not whole raises."""
        async with client_of(cluster.kubeconfig, 300) as kube:
            while reading:
                seen.add((await get_document(kube, namespace, FLEET)).content)

    reader: asyncio.Task[None] | None = None
    for kill in range(KILLS):
        publisher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.cluster.publisher", str(cluster.kubeconfig), namespace, f"{kill % 2}"),
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert publisher.stdout is not None
        try:
            # The second line says that the first document stands.
            for _ in range(2):
                assert await publisher.stdout.readline() == b"publishing\n"
            reader = reader or asyncio.create_task(read())
            await asyncio.sleep(chance.uniform(0, PUBLICATION))
        finally:
            publisher.kill()
            await publisher.wait()
        assert not reader.done(), f"after {kill + 1} kills: {reader}"
    reading = False
    assert reader is not None
    await reader
    assert seen == whole, "nothing but whole documents, and both of them"

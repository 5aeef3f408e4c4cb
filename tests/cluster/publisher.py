"""`python -m tests.cluster.publisher KUBECONFIG NAMESPACE FIRST`: a leader that publishes two documents in turn."""

import asyncio
import itertools
import sys
from hashlib import sha256

from aggregator.cluster.lease import Elector, Standing
from aggregator.cluster.publishing import LeaderPublisher
from common.fleet import FleetMetadata, FleetSnapshot, Group, Summary
from common.kube import configmap_writer, sharding
from common.kube.client import Kube
from common.kube.target import load_target

SHARD_BYTES = 32 << 10
NOISE = 2_000
"""Digests in a document: more than one shard holds."""


def document(number: int) -> FleetSnapshot:
    """One that is stored in shards, and no part of which is like another's."""
    noise = " ".join(sha256(f"{number} {line}".encode()).hexdigest() for line in range(NOISE))
    return FleetSnapshot(
        metadata=FleetMetadata("1", f"run-{number}", "2026-01-01T00:00:00Z"),
        summary=Summary(0, 0, {}, 1, 0, 0, 0, 0),
        ledger=[],
        groups=[Group(0, "x", 1, noise)],
        outliers=[],
        collection=[],
        measurements=[],
    )


async def publish(kubeconfig: str, namespace: str, first: int) -> None:
    """Until somebody ends this process."""
    # What takes a megabyte elsewhere is done at once here.
    for module in (sharding, configmap_writer):
        vars(module)["SHARD_BYTES"] = SHARD_BYTES
    documents = [document(number) for number in (first, 1 - first)]
    async with Kube(load_target(kubeconfig, environment={})) as kube:
        elector = Elector(kube, namespace, "eidos-aggregator", "the-same-pod")
        running = asyncio.create_task(elector.run())
        standings = elector.standings()
        while await anext(standings) is not Standing.LEADING:
            continue
        publisher = LeaderPublisher(kube, namespace, elector)
        await publisher.take_over()
        for each in itertools.cycle(documents):
            print("publishing", flush=True)
            await publisher.publish(each)
        await running


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1], sys.argv[2], int(sys.argv[3])))

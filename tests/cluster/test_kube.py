"""The Kubernetes client on a real API server."""

import json
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.kube.configmaps import configmap_path
from common.kube.logs import logs
from common.kube.target import load_target
from common.kube.types import ConfigMap, Metadata, Node, Pod
from common.kube.watch import Change, ChangeKind, Reset, watch
from tests.cluster.cluster import Cluster
from tests.cluster.kube_client import client_of, grant, namespace
from tests.cluster.manifests import pod
from tests.fakes.proxy import FakeProxy

__all__ = ["namespace"]

pytestmark = pytest.mark.cluster

NODES = path_of("v1", "nodes")


async def test_refusals_say_what_is_refused(cluster: Cluster, namespace: str) -> None:
    async with client_of(grant(cluster, namespace, "nobody")) as kube:
        with pytest.raises(
            KubeError, match=rf'^list nodes is forbidden: User "system:serviceaccount:{namespace}:nobody"'
        ):
            await kube.list(NODES, Node)
        with pytest.raises(KubeError, match=f"^get configmaps x in namespace {namespace} is forbidden") as caught:
            await kube.get(configmap_path(namespace, "x"), ConfigMap)
    assert caught.value.code is Code.CLUSTER_FORBIDDEN
    async with client_of(cluster.kubeconfig) as kube:
        with pytest.raises(KubeError, match=r"^the namespace no-such was not found"):
            await kube.create(configmap_path("no-such"), {"metadata": {"name": "x"}}, Metadata)
        with pytest.raises(KubeError, match=r"has no clusterpolicies.nvidia.com"):
            await kube.list(path_of("nvidia.com/v1", "clusterpolicies"), Metadata)
        body = {"metadata": {"name": "x"}, "data": {"x": "x" * 1_048_577}}
        with pytest.raises(KubeError, match="Too long") as caught:
            await kube.create(configmap_path(namespace), body, Metadata)
    assert caught.value.code is Code.CLUSTER_INVALID


async def test_a_token_that_is_not_valid(cluster: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(cluster.token_kubeconfig("viewer").read_text().replace("eidos-test-viewer", "eidos-test-wrong"))
    async with client_of(wrong) as kube:
        with pytest.raises(KubeError, match="does not accept the credentials") as caught:
            await kube.list(NODES, Node)
    assert caught.value.code is Code.CLUSTER_UNAUTHORIZED


async def test_a_watch_outlives_its_connections(cluster: Cluster, namespace: str) -> None:
    with FakeProxy() as proxy:
        target = replace(load_target(str(cluster.kubeconfig), environment={}), proxy=proxy.url)
        async with (
            Kube(target, deadline=time.monotonic() + 60) as kube,
            aclosing(watch(kube, configmap_path(namespace), Metadata, {"labelSelector": "ours=yes"})) as events,
        ):
            first = await anext(events)
            assert first == Reset([])
            for number in range(4):
                body = {"metadata": {"name": f"m{number}", "labels": {"ours": "yes"}}}
                await kube.create(configmap_path(namespace), body, Metadata)
                event = await anext(events)
                assert isinstance(event, Change)
                assert (event.kind, event.item.metadata.name) == (ChangeKind.ADDED, f"m{number}")
                proxy.drop()
            await kube.delete(configmap_path(namespace, "m0"))
            event = await anext(events)
            assert isinstance(event, Change)
            assert event.kind is ChangeKind.DELETED
        assert len(proxy.asked) > 1


async def test_a_log_is_followed_through_lost_connections(cluster: Cluster, namespace: str) -> None:
    script = "n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo line $n; sleep 0.05; done"
    cluster.kubectl("apply", f"--namespace={namespace}", "-f", "-", stdin=json.dumps(pod("talker", "cpu-1", script)))
    lines: list[bytes] = []
    with FakeProxy() as proxy:
        target = replace(load_target(str(cluster.kubeconfig), environment={}), proxy=proxy.url)
        async with Kube(target, deadline=time.monotonic() + 60) as kube:
            await _until_running(kube, namespace, "talker")
            async with aclosing(logs(kube, namespace, "talker", follow=True)) as follow:
                async for line in follow:
                    lines.append(line)
                    if len(lines) in (5, 15, 25):
                        proxy.drop()
    assert lines == [b"line %d" % number for number in range(1, 41)]


async def _until_running(kube: Kube, namespace: str, name: str) -> None:
    path, selector = path_of("v1", "pods", namespace), {"fieldSelector": f"metadata.name={name}"}
    async with aclosing(watch(kube, path, Pod, selector)) as events:
        async for event in events:
            pods = event.items if isinstance(event, Reset) else [event.item]
            if any(one.status.phase in ("Running", "Succeeded") for one in pods):
                return

"""The cluster's own facts, from the API server's answer to everything that shows them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aggregator.ledger import Expected
from common.diff import diff
from common.formats import load_snapshot
from common.model import Absent, Collected, Failed, FailureCode, Ok, Scalar
from common.topology import TaintId
from tests.aggregator.api.test_http import NODES, User, api
from tests.aggregator.api.test_query import ask, counts
from tests.aggregator.api.test_watch import watching


class Cluster:
    """What the API server would say."""

    def __init__(self) -> None:
        self.server: dict[str, Scalar] = {"version": "v1.36.3", "platform": "linux/amd64"}
        self.answer: Collected | None = None
        self.kubelet = "v1.36.3"
        self.labels: Mapping[str, str] = {"zone": "a"}
        self.asked = 0

    async def read(self, seconds: float) -> Collected:
        self.asked += 1
        images = Ok({"driver": "550,570"})
        policy = Absent("the cluster has no resource of kind ClusterPolicy")
        return self.answer or Collected.of({"server": Ok(self.server), "image": images, "policy": policy})

    def expected(self) -> list[Expected]:
        return [
            Expected(
                name,
                labels={"host": name, **self.labels},
                taints=(TaintId("gpu", "NoSchedule", "yes"),) if name == "n1" else (),
                facts={"source-node": name, "provider": "eks", "kubelet-version": self.kubelet, "provider-id": name},
            )
            for name in NODES
        ]

    def surround(self, user: User) -> None:
        """Have the fleet be in it."""
        side = user.fleet.fleet.cluster
        side._read, side._expected = self.read, self.expected


async def run(user: User, **body: object) -> dict[str, Any]:
    status, answer, _ = await user.ask("POST", "/v1/runs", json=body)
    assert status == 200, answer
    document: dict[str, Any] = json.loads(answer)
    return document


async def test_without_a_cluster_there_is_nothing_of_it(tmp_path: Path) -> None:
    async with api(tmp_path, join=1) as user:
        assert "cluster" not in await run(user)
        node = await user.get("/v1/nodes/n1")
        assert not {"K8s", "NodeTopology"} & {measurement["type"] for measurement in node["measurements"]}


async def test_one_answer_is_in_everything(tmp_path: Path) -> None:
    cluster = Cluster()
    async with api(tmp_path) as user:
        cluster.surround(user)
        document = await run(user)
        assert cluster.asked == 1
        assert document["cluster"]["measurements"] == [
            {
                "type": "K8s",
                "subtypes": [
                    {"subtype": "image", "data": {"driver": "550,570"}},
                    {"subtype": "server", "data": {"platform": "linux/amd64", "version": "v1.36.3"}},
                ],
            },
            {
                "type": "NodeTopology",
                "subtypes": [{"subtype": "summary", "data": {"label-count": 6, "node-count": 5, "taint-count": 1}}],
            },
        ]
        (of_nodes,) = [m for m in document["measurements"] if m["type"] == "K8s"]
        assert of_nodes["subtypes"] == [
            {"subtype": "node", "count": 3, "data": {"kubelet-version": "v1.36.3", "provider": "eks"}}
        ]
        again = await run(user)
        assert {**again, "metadata": None} == {**document, "metadata": None}
        # A node's own Snapshot, as one-shot mode writes it.
        _, body, _ = await user.ask("GET", "/v1/nodes/n1")
        facts = load_snapshot(body, "n1").facts()
        assert facts["K8s", "server", "version"] == "v1.36.3"
        assert facts["K8s", "node", "provider-id"] == "n1"
        assert facts["NodeTopology", "taint", "gpu"] == "NoSchedule|yes|n1"
        assert facts["NodeTopology", "label", "zone"] == "a|n1,n2,n3,n4,n5"
        assert facts["NodeTopology", "label", "host.n2"] == "n2|n2"
        lines = {e["collector"]: e for e in json.loads(body)["collection"] if "subtype" not in e}
        assert lines["kubernetes"]["subtypes"] == ["image", "node", "server"]
        assert lines["topology"]["subtypes"] == ["label", "summary", "taint"]


async def test_queries_and_facts_know_it(tmp_path: Path) -> None:
    cluster = Cluster()
    async with api(tmp_path) as user:
        cluster.surround(user)
        await run(user)
        assert counts(await ask(user, 'semver(K8s.server.version) >= semver("1.36.0")')) == (3, 0, 0, 2)
        assert counts(await ask(user, 'NodeTopology.summary["node-count"] == 5 && has(K8s.image)')) == (3, 0, 0, 2)
        assert counts(await ask(user, 'K8s.node["provider-id"] == "n2"')) == (1, 2, 0, 2)
        assert (await user.get("/v1/facts/K8s.server.version"))["values"] == [
            {"count": 3, "nodes": "n[1-3]", "value": "v1.36.3"}
        ]
        assert (await user.get("/v1/facts/K8s.node.provider-id"))["own"] == {"n1": "n1", "n2": "n2", "n3": "n3"}
        # What could not be read is not what is not there.
        cluster.answer = Collected.of({"server": Ok({}), "image": Failed(FailureCode.API_FORBIDDEN, "forbidden")})
        await run(user)
        answer = await ask(user, "has(K8s.image.driver)")
        assert counts(answer) == (0, 0, 3, 2)
        assert counts(await ask(user, "has(K8s.policy.x)")) == (0, 3, 0, 2)


async def test_only_what_a_run_is_about(tmp_path: Path) -> None:
    cluster = Cluster()
    async with api(tmp_path) as user:
        cluster.surround(user)
        assert "cluster" not in await run(user, sections=["OS"])
        assert cluster.asked == 0
        topology = (await run(user, sections=["NodeTopology"], nodes="n[1-2]"))["cluster"]
        assert cluster.asked == 0
        assert topology["measurements"][0]["subtypes"][0]["data"]["node-count"] == 2
        assert topology["labels"][-1] == {"key": "zone", "value": "a", "count": 2}


@pytest.mark.parametrize(
    "answer",
    [
        Collected.failed(FailureCode.API_UNREACHABLE, "the API server cannot be reached"),
        Collected.failed(FailureCode.TIMEOUT, "the API server did not answer within the deadline"),
    ],
)
async def test_a_cluster_that_cannot_be_asked_fails_no_run(tmp_path: Path, answer: Collected) -> None:
    cluster = Cluster()
    cluster.answer = answer
    async with api(tmp_path) as user:
        cluster.surround(user)
        document = await run(user)
        assert document["summary"]["states"] == {"ok": 3, "no-agent": 2}
        line = document["cluster"]["collection"][0]
        assert answer.ending is not None
        assert (line["state"], line["reason"]) == ("failed", answer.ending.reason)


async def test_changes_of_the_cluster_and_of_labels_are_told(tmp_path: Path) -> None:
    cluster = Cluster()
    async with api(tmp_path) as user:
        cluster.surround(user)
        await run(user)
        async with watching(user) as lines:
            await lines.until(lambda event: event["event"] == "start")
            cluster.server = {**cluster.server, "version": "v1.37.0"}
            cluster.labels = {"zone": "b"}
            await run(user)
            told = await lines.until(lambda event: event["event"] == "cluster")
            assert told["facts"] == [
                {"type": "K8s", "subtype": "server", "key": "version", "before": "v1.36.3", "after": "v1.37.0"}
            ]
            (drift,) = [event for event in lines.seen if event["event"] == "drift"]
            assert drift["nodes"] == "n[1-5]"
            assert drift["facts"] == [
                {"type": "NodeTopology", "subtype": "label", "key": "zone", "before": "a", "after": "b"}
            ]


async def test_a_node_that_is_removed_in_the_middle_of_a_run_has_not_changed(tmp_path: Path) -> None:
    class Shrinking(Cluster):
        gone = ""

        def expected(self) -> list[Expected]:
            return [node for node in super().expected() if node.node != self.gone]

    cluster = Shrinking()
    async with api(tmp_path, join=0) as user:
        cluster.surround(user)
        user.fleet.fleet.runs._expected = cluster.expected
        for name in NODES:
            await user.fleet.join(name)
        before = await run(user)
        async with watching(user) as lines:
            await lines.until(lambda event: event["event"] == "start")
            read = cluster.read

            async def removing(seconds: float) -> Collected:
                cluster.gone = "n1"
                return await read(seconds)

            user.fleet.fleet.cluster._read = removing
            document = await run(user)
            assert cluster.gone
            assert (document["groups"], document.get("outliers")) == (before["groups"], before.get("outliers"))
            assert document["cluster"] == before["cluster"]
            await lines.until(lambda event: event["event"] == "run" and event["progress"]["state"] == "done")
            assert not [event for event in lines.seen if event["event"] in ("drift", "cluster")]


async def test_a_nodes_snapshots_are_compared_like_any_others(tmp_path: Path) -> None:
    cluster = Cluster()
    async with api(tmp_path) as user:
        cluster.surround(user)
        await run(user)
        before = load_snapshot((await user.ask("GET", "/v1/nodes/n1"))[1], "before")
        cluster.kubelet = "v1.37.0"
        cluster.answer = Collected.failed(FailureCode.API_UNREACHABLE, "the API server cannot be reached")
        await run(user)
        after = load_snapshot((await user.ask("GET", "/v1/nodes/n1"))[1], "after")
        result = diff(before, after)
        assert [(change.subtype, change.key, change.new) for change in result.changes] == [
            ("node", "kubelet-version", "v1.37.0")
        ]
        assert {(entry.side, entry.reason) for entry in result.incomparable} == {
            ("after", "failed (api_unreachable): the API server cannot be reached")
        }

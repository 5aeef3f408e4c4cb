"""NodeTopology: the documented texts, and nothing lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.topology import TopologyCollector
from common.kube import client
from common.model import Failed, FailureCode
from common.topology import LabelId, TaintId, encode_labels, encode_taints, node_list
from tests.agent.cluster_context import access, context_for, data_of, failure_of
from tests.fakes.apiserver import FakeApiServer, Fault


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def _node(name: str, labels: dict[str, str], *taints: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)} if taints else {}}


GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def test_the_documented_shape(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("nodes", _node("gpu-2", {"arch": "amd64", "gpu": "h100"}, GPU_TAINT))
    api.add(
        "nodes",
        _node("gpu-1", {"arch": "amd64", "gpu": "a100"}, GPU_TAINT, {"key": "dedicated", "effect": "NoExecute"}),
    )
    api.add("nodes", _node("cpu-1", {"arch": "arm64", "only": ""}))
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path))
    assert data_of(collected, "summary") == {"node-count": 3, "taint-count": 2, "label-count": 5}
    assert data_of(collected, "taint") == {
        "nvidia.com/gpu": "NoSchedule|present|gpu-1,gpu-2",
        "dedicated": "NoExecute||gpu-1",
    }
    assert data_of(collected, "label") == {
        "arch.amd64": "amd64|gpu-1,gpu-2",
        "arch.arm64": "arm64|cpu-1",
        "gpu.h100": "h100|gpu-2",
        "gpu.a100": "a100|gpu-1",
        "only": "|cpu-1",
    }


def test_long_lists_are_cut(api: FakeApiServer, tmp_path: Path) -> None:
    for number in range(5):
        api.add("nodes", _node(f"n{number}", {"a": "b"}))
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path, max_nodes_per_entry=2))
    assert data_of(collected, "label") == {"a": "b|n0,n1 (+3 more)"}


@pytest.mark.parametrize(
    ("most", "text"), [(0, "a,b,c"), (1, "a (+2 more)"), (2, "a,b (+1 more)"), (3, "a,b,c"), (9, "a,b,c")]
)
def test_node_lists(most: int, text: str) -> None:
    assert node_list(["c", "a", "b"], most) == text


def test_taints_that_share_a_key() -> None:
    taints = {
        TaintId("k", "NoSchedule", "a"): ["n1"],
        TaintId("k", "NoExecute", "a"): ["n2"],
        TaintId("same", "NoSchedule", "x"): ["n1"],
        TaintId("same", "NoSchedule", "y"): ["n2", "n1"],
    }
    assert encode_taints(taints, 0) == {
        "k.NoSchedule": "a|n1",
        "k.NoExecute": "a|n2",
        "same=x:NoSchedule": "x|n1",
        "same=y:NoSchedule": "y|n1,n2",
    }


def test_labels_whose_short_names_meet() -> None:
    labels = {
        LabelId("a", "b"): ["n1"],  # a.b ...
        LabelId("a", "c"): ["n2"],
        LabelId("a.b", "x"): ["n3"],  # ... is this key already
        LabelId("p", "q.r"): ["n1"],  # p.q.r twice
        LabelId("p", "s"): ["n2"],
        LabelId("p.q", "r"): ["n1"],
        LabelId("p.q", "t"): ["n2"],
    }
    assert encode_labels(labels, 0) == {
        "a=b": "b|n1",
        "a.c": "c|n2",
        "a.b": "x|n3",
        "p=q.r": "q.r|n1",
        "p.s": "s|n2",
        "p.q=r": "r|n1",
        "p.q.t": "t|n2",
    }


# Few letters, so that names meet often.
_words = st.text("ab.", min_size=1, max_size=5)
_nodes = st.lists(st.sampled_from(["n1", "n2", "n3"]), min_size=1, unique=True)


@given(st.dictionaries(st.builds(LabelId, _words, st.text("ab.", max_size=4)), _nodes))
def test_no_label_is_ever_lost(labels: dict[LabelId, list[str]]) -> None:
    data = encode_labels(labels, 0)
    assert len(data) == len(labels)
    assert sorted(map(str, data.values())) == sorted(
        f"{label.value}|{','.join(sorted(nodes))}" for label, nodes in labels.items()
    )


@given(
    st.dictionaries(
        st.builds(TaintId, _words, st.sampled_from(["NoSchedule", "a"]), st.text("ab", max_size=2)), _nodes
    )
)
def test_no_taint_is_ever_lost(taints: dict[TaintId, list[str]]) -> None:
    assert len(encode_taints(taints, 0)) == len(taints)


def test_thousands_come_in_pages(api: FakeApiServer, tmp_path: Path) -> None:
    for number in range(client.PAGE_SIZE * 2 + 1):
        api.add("nodes", _node(f"n{number:05}", {"kubernetes.io/hostname": f"n{number:05}", "arch": "amd64"}))
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path))
    assert data_of(collected, "summary")["label-count"] == 1002
    assert str(data_of(collected, "label")["arch"]).count(",") == 1000
    assert len(api.asked("list", "nodes")) == 3


def test_an_expired_list_counts_nobody_twice(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    for number in range(5):
        api.add("nodes", _node(f"n{number}", {"a": "b"}))
    api.faults = [Fault("status", "continue=", status=410, reason="Expired")]
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path))
    assert data_of(collected, "label") == {"a": "b|n0,n1,n2,n3,n4"}


def test_forbidden(api: FakeApiServer, tmp_path: Path) -> None:
    api.forbidden = {("list", "nodes")}
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path))
    expected = Failed(
        FailureCode.API_FORBIDDEN, 'list nodes is forbidden: User "tester" cannot list resource "nodes"'
    )
    assert [failure_of(collected, subtype) for subtype in ("summary", "taint", "label")] == [expected] * 3


def test_an_empty_cluster(api: FakeApiServer, tmp_path: Path) -> None:
    collected = TopologyCollector(access()).collect(context_for(api, tmp_path))
    assert data_of(collected, "summary") == {"node-count": 0, "taint-count": 0, "label-count": 0}
    assert data_of(collected, "label") == {}

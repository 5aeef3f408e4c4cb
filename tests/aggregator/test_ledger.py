"""Every expected node ends in exactly one state with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger import REMOVED, Agent, Answer, Entry, Expected, Sighting, failures_of, fold_ledger, settle
from aggregator.names import NodeNames, unfold_names
from common.fleet import NodeState
from common.model import CollectionEntry, FailureCode, MeasurementType, State
from common.wire import Closed

OK = Answer(stale=False, complete=True, failures="")


@pytest.mark.parametrize(
    ("node", "seen", "state", "reason"),
    [
        (Expected("n"), Sighting(connected=True, asked=True, answer=OK, facts_at=5.0), "ok", ""),
        (
            Expected("n"),
            Sighting(connected=True, asked=True, answer=Answer(False, True, "gpu (timeout)")),
            "partial",
            "gpu (timeout)",
        ),
        (
            Expected("n"),
            Sighting(connected=True, asked=True, answer=Answer(True, True, "")),
            "stale",
            "its collectors did not end in time",
        ),
        (
            Expected("n"),
            Sighting(connected=True, asked=True, answer=Answer(False, False, "")),
            "timeout",
            "answered, but not all of its content arrived",
        ),
        (Expected("n"), Sighting(connected=True, asked=True), "timeout", "no answer within 10 s"),
        (Expected("n"), Sighting(connected=True), "stale", "its agent connected after the run began"),
        (Expected("n"), Sighting(closed=Closed.SILENT), "unreachable", "link down: the agent fell silent"),
        (Expected("n", ready=False, reason="kubelet stopped"), Sighting(), "not-ready", "kubelet stopped"),
        (Expected("n", ready=False), Sighting(closed=Closed.LOST), "not-ready", "the node is not ready"),
        (Expected("n", ready=False), Sighting(connected=True, asked=True, answer=OK), "ok", ""),
        (Expected("n", removed=True), Sighting(connected=True, asked=True), "not-ready", REMOVED),
        (Expected("n", removed=True), Sighting(closed=Closed.GOING_AWAY), "not-ready", REMOVED),
        (Expected("n", removed=True), Sighting(connected=True, asked=True, answer=OK), "ok", ""),
        (Expected("n"), Sighting(), "no-agent", "no agent has connected"),
        (Expected("n"), Sighting(asked=True, answer=OK, closed=Closed.LOST), "ok", ""),
        (Expected("n", agent=Agent.DOWN, agent_reason="no pod"), Sighting(), "no-agent", "no pod"),
        (
            Expected("n", agent=Agent.DOWN, agent_reason="no pod"),
            Sighting(closed=Closed.LOST),
            "unreachable",
            "link down: no pod",
        ),
        (Expected("n", agent=Agent.RUNNING), Sighting(), "no-agent", "its agent runs, but has not connected"),
        (
            Expected("n", agent=Agent.RUNNING),
            Sighting(closed=Closed.SILENT),
            "unreachable",
            "link down: the agent fell silent",
        ),
        (
            Expected("n", ready=False, reason="kubelet", agent=Agent.DOWN, agent_reason="no pod"),
            Sighting(),
            "not-ready",
            "kubelet",
        ),
        (Expected("n", agent=Agent.DOWN, agent_reason="no pod"), Sighting(connected=True, answer=OK), "ok", ""),
    ],
)
def test_states(node: Expected, seen: Sighting, state: str, reason: str) -> None:
    (entry,) = settle([node], {"n": seen}, 10.0)
    assert (entry.state, entry.reason) == (state, reason)


@given(
    st.dictionaries(
        st.sampled_from([f"n{i}" for i in range(9)]),
        st.builds(
            Sighting,
            st.booleans(),
            st.booleans(),
            st.none() | st.builds(Answer, st.booleans(), st.booleans(), st.sampled_from(["", "gpu (timeout)"])),
            st.none() | st.sampled_from(Closed),
            st.none() | st.floats(0, 2e9),
        ),
    ),
    st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_every_expected_node_is_in_the_folded_ledger_exactly_once(
    sightings: dict[str, Sighting], ready: list[bool]
) -> None:
    expected = [Expected(f"n{i}", ready=is_ready) for i, is_ready in enumerate(ready)]
    entries = settle(expected, sightings, 10.0)
    names = NodeNames(node.node for node in expected)
    lines = fold_ledger(entries, names)
    unfolded = sorted(name for line in lines for name in unfold_names(line.nodes, names.table))
    assert unfolded == [f"n{i}" for i in range(9)]
    assert sum(line.count for line in lines) == 9
    assert all(line.reason for line in lines if line.state is not NodeState.OK)


def test_every_way_a_link_can_end_has_words() -> None:
    for closed in Closed:
        (entry,) = settle([Expected("n")], {"n": Sighting(closed=closed)}, 1.0)
        assert entry.state is NodeState.UNREACHABLE
        assert entry.reason.startswith("link down: the ")


def test_the_oldest_facts_of_a_line_are_dated_and_fresh_ones_are_not() -> None:
    entries = [
        Entry("a", NodeState.OK, facts_at=1000.0, fresh=True),
        Entry("b", NodeState.TIMEOUT, "late", facts_at=60.0),
        Entry("c", NodeState.TIMEOUT, "late", facts_at=0.0),
        Entry("d", NodeState.TIMEOUT, "late"),
    ]
    fine, late = fold_ledger(entries, NodeNames("abcd"))
    assert (fine.oldest, late.oldest) == ("", "1970-01-01T00:00:00Z")
    assert late.nodes == "b,c,d"


def test_absent_is_not_failed_and_failures_read_the_same_in_any_order() -> None:
    gpu = MeasurementType.GPU
    outcome = [
        CollectionEntry("systemd", MeasurementType.SYSTEMD, State.ABSENT, reason="no systemd"),
        CollectionEntry("gpu", gpu, State.PARTIAL),
        CollectionEntry("gpu", gpu, State.FAILED, "nvlink", FailureCode.TIMEOUT, "slow"),
        CollectionEntry("sysctl", MeasurementType.OS, State.FAILED, code=FailureCode.UNREADABLE),
    ]
    assert failures_of(outcome) == failures_of(outcome[::-1]) == "gpu.nvlink (timeout); sysctl (unreadable)"
    assert failures_of(outcome[:2]) == ""


def test_what_failed_alike_is_told_together_and_nothing_twice() -> None:
    denied, os = FailureCode.PERMISSION_DENIED, MeasurementType.OS
    outcome = [
        CollectionEntry("release", os, State.FAILED),
        CollectionEntry("release", os, State.FAILED, "release", denied, "no"),
        CollectionEntry("network", os, State.FAILED, code=denied),
        CollectionEntry("network", os, State.FAILED, "links", denied, "no"),
        CollectionEntry("network", os, State.FAILED, "routes", FailureCode.TOO_LARGE, "long"),
        CollectionEntry("sysctl", os, State.FAILED),
    ]
    told = "sysctl; network, network.links, release (permission_denied); network.routes (too_large)"
    assert failures_of(outcome) == failures_of(outcome[::-1]) == told

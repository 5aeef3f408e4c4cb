"""The words of Eidos: states of a collector, facts of a snapshot, and the order in which they are written."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model import (
    API_VERSION,
    READABLE_API_VERSIONS,
    Absent,
    Collected,
    CollectionEntry,
    Failed,
    FailureCode,
    MeasurementType,
    Metadata,
    Ok,
    Outcome,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)
from tests.common.snapshots import STAMP, snapshot_of

OK = Ok({"k": 1})
FAILED = Failed(FailureCode.UNREADABLE, "broken")
ABSENT = Absent("not here")


@pytest.mark.parametrize(
    ("collected", "state"),
    [
        (Collected.of({}), State.OK),
        (Collected.of({"a": OK}), State.OK),
        (Collected.of({"a": OK, "b": ABSENT}), State.OK),
        (Collected.of({"a": OK, "b": FAILED}), State.PARTIAL),
        (Collected.of({"a": OK, "b": FAILED, "c": ABSENT}), State.PARTIAL),
        (Collected.of({"a": FAILED}), State.FAILED),
        (Collected.of({"a": FAILED, "b": ABSENT}), State.FAILED),
        (Collected.of({"a": ABSENT}), State.ABSENT),
        (Collected.absent("no GPU"), State.ABSENT),
        (Collected.absent("no GPU", {"a": OK}), State.ABSENT),
        (Collected.failed(FailureCode.TIMEOUT, "late"), State.FAILED),
        (Collected.failed(FailureCode.TIMEOUT, "late", {"a": OK}), State.FAILED),
    ],
)
def test_one_word_for_a_collector(collected: Collected, state: State) -> None:
    assert collected.state is state


def test_collected_keeps_what_it_was_given() -> None:
    subtypes: dict[str, Outcome] = {"a": OK}
    for collected in (
        Collected.of(subtypes),
        Collected.absent("r", subtypes),
        Collected.failed(FailureCode.INTERNAL, "r", subtypes),
    ):
        assert collected.subtypes == subtypes
        assert collected.subtypes is not subtypes
    assert Collected.of(subtypes).ending is None
    assert Collected.absent("r").ending == Absent("r")
    assert Collected.failed(FailureCode.INTERNAL, "r").ending == Failed(FailureCode.INTERNAL, "r")


def test_names_that_other_programs_depend_on() -> None:
    assert [kind.value for kind in MeasurementType] == ["K8s", "GPU", "OS", "SystemD", "NodeTopology"]
    assert API_VERSION == "aicr.nvidia.com/v1alpha1"
    assert set(READABLE_API_VERSIONS) == {API_VERSION, "snapshot.dgxc.io/v1", "eidos.nvidia.com/v1alpha1"}
    assert all(code.value == code.name.lower() for code in FailureCode)
    assert set(get_args(Scalar)) == {str, int, float, bool}
    assert set(get_args(Outcome)) == {Ok, Absent, Failed}


def test_written_names_and_order_of_fields() -> None:
    entry = CollectionEntry("gpu", MeasurementType.GPU, State.FAILED, "smi", FailureCode.TIMEOUT, "late", ("a",))
    snapshot = Snapshot(
        metadata=Metadata(version="1", source_node="n", timestamp=STAMP),
        collection=[entry, CollectionEntry("os", MeasurementType.OS, State.OK)],
        measurements=in_order([(MeasurementType.OS, Subtype("x", {"k": 1}, {"c": "d"}))]),
    )
    assert msgspec.to_builtins(snapshot) == {
        "kind": "Snapshot",
        "apiVersion": API_VERSION,
        "metadata": {"version": "1", "source-node": "n", "timestamp": STAMP},
        "collection": [
            {
                "collector": "gpu",
                "type": "GPU",
                "state": "failed",
                "subtype": "smi",
                "code": "timeout",
                "reason": "late",
                "subtypes": ("a",),
            },
            {"collector": "os", "type": "OS", "state": "ok"},
        ],
        "measurements": [
            {"type": "OS", "subtypes": [{"subtype": "x", "data": {"k": 1}, "context": {"c": "d"}}]},
        ],
    }
    assert list(msgspec.to_builtins(snapshot)) == ["kind", "apiVersion", "metadata", "collection", "measurements"]


def test_entries_can_be_keys() -> None:
    entry = CollectionEntry("gpu", MeasurementType.GPU, State.OK, subtypes=("smi",))
    assert {entry: 1}[CollectionEntry("gpu", MeasurementType.GPU, State.OK, subtypes=("smi",))] == 1


def test_facts_are_keyed_by_type_subtype_and_key() -> None:
    facts = snapshot_of({"OS.a": {"x": 1, "y": "2"}, "GPU.a": {"x": True}, "SystemD.u.service": {}}).facts()
    assert facts == {("GPU", "a", "x"): True, ("OS", "a", "x"): 1, ("OS", "a", "y"): "2"}


_subtypes = st.tuples(
    st.sampled_from(MeasurementType),
    st.builds(
        Subtype,
        st.sampled_from("abc"),
        st.dictionaries(
            st.sampled_from("kln"), st.booleans() | st.integers(0, 2) | st.sampled_from("01"), max_size=3
        ),
        st.dictionaries(st.sampled_from("cd"), st.text(max_size=2), max_size=2),
    ),
)


@given(st.lists(_subtypes, max_size=10))
def test_everything_is_in_order(given_subtypes: list[tuple[MeasurementType, Subtype]]) -> None:
    measurements = in_order(given_subtypes)
    kinds = [measurement.type for measurement in measurements]
    assert kinds == [kind for kind in MeasurementType if kind in {kind for kind, _ in given_subtypes}]
    for measurement in measurements:
        names = [subtype.subtype for subtype in measurement.subtypes]
        assert names == sorted(set(names))
        for subtype in measurement.subtypes:
            assert list(subtype.data) == sorted(subtype.data)
            assert list(subtype.context) == sorted(subtype.context)


@given(st.lists(_subtypes, max_size=10))
def test_nothing_is_lost(given_subtypes: list[tuple[MeasurementType, Subtype]]) -> None:
    measurements = in_order(given_subtypes)
    kept = {
        (measurement.type, subtype.subtype.partition("#")[0], key, type(value), value)
        for measurement in measurements
        for subtype in measurement.subtypes
        for key, value in subtype.data.items()
    }
    offered = {
        (kind, subtype.subtype, key, type(value), value)
        for kind, subtype in given_subtypes
        for key, value in subtype.data.items()
    }
    assert kept == offered


def test_subtypes_given_twice() -> None:
    def named(*data: dict[str, Scalar]) -> dict[str, dict[str, Scalar]]:
        measurements = in_order((MeasurementType.OS, Subtype("x", one)) for one in data)
        return {subtype.subtype: subtype.data for subtype in measurements[0].subtypes}

    assert named({"a": 1}, {"b": 2}) == {"x": {"a": 1, "b": 2}}
    assert named({"a": 1}, {"a": 1}) == {"x": {"a": 1}}
    assert named({"a": 1}, {"a": 2}, {"a": 3}) == {"x": {"a": 1}, "x#2": {"a": 2}, "x#3": {"a": 3}}
    assert named({"a": 1}, {"a": True}) == {"x": {"a": 1}, "x#2": {"a": True}}
    assert named({"a": 1}, {"a": 2, "b": 1}, {"b": 1}) == {"x": {"a": 1, "b": 1}, "x#2": {"a": 2, "b": 1}}


def test_in_order_leaves_its_input_alone() -> None:
    subtype = Subtype("x", {"b": 1, "a": 2})
    in_order([(MeasurementType.OS, subtype), (MeasurementType.OS, Subtype("x", {"c": 3}))])
    assert list(subtype.data) == ["b", "a"]

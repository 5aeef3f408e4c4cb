"""/v1/facts: every node is somewhere, with a value, without one, or as one of which nobody knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from msgspec import UNSET, UnsetType

from aggregator.api import views
from aggregator.fleet import Fleet
from aggregator.own_facts import Wanted
from aggregator.published import as_run
from common.fleet import FleetSnapshot
from common.model import CollectionEntry, FailureCode, MeasurementType, Scalar, State
from tests.aggregator.api.test_http import api
from tests.aggregator.query.test_facts import document_of, made

SERIAL = "OS.firmware.dmi.product_serial"
GPU = MeasurementType.GPU


async def test_nodes_without_the_subtype_are_not_left_out(tmp_path: Path) -> None:
    async with api(tmp_path, join=5) as user:
        await user.fleet.run()
        view = await user.get("/v1/facts/GPU.smi.driver")
        assert [(value.get("value"), value["nodes"]) for value in view["values"]] == [
            ("570.86.15", "n[1,3-4]"), ("550.144.03", "n2"), (None, "n5"),
        ]  # fmt: skip
        assert "unknown" not in view


async def test_nodes_without_a_fact_of_their_own_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own_values(name: str, wanted: Sequence[Wanted]) -> list[Scalar | UnsetType] | None:
        odd: dict[str, list[Scalar | UnsetType] | None] = {"n1": [UNSET], "n3": [UNSET], "n4": None}
        return odd.get(name, [f"its-{name}"])

    async with api(tmp_path, join=5) as user:
        await user.fleet.run()
        monkeypatch.setattr(user.fleet.fleet, "own_values", own_values)
        place = {"type": "OS", "subtype": "firmware", "key": "dmi.product_serial"}
        assert await user.get(f"/v1/facts/{SERIAL}?limit=1") == place | {
            "values": [{"count": 2, "nodes": "n[1,3]"}], "own": {"n2": "its-n2"}, "unknown": "n4", "more": "n4",
        }  # fmt: skip
        assert await user.get(f"/v1/facts/{SERIAL}?limit=1&after=n4") == place | {"own": {"n5": "its-n5"}}


def test_what_could_not_be_read_is_not_said_to_be_not_there() -> None:
    def line(state: State, name: str = "", code: FailureCode | None = None, *read: str) -> CollectionEntry:
        return CollectionEntry("gpu", GPU, state, name, code, "reason", read)

    document = document_of(
        made("good", {(GPU, "smi"): {"driver": "1", "x": 1}}, line(State.OK, "", None, "smi")),
        made("none", {}, line(State.ABSENT)),
        made("dead", {}, line(State.FAILED, "", FailureCode.GPU_LOST)),
        made("part", {(GPU, "smi"): {"x": 1}}, line(State.PARTIAL, "", None, "smi"),
             line(State.FAILED, "smi[driver]", FailureCode.TIMEOUT)),
    )  # fmt: skip
    assert shown(document, "GPU.smi.driver") == ({"good": "1", "none": None}, "dead,part")
    assert shown(document, "GPU.smi.x") == ({"good,part": 1, "none": None}, "dead")


def shown(document: FleetSnapshot, name: str) -> tuple[dict[str, Scalar | None], str]:
    """Values by nodes, and the nodes of which nobody knows. The document has it all: no fleet is needed."""
    view = views.fact(cast(Fleet, None), as_run(document), document, name, "", 1)
    return {value.nodes: None if value.value is UNSET else value.value for value in view.values}, view.unknown

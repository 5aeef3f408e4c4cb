"""A thousand nodes whose agents never come, beside two whose do: named at once, waited for by nobody."""

import json
from collections.abc import Iterator

import pytest
import yaml

from common.nodeset import unfold_names
from tests.cluster.fleetmode import Fleet

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

COUNT = 1000


@pytest.fixture(scope="module")
def crowded(installed: Fleet) -> Iterator[Fleet]:
    """The nodes come when the fleet is there already. kwok plays their pods, which never say a word."""
    installed.cluster.kwok(COUNT, name_length=20, labels=5)
    yield installed
    installed.cluster.remove_kwok()


def test_nodes_without_agents_are_named_and_not_waited_for(crowded: Fleet) -> None:
    done = crowded.eidos("snapshot", "--format", "yaml", "--deadline", "60s")
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(done.stdout)
    names = {
        name
        for line in document["ledger"]
        if line["state"] == "no-agent"
        for name in _unfolded(line["nodes"], document.get("nodeTable", []))
    }
    assert names == {f"kwok-{index:06d}-".ljust(20, "x") for index in range(COUNT)}
    assert {line["state"]: line["count"] for line in document["ledger"] if line["state"] == "ok"} == {"ok": 2}
    # It ended when the two had answered, not at its deadline.
    assert "timeout" not in {line["state"] for line in document["ledger"]}


def test_they_are_listed_by_name(crowded: Fleet) -> None:
    done = crowded.eidos("nodes", "--state", "no-agent", "--format", "json")
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert len(items) == COUNT
    assert all(item["node"].startswith("kwok-") and item["reason"] for item in items)


def test_the_status_says_so_too(crowded: Fleet) -> None:
    done = crowded.eidos("status")
    assert done.returncode == 0, done.stderr
    assert f"2 of {COUNT + 2} nodes connected" in done.stdout


def _unfolded(nodes: str, table: list[str]) -> list[str]:
    return [table[int(name[1:])] if name.startswith("@") else name for name in unfold_names(nodes)]

"""`eidos fleet ...` against a real fleet of processes on this machine."""

import json
import os
from pathlib import Path

import msgspec
import pytest
import yaml

from cli import fleet_client
from cli.main import run
from common.fleet import FleetSnapshot
from tests.cli.conftest import Demo

NODES = ["grace-arm64-1", "grace-arm64-2", "grace-arm64-3", "h100-8x-ib-1", "h100-8x-ib-2", "h100-8x-ib-3"]
SWAPPINESS = "OS.sysctl./proc/sys/vm/swappiness"


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints; it must end well and be silent on standard error."""
    assert run(["fleet", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "\x1b" not in captured.out
    return captured.out


def test_snapshot_in_a_pipe_is_yaml_of_every_node(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    document = msgspec.convert(yaml.safe_load(out(capsys, "snapshot")), FleetSnapshot)
    assert document.kind == "FleetSnapshot"
    assert document.summary.expected == document.summary.folded == 7
    assert document.summary.states == {"ok": 7}
    assert document.summary.outliers == 2
    assert [line.state for line in document.ledger] == ["ok"]


@pytest.mark.parametrize(("name", "start"), [("a.json", b"{"), ("a.yaml", b"kind: FleetSnapshot")])
def test_snapshot_into_a_file(
    fleet: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, start: bytes
) -> None:
    assert out(capsys, "snapshot", "-o", str(tmp_path / name)) == ""
    assert (tmp_path / name).read_bytes().startswith(start)


def test_snapshot_as_a_table(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "snapshot", "--format", "table")
    assert text.startswith("Fleet snapshot of 7 nodes  20")
    assert "\nGROUPS" in text
    assert "\nOUTLIERS" in text
    assert "h100-8x-ib-3 (1)  unlike h100-8x-ib-[1-2] (2)\n" in text


def test_snapshot_of_some_nodes_and_sections(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--nodes", "h100-8x-ib-[1-2]", "--sections", "os", "--deadline", "30s", "--selector", "a!=b")
    document = json.loads(out(capsys, "snapshot", "--format", "json", *chosen))
    assert document["summary"]["expected"] == 2
    assert [measurement["type"] for measurement in document["measurements"]] == ["OS"]
    assert document["groups"][0]["nodes"] == "h100-8x-ib-[1-2]"


def test_snapshot_of_nobody_is_said(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "snapshot", "--selector", "no-such-label", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["summary"]["expected"] == 0
    assert captured.err == "Warning: no node of the fleet is selected\n"


def test_status(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "status")
    assert text.startswith("7 of 7 nodes connected\nFleet snapshot of 7 nodes")
    assert "STATE  CONNECTED  COUNT  REASON  NODES" in text
    status = json.loads(out(capsys, "status", "--format", "json"))
    assert (status["expected"], status["connected"]) == (7, 7)
    assert status["snapshot"]["summary"]["outliers"] == 2
    (line,) = status["nodes"]
    assert line["state"] == "ok"
    assert line["nodes"].startswith("grace-arm64-[1-3],h100-8x-ib-[1-3]")


def test_nodes(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = out(capsys, "nodes").splitlines()
    assert header.split() == ["NODE", "STATE", "CONNECTED", "GROUP", "FACTS", "OF", "REASON"]
    assert [line.split()[0] for line in lines][:6] == NODES
    assert {line.split()[1] for line in lines} == {"ok"}
    assert json.loads(out(capsys, "nodes", "--format", "json", "--state", "timeout,no-agent")) == {"items": []}


def test_pages_are_put_together(
    fleet: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = out(capsys, "nodes", "--format", "json")
    own = out(capsys, "fact", "OS.sysctl./proc/sys/kernel/hostname")
    monkeypatch.setattr(fleet_client, "MOST_ITEMS", 2)
    assert out(capsys, "nodes", "--format", "json") == whole
    assert out(capsys, "fact", "OS.sysctl./proc/sys/kernel/hostname") == own
    assert [item["node"] for item in json.loads(whole)["items"]][:6] == NODES
    assert [line.split(":")[0] for line in own.splitlines()[1:7]] == NODES


def test_a_node_is_what_one_shot_mode_writes_there(
    fleet: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far, near = tmp_path / "far.yaml", tmp_path / "near.yaml"
    assert out(capsys, "node", "h100-8x-ib-1", "-o", str(far)) == ""
    monkeypatch.setenv("NODE_NAME", "h100-8x-ib-1")
    root = str(fleet.directory / "hosts" / "h100-8x-ib")
    assert run(["snapshot", "--host-root", root, "--collectors", "OS", "-o", str(near)]) == 0

    def without_time(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if not line.startswith("  timestamp:")]

    assert without_time(far) == without_time(near)
    assert len(without_time(far)) > 1000
    assert out(capsys, "node", "h100-8x-ib-1", "--format", "table").startswith("Snapshot of h100-8x-ib-1  ")


def test_groups(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "groups")
    blocks = text.split("\n\n")
    assert blocks[0].splitlines()[:3] == ["-" * 15, "grace-arm64-[1-2] (2)  group 0", "-" * 15]
    assert "  OS.cpu.model-name                     Neoverse-V2" in blocks[0].splitlines()
    assert "as group 1, but for:\n  OS.sysctl./proc/sys/vm/swappiness  97  instead of 60" in text
    items = json.loads(out(capsys, "groups", "--format", "json"))["items"]
    assert [item["count"] for item in items] == [2, 2, 1, 1, 1]


def test_outliers(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = out(capsys, "outliers").split("\n\n")
    assert [block.splitlines()[1] for block in blocks] == [
        "grace-arm64-3 (1)  unlike grace-arm64-[1-2] (2)",
        "h100-8x-ib-3 (1)  unlike h100-8x-ib-[1-2] (2)",
    ]
    assert blocks[0].splitlines()[3:] == ["  OS.kmod.nouveau  true  instead of (not there)"]
    items = yaml.safe_load(out(capsys, "outliers", "--format", "yaml"))["items"]
    (fact,) = items[1]["facts"]
    assert (fact["key"], fact["value"], fact["expected"]) == ("/proc/sys/vm/swappiness", "97", "60")


def test_fact(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, "fact", SWAPPINESS).splitlines()
    assert lines[0] == SWAPPINESS
    assert lines[-4:] == ["-" * 15, "h100-8x-ib-3 (1)", "-" * 15, "97"]
    view = json.loads(out(capsys, "fact", SWAPPINESS, "--format", "json"))
    assert [(value["value"], value["count"]) for value in view["values"]][-1] == ("97", 1)


def test_a_fact_of_each_node_alone(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, "fact", "OS.sysctl./proc/sys/kernel/hostname").splitlines()
    assert lines[1] == "grace-arm64-1: gh200-3"


def test_a_name_that_no_node_has_is_pointed_out(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "snapshot", "--nodes", "h100-8x-ib-1,h100-8x-ib-[98-99]", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["summary"]["expected"] == 1
    assert captured.err == "Warning: the fleet has no h100-8x-ib-[98-99]\n"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["status", "--server", "https://127.0.0.1:1"], 4, "cannot be reached: connection refused. Check --server"),
        (["status", "--server", "http://127.0.0.1:1"], 2, "is not https. A token is sent over TLS only"),
        (["status", "--server", "https://[::1"], 2, "no address of an aggregator"),
        (["status", "--server", "https://127.0.0.1:x"], 2, "no address of an aggregator"),
        (["status", "--server", "ftp://127.0.0.1"], 2, "no address of an aggregator"),
        (["status", "--server", "https://gpu..x:8444"], 2, "no address of an aggregator"),
        (["status", "--server", f"https://{'a' * 70}"], 2, "no address of an aggregator"),
        (["status", "--server", "https://a b:8444"], 2, "no address of an aggregator"),
        (["status", "--server", ""], 2, "no aggregator is named, and KUBECONFIG is /nonexistent, where there is no"),
        (["status", "--ca", "/dev/null"], 2, "/dev/null holds no certificate in PEM"),
        (["node", "n" * 100_000], 2, "is longer than any address of an aggregator"),
        (["fact", f"OS.{'k' * 30_000}"], 2, "is longer than any address of an aggregator"),
        (["nodes", "--state", "ok" * 30_000], 2, "is longer than any address of an aggregator"),
        (["status", "--ca", "/nonexistent"], 2, "/nonexistent does not exist"),
        (["status", "--ca", "/etc/passwd"], 2, "holds no certificate in PEM"),
        (["status", "--ca", ""], 4, "is not to be trusted: unable to get local issuer certificate. Give the CA"),
        (["status", "--token-file", "/dev/null"], 2, "/dev/null holds no token"),
        (["status", "--token-file", ""], 4, "wants a user's token. Give one with --token-file"),
        (["node", "no-such-node"], 4, "nothing is known of a node 'no-such-node'. eidos fleet nodes lists"),
        (["node", "../../livez"], 4, "nothing is known of a node"),
        (["fact", "OS.sysctl.nope"], 4, "no node has a fact 'OS.sysctl.nope'. Write it as Type.subtype.key"),
        (["nodes", "--state", "fine"], 2, "there is no state 'fine'. Choose from ok, partial"),
        (["snapshot", "--nodes", "gpu-[1"], 2, "'gpu-[1' in the node set"),
        (["snapshot", "--nodes", "nope-[1-2]"], 2, "the fleet has no node 'nope-[1-2]'. eidos fleet nodes lists"),
        (["snapshot", "--selector", "a=b=c"], 2, "is not a label selector"),
        (["snapshot", "--sections", "disks"], 2, "there is no section 'disks'. Choose from "),
        (["snapshot", "--deadline", "1h"], 2, "the deadline must be more than 0 and at most"),
        (["snapshot", "-o", "/nonexistent/a"], 2, "/nonexistent/a"),
        (["snapshot", "--nodes", "n" * 66_000], 2, "more than the aggregator takes. Name fewer nodes"),
        (["demo", "--nodes", "3"], 2, "3 is not in the range"),
        (["snapsho"], 2, "Did you mean 'snapshot'?"),
    ],
)
def test_trouble_is_one_sentence_and_a_status(
    fleet: Demo, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:
    assert run(["fleet", *arguments]) == status
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("Error: ") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_another_fleets_ca_and_token(fleet: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import trustme

    ca, token = tmp_path / "ca.crt", tmp_path / "token"
    trustme.CA().cert_pem.write_to_path(str(ca))
    token.write_text("not-the-token\n")
    assert run(["fleet", "status", "--ca", str(ca)]) == 4
    assert "is not to be trusted" in capsys.readouterr().err
    assert run(["fleet", "status", "--token-file", str(token)]) == 4
    error = capsys.readouterr().err
    assert "The token given is not accepted" in error
    assert "not-the-token" not in error


def test_the_port_for_agents_is_told_from_that_for_users(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Path(f"/proc/{fleet.child('--health-port')}/cmdline").read_text().split("\0")
    link = agent[agent.index("--aggregator") + 1]
    assert run(["fleet", "status", "--server", link]) == 4
    error = capsys.readouterr().err
    assert "Check --server: agents dial another port than users" in error


def test_a_path_in_the_address_is_pointed_out(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "status", "--server", os.environ["EIDOS_SERVER"] + "/foo"]) == 4
    assert "/foo does not know what is asked. Check --server: its address has no path." in capsys.readouterr().err


def test_the_scheme_may_be_left_out(fleet: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    address = os.environ["EIDOS_SERVER"].removeprefix("https://")
    assert " of 7" in out(capsys, "status", "--server", address)

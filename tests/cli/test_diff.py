"""`eidos diff`: what a person and a script see."""

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from aggregator.published import read_published
from cli.main import run
from common.fleet import FleetMetadata
from common.formats import Format, dump_plain
from tests.aggregator.test_fleet_diff import fleet
from tests.conftest import cannot_run_here

BEFORE = """\
kind: Snapshot
apiVersion: aicr.nvidia.com/v1alpha1
metadata: {version: 0.1.0, source-node: gpu-001, timestamp: "2026-01-01T00:00:00Z"}
measurements:
- type: OS
  subtypes:
  - subtype: sysctl
    data: {/proc/sys/vm/swappiness: "60", /proc/sys/vm/gone: "1", /proc/sys/fs/file-nr: "1 2 3"}
"""
AFTER = (
    BEFORE.replace('"60"', '"10"').replace("vm/gone", "vm/come").replace("1 2 3", "4 5 6").replace("01T00", "02T00")
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "a.yaml").write_text(BEFORE)
    (tmp_path / "b.yaml").write_text(AFTER)
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_names_exactly_what_changed(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *files]) == 0
    out = capsys.readouterr().out
    changes = [line.split(maxsplit=2) for line in out.splitlines() if line.startswith("  ")]
    assert changes == [
        ["+", "/proc/sys/vm/come", "1"],
        ["-", "/proc/sys/vm/gone", "1"],
        ["~", "/proc/sys/vm/swappiness", "60 → 10"],
    ]
    assert "Drift: 1 added, 1 removed, 1 changed" in out


def test_exit_status(files: tuple[str, str]) -> None:
    assert run(["diff", *files, "--fail-on-drift"]) == 1
    assert run(["diff", files[0], files[0], "--fail-on-drift"]) == 0
    assert run(["diff", *files, "--fail-on-drift", "--ignore", "OS.sysctl.*"]) == 0


@pytest.mark.parametrize("output_format", ["json", "yaml"])
def test_for_programs(files: tuple[str, str], capsys: pytest.CaptureFixture[str], output_format: str) -> None:
    assert run(["diff", *files, "--format", output_format]) == 0
    out = capsys.readouterr().out
    document = json.loads(out) if output_format == "json" else yaml.safe_load(out)
    assert {"change": "changed", "type": "OS", "subtype": "sysctl", "key": "/proc/sys/vm/swappiness", "old": "60",
            "new": "10"} in document["changes"]  # fmt: skip
    assert len(document["changes"]) == 3


def test_output_to_a_file(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *files, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == ""
    assert "Drift" in (tmp_path / "out").read_text()


def test_standard_input(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BEFORE.encode())))
    assert run(["diff", files[0], "-", "--fail-on-drift"]) == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02\x7fELF", "not text"),
        (b"\xff\xfe\x00", "not text"),
        (b"a: [1, 2", "not valid YAML"),
        (b"- 1\n- 2\n", "kind"),
        (b"kind: Pod\napiVersion: v1\n", "Pod"),
        (b"kind: Snapshot\napiVersion: v9\nmetadata: {}\nmeasurements: []\n", "v9"),
        (b"a: &a [x]\nb: [*a, *a]\n", "anchor"),
        (b"[" * 5000, "nested"),
        (BEFORE.replace("swappiness:", "gone:").encode(), "twice"),
    ],
)
def test_what_is_no_snapshot_is_one_sentence_and_status_2(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(content)
    assert run(["diff", files[0], str(bad)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(bad) in captured.err
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("text", ["kind: {}\n", "kind: Snapshot\napiVersion: {}\n"])
def test_a_huge_value_does_not_make_a_huge_sentence(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.format("a" * (1 << 20)))
    assert run(["diff", files[0], str(bad)]) == 2
    assert len(capsys.readouterr().err) < 1000


def test_inputs_that_cannot_be_read(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(65 << 20)
    for path, sentence in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "directory"), (huge, "longer than")):
        assert run(["diff", files[0], str(path)]) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert sentence in error


def test_takes_what_the_tool_before_wrote(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[3] / "shared/samples/h100-eks.yaml"
    if not path.exists():
        cannot_run_here(f"the sample snapshot of the tool before is not at {path}")
    sample = str(path)
    assert run(["diff", sample, sample, "--fail-on-drift"]) == 0
    assert "No drift" in capsys.readouterr().out
    assert run(["diff", files[0], sample]) == 0
    assert "gpu-001 and ip-10-0-158-18.ec2.internal" in capsys.readouterr().out


@pytest.fixture
def fleets(tmp_path: Path) -> tuple[str, str]:
    """Two documents of a fleet, as they are published."""
    before, after = fleet("v1.36.3", "a", n1=1, n2=1, gone=1), fleet("v1.37.0", "b", n1=2, n2=2, new=1)
    for name, document in (("a", before), ("b", after)):
        metadata = FleetMetadata("0.1.0", f"run-{name}", "2026-01-01T00:00:00Z")
        (tmp_path / f"{name}.yaml").write_bytes(dump_plain(replace(document, metadata=metadata), Format.YAML))
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_two_fleets(fleets: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *fleets, "--fail-on-drift"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Diff of a fleet  2026-01-01T00:00:00Z (run run-a) → 2026-01-01T00:00:00Z (run run-b)",
        "",
        "the cluster",
        "  ~ K8s.server.version  v1.36.3 → v1.37.0",
        "",
        "n[1-2] (2)",
        "  ~ OS.x.k                   1 → 2",
        "  ~ NodeTopology.label.zone  a → b",
        "",
        "new  new (1)",
        "",
        "gone  gone (1)",
        "",
        "Drift: 2 changes of facts on 2 nodes, 1 of the cluster.",
    ]
    assert run(["diff", fleets[0], fleets[0], "--fail-on-drift"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No drift."
    assert run(["diff", *fleets, "--format", "json", "--ignore", "NodeTopology.label.*"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["kind"], len(written["changes"])) == ("FleetSnapshotDiff", 1)


def test_one_change_on_one_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in (1, 2):
        (tmp_path / f"{value}.yaml").write_bytes(dump_plain(fleet("v1", "a", n1=value), Format.YAML))
    assert run(["diff", str(tmp_path / "1.yaml"), str(tmp_path / "2.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Drift: 1 change of facts on 1 node."


def test_fleets_asked_for_different_things(
    fleets: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = replace(read_published(Path(fleets[0]).read_bytes(), fleets[0]), measurements=[], collection=[])
    (tmp_path / "c.yaml").write_bytes(dump_plain(document, Format.YAML))
    assert run(["diff", fleets[0], str(tmp_path / "c.yaml"), "--fail-on-drift"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "Not compared",
        "  GPU      after  not collected",
        "  OS       after  not collected",
        "  SystemD  after  not collected",
        "",
        "No drift in what could be compared.",
    ]


def test_a_fleet_and_a_node_are_not_compared(
    fleets: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = tmp_path / "node.yaml"
    node.write_text(BEFORE)
    assert run(["diff", fleets[0], str(node)]) == 2
    assert "one of them is a FleetSnapshot and the other one node's Snapshot" in capsys.readouterr().err

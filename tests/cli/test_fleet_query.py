"""`eidos fleet query` against a real fleet of processes."""

import json
from pathlib import Path
from textwrap import indent

import msgspec
import pytest
import yaml

from cli.fleet_query import _shown, lines
from cli.main import run
from common.fleet_api import Match, QueryGroup, QueryResult
from tests.cli.conftest import Demo

SWAPPINESS = 'OS.sysctl["/proc/sys/vm/swappiness"]'


@pytest.fixture
def taken(fleet: Demo) -> Demo:
    """There is a snapshot."""
    assert run(["fleet", "snapshot", "--format", "json"]) == 0
    return fleet


def query(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0, told: str = "") -> str:
    capsys.readouterr()
    assert run(["fleet", "query", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(told) if told else captured.err == ""
    return captured.out


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_everything_as_a_document(taken: Demo, capsys: pytest.CaptureFixture[str], form: str) -> None:
    text = query(capsys, f"int({SWAPPINESS}) == 97", "--format", form)
    document = json.loads(text) if form == "json" else yaml.safe_load(text)
    result = msgspec.convert(document, QueryResult)
    assert (result.matched, result.nodes, result.items) == (1, "h100-8x-ib-3", ["h100-8x-ib-3"])
    assert result.groups[0].result is Match.MATCHED
    assert result.groups[0].values == {SWAPPINESS: "97"}
    assert sum(group.count for group in result.groups) == result.matched + result.not_matched + result.undecided == 7


def test_as_a_table(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    lines = query(capsys, f"int({SWAPPINESS}) == 97", "--format", "table").splitlines()
    assert lines[0].startswith("1 match, 6 do not")
    assert lines[2].split() == ["RESULT", "COUNT", SWAPPINESS, "NODES", "REASON"]
    assert lines[3].split() == ["matched", "1", '"97"', "h100-8x-ib-3"], "it is text"


def test_text_is_told_from_what_it_would_pass_for() -> None:
    quoted = ("60", "-1.5", "true", "", " ", "-", "22.04")
    assert [_shown(text) for text in quoted] == [f'"{text}"' for text in quoted]
    assert [_shown(value) for value in (60, -1.5, True)] == ["60", "-1.5", "true"]
    assert [_shown(text) for text in ("a b", "22.04.1x", "x\n")] == ["a b", "22.04.1x", "x\\n"]


def test_the_table_is_the_one_in_the_documentation() -> None:
    version, driver = "OS.release.VERSION_ID", "GPU.smi.driver"
    groups = [
        QueryGroup(Match.MATCHED, 1, "gpu-2", {version: "24.04", driver: "550.144.03"}),
        QueryGroup(Match.UNDECIDED, 1, "login", {version: "12"}, f"{driver} is not there"),
        QueryGroup(Match.NOT_MATCHED, 2, "gpu-[3,7]", {version: "22.04", driver: "570.86.15"}),
    ]
    result = QueryResult("", "r", 1, 2, 1, 2, "gpu-2", ["gpu-2"], "", groups, 0, [])
    shown = indent("\n".join(lines(result, colour=False)), "    ")
    assert shown in (Path(__file__).parents[2] / "docs" / "query.md").read_text()


def test_names_for_scripts(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert query(capsys, "--names", 'OS.release.ID == "ubuntu" && OS.cpu["model-name"].contains("Neoverse")') == (
        "grace-arm64-[1-3]\n"
    )
    assert query(capsys, "--names", 'OS.release.ID == "none"') == "\n"
    assert query(capsys, "--names", "--exit-status", 'OS.release.ID == "none"', status=1) == "\n"
    assert query(capsys, "--exit-status", "true").startswith("7 match, 0 do not\n")


def test_a_name_that_no_node_has_is_pointed_out(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = query(capsys, 'GPU.smi.drivr == "1"', told="Note: no node has GPU.smi.drivr.")
    assert text.startswith("0 match, 0 do not, 7 undecided\n")
    assert "GPU.smi.drivr is not there" in text


def test_a_wrong_expression(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    query(
        capsys,
        "OS.release.ID == nothing",
        status=2,
        told="Error: undeclared reference to 'nothing' (line 1, column 18",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["  "], "the expression is empty"),
        (["1+" * 3000 + "1 > 0"], "the expression has 6,005 characters, and 4,096 at most are taken"),
        (["true", "--names", "--format", "json"], "--names and --format exclude each other"),
    ],
)
def test_what_is_refused_without_asking(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    query(capsys, *arguments, "--server", "https://127.0.0.1:1", status=2, told=f"Error: {sentence}")


def test_a_set_of_names_does_not_hide_the_undecided(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = query(capsys, "--names", 'semver(OS.release.ID) > semver("1")', told="Note: 7 undecided: semver: '")
    assert text == "\n"


def test_an_expression_too_long_for_an_address(taken: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    long = " || ".join(f'OS.release.ID == "{"é" * 40}{number}"' for number in range(60)) + " || true"
    assert len(long) < 4096
    assert query(capsys, "--names", long).startswith("grace-arm64-")

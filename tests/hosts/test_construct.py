"""The constructed hosts are what their scripts make, and two equal servers read alike."""

from pathlib import Path

import pytest

from common.model import Scalar
from common.stability import Stability, default_rules
from tests.hosts.archive import parse, unpack
from tests.hosts.construct.hosts import BUILDERS, path_of, text_of
from tests.hosts.test_hosts import take


@pytest.mark.parametrize("name", BUILDERS)
def test_archives_are_what_the_scripts_make(name: str) -> None:
    assert path_of(name).read_text(encoding="utf-8") == text_of(name), "run python -m tests.hosts.construct"


def _facts(archive: str, node: str, root: Path) -> dict[Stability, dict[tuple[str, str, str], Scalar]]:
    root.mkdir()
    facts: dict[Stability, dict[tuple[str, str, str], Scalar]] = {kind: {} for kind in Stability}
    for key, value in take(unpack(parse(archive), root), node).facts().items():
        facts[default_rules().classify(*key)][key] = value
    return facts


@pytest.mark.parametrize(
    ("name", "others"),
    [
        (
            "h100-8x-ib",
            {
                "h100-001": "h100-002",
                "02:00:00:00:0": "02:00:00:11:0",
                "0200:0003:0000:": "0200:0003:0011:",
                "lid = 0x4": "lid = 0x9",
                "S000": "S111",
                "OM000": "OM111",
                "eui.0000": "eui.1111",
                "00000000-0000-4000-8000": "11111111-0000-4000-8000",
            },
        ),
        (
            "cloud-vm",
            {
                "ip-192-0-2-18": "ip-192-0-2-19",
                "02:00:00:00:0": "02:00:00:11:0",
                "0200:0008:0000:": "0200:0008:0011:",
                "ec200000": "ec211111",
                "i-0000": "i-1111",
                "vol0000": "vol1111",
                "AWS0000": "AWS1111",
                "eui.0000": "eui.1111",
                "= 104857600\n": "= 209715200\n",  # the pod's volume
                "00000000-0000-4000-8000": "11111111-0000-4000-8000",
            },
        ),
    ],
)
def test_two_equal_servers_differ_in_identity_only(name: str, others: dict[str, str], tmp_path: Path) -> None:
    archive = text_of(name)
    second = archive
    for ours, theirs in others.items():
        assert ours in second, ours
        second = second.replace(ours, theirs)
    one, two = _facts(archive, "one", tmp_path / "one"), _facts(second, "two", tmp_path / "two")
    assert one[Stability.STABLE] == two[Stability.STABLE]
    assert one[Stability.IDENTITY] != two[Stability.IDENTITY]

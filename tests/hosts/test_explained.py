"""Every fact of a device in any host has a text of its own in `eidos explain`, not only its subtype's."""

from pathlib import Path

import pytest

from agent.ethtool import parse_channels, parse_drvinfo, parse_flags, parse_pauseparam, parse_ringparam
from common.formats import load_snapshot
from common.keys import default_keys

_HERE = Path(__file__).parent
_SUBTYPES = ("pci", "network", "infiniband", "nvme", "container-runtime")
_FACTS = sorted(
    {
        f"OS.{subtype}.{key}"
        for path in _HERE.glob("*/snapshot.yaml")
        for kind, subtype, key in load_snapshot(path.read_bytes(), path.parent.name).facts()
        if kind == "OS" and subtype in _SUBTYPES
    }
)


@pytest.mark.parametrize("subtype", _SUBTYPES)
def test_every_device_fact_is_explained(subtype: str) -> None:
    keys = default_keys()
    facts = [fact for fact in _FACTS if fact.startswith(f"OS.{subtype}.")]
    assert facts
    assert [fact for fact in facts if keys.find(fact) is None] == []


def test_what_only_ethtool_tells_is_explained() -> None:
    answers = (
        parse_channels(b"\1" * 64),
        parse_drvinfo(b"1" * 256),
        parse_flags(b"\1" * 64),
        parse_pauseparam(b"\1" * 64),
        parse_ringparam(b"\1" * 64),
    )
    settings = [f"OS.network.15b3:1021.{key}" for answer in answers for key in answer]
    assert len(settings) == 13
    assert [key for key in settings if default_keys().find(key) is None] == []

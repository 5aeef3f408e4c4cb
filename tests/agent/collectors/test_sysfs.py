"""Reading of attributes, and folding of equal devices."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.sysfs import Sysfs, fold_devices, model_of, parse_integer, pci_address, present
from agent.host import Host
from common.model import Scalar
from common.nodeset import unfold_indexes
from tests.agent.collectors.device_tree import DeviceTree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-1", -1),
        ("0x10de", 0x10DE),
        ("0X1F", 31),
        ("", None),
        (None, None),
        ("16 lanes", None),
        ("0x", None),
        ("9" * 19, None),
        ("9" * 5000, None),
        ("1_000", 1000),
    ],
)
def test_parse_integer(text: str | None, value: int | None) -> None:
    assert parse_integer(text) == value


@given(st.text())
def test_parse_integer_takes_anything(text: str) -> None:
    value = parse_integer(text)
    assert value is None or -(1 << 63) <= value < 1 << 63


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("../../devices/pci0000:00/0000:00:01.0/0000:18:00.0/net/eth0", "0000:18:00.0"),
        ("../../devices/pci10001:00/10001:01:00.0/nvme/nvme0", "10001:01:00.0"),
        ("../../devices/virtual/net/lo", ""),
        ("", ""),
    ],
)
def test_pci_address_is_the_innermost(path: str, address: str) -> None:
    assert pci_address(path) == address


def test_equal_devices_fold_to_one_fact_each() -> None:
    devices: list[tuple[str, dict[str, Scalar]]] = [("gpu", {"driver": "nvidia", "width": 16}) for _ in range(8)]
    assert fold_devices(devices) == {"gpu.count": 8, "gpu.driver": "nvidia", "gpu.width": 16}


def test_an_odd_device_stands_out() -> None:
    devices: list[tuple[str, dict[str, Scalar]]] = [("gpu", {"width": 8 if n == 3 else 16}) for n in range(8)]
    assert fold_devices(devices) == {"gpu.count": 8, "gpu.width[0-2,4-7]": 16, "gpu.width[3]": 8}


def test_a_value_that_one_device_lacks_names_who_has_it() -> None:
    assert fold_devices([("nic", {"speed": 100}), ("nic", {})]) == {"nic.count": 2, "nic.speed[0]": 100}


def test_true_is_not_one() -> None:
    assert fold_devices([("nic", {"up": True}), ("nic", {"up": 1})]) == {
        "nic.count": 2,
        "nic.up[0]": True,
        "nic.up[1]": 1,
    }


_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.one_of(st.booleans(), st.integers(0, 2), st.text("xy", max_size=1))
)


@given(st.lists(_ATTRIBUTES, max_size=12))
def test_folding_loses_nothing(devices: list[dict[str, Scalar]]) -> None:
    facts = fold_devices(("g", device) for device in devices)
    unfolded: list[dict[str, Scalar]] = [{} for _ in devices]
    assert facts.pop("g.count", 0) == len(devices)
    for key, value in facts.items():
        attribute, _, indexes = key.removeprefix("g.").rstrip("]").partition("[")
        for index in unfold_indexes(indexes) if indexes else range(len(devices)):
            unfolded[index][attribute] = value
    assert [{k: (type(v), v) for k, v in device.items()} for device in unfolded] == [
        {k: (type(v), v) for k, v in device.items()} for device in devices
    ]


def test_present_keeps_zero_and_false() -> None:
    assert present({"a": 0, "b": False, "c": "", "d": None, "e": "x"}) == {"a": 0, "b": False, "e": "x"}


def test_model_falls_back_to_the_driver(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.pci("0000:18:00.0", vendor="0x15b3", device="0x1021")
    sysfs = Sysfs(Host(str(tmp_path)))
    assert model_of(sysfs, "0000:18:00.0", "mlx5_core") == "15b3:1021"
    assert model_of(sysfs, "0000:19:00.0", "mlx5_core") == "mlx5_core"
    assert model_of(sysfs, "", "") == "unknown"


class _BrokenHost(Host):
    """Answers every read with one error."""

    def __init__(self, number: int) -> None:
        super().__init__("/nowhere")
        self.number = number

    def read_bytes(self, path: str, limit: int = 0) -> bytes:
        raise OSError(self.number, "broken", path)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV])
def test_an_attribute_without_a_value_is_no_trouble(number: int) -> None:
    sysfs = Sysfs(_BrokenHost(number))
    assert sysfs.text("/sys/speed") is None
    assert sysfs.context() == {}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_an_unreadable_attribute_is_said(number: int) -> None:
    sysfs = Sysfs(_BrokenHost(number))
    assert sysfs.text("/sys/b") is None
    assert sysfs.content("/sys/a", 10) == b""
    assert sysfs.context() == {"unreadable": "/sys/a, /sys/b"}


def test_many_unreadable_attributes_are_counted() -> None:
    sysfs = Sysfs(_BrokenHost(errno.EIO))
    for number in range(10):
        sysfs.text(f"/sys/{number}")
    assert sysfs.context()["unreadable"].endswith("/sys/7 and 2 more")

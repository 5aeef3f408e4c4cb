"""OS.module-parameters."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.module_parameters import ModuleParametersCollector, is_driver, parse_params
from common.model import Absent, Ok
from common.stability import Stability, default_rules
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree

PARAMS = """\
ResmanDebugLevel: 4294967295
EnableMSI: 1
RegistryDwords: "RMConnectToPowerProfiles=1;PeerMappingOverride=1"
ExcludedGpus: ""
"""


DRIVERS = [
    "nvidia", "nvidia_uvm", "nvidia_peermem", "mlx5_core", "ib_core", "nvme", "nvme_core", "ko2iblnd", "ixgbe",
    "bnxt_re", "ena", "gve", "efa", "virtio_net", "nfsv4",
]  # fmt: skip


@pytest.mark.parametrize("name", DRIVERS)
def test_drivers(name: str) -> None:
    assert is_driver(name)


@pytest.mark.parametrize("name", ["8250", "tcp_cubic", "kvm", "my_nvidia", "enable", "", "ice2"])
def test_not_drivers(name: str) -> None:
    assert not is_driver(name)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        (
            PARAMS,
            {
                "nvidia.NVreg_ResmanDebugLevel": "4294967295",
                "nvidia.NVreg_EnableMSI": "1",
                "nvidia.NVreg_RegistryDwords": "RMConnectToPowerProfiles=1;PeerMappingOverride=1",
                "nvidia.NVreg_ExcludedGpus": "",
            },
        ),
        ('A: "\nno colon\nB C: 1\n: 2\nD:', {"nvidia.NVreg_A": '"', "nvidia.NVreg_D": ""}),
    ],
)
def test_parse_params(text: str, data: dict[str, str]) -> None:
    assert parse_params(text) == data


@given(st.text() | st.text(st.sampled_from('A: "\n1_')))
def test_it_takes_anything(text: str) -> None:
    assert all(isinstance(value, str) and "\n" not in key for key, value in parse_params(text).items())


def tree_with_drivers(root: Path) -> DeviceTree:
    tree = DeviceTree(root)
    tree.attributes("/sys/module/nvme_core/parameters", {"io_timeout": 4294967295, "multipath": "Y"})
    tree.attributes("/sys/module/kvm/parameters", {"halt_poll_ns": 200000})
    tree.attributes("/sys/module/nvidia", {"version": "570.86.15"})
    tree.write("/proc/driver/nvidia/params", PARAMS)
    return tree


def test_collects(tmp_path: Path) -> None:
    assert tree_with_drivers(tmp_path).facts(ModuleParametersCollector()) == {
        "nvme_core.io_timeout": "4294967295",
        "nvme_core.multipath": "Y",
        **parse_params(PARAMS),
    }


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    tree_with_drivers(tmp_path)
    closed = "/sys/module/nvme_core/parameters/multipath"
    host = ClosedHost(str(tmp_path), closed)
    [outcome] = ModuleParametersCollector().collect(Context(host, "n", 0)).subtypes.values()
    assert isinstance(outcome, Ok)
    assert outcome.context == {"unreadable": closed}
    assert "nvme_core.multipath" not in outcome.data
    assert outcome.data["nvme_core.io_timeout"] == "4294967295"


def test_a_parameter_that_never_ends(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes("/sys/module/nvme/parameters", {"good": 1, "long": b"x" * (1 << 20)})
    outcome = tree.collect(ModuleParametersCollector())
    assert isinstance(outcome, Ok)
    assert outcome.data == {"nvme.good": "1"}
    assert outcome.context == {"unreadable": "/sys/module/nvme/parameters/long"}


def test_absent(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    assert tree.collect(ModuleParametersCollector()) == Absent("/sys/module is not there")
    tree.attributes("/sys/module/kvm/parameters", {"halt_poll_ns": 200000})
    assert isinstance(tree.collect(ModuleParametersCollector()), Absent)


def test_drivers_without_parameters_are_not_absent(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes("/sys/module/mlx5_core", {"version": "24.10"})
    assert tree.facts(ModuleParametersCollector()) == {}


def test_classes() -> None:
    rules = default_rules()
    assert rules.classify("OS", "module-parameters", "dm_bufio.current_allocated_bytes") is Stability.VOLATILE
    assert rules.classify("OS", "module-parameters", "fuse.max_user_bgreq") is Stability.IDENTITY
    assert rules.classify("OS", "module-parameters", "nvidia.NVreg_EnableMSI") is Stability.STABLE

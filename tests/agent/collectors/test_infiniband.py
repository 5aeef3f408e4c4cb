"""OS.infiniband."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.infiniband import InfinibandCollector, parse_state, parse_traffic_class
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree


@pytest.mark.parametrize(
    ("text", "state"),
    [("4: ACTIVE", "ACTIVE"), ("5: LinkUp", "LinkUp"), ("1: CA", "CA"), ("", ""), ("odd: x", "odd: x")],
)
def test_parse_state(text: str, state: str) -> None:
    assert parse_state(text) == state


@pytest.mark.parametrize(("text", "value"), [("Global tclass=106", "106"), ("", ""), ("=", ""), ("tclass", "")])
def test_parse_traffic_class(text: str, value: str) -> None:
    assert parse_traffic_class(text) == value


@given(st.text())
def test_parsers_take_anything(text: str) -> None:
    parse_state(text)
    parse_traffic_class(text)


def adapter(tree: DeviceTree, number: int, **port: str) -> str:
    device = tree.pci(f"0000:{0x18 + number:02x}:00.0", "mlx5_core", vendor="0x15b3", device="0x1021")
    directory = f"{device}/infiniband/mlx5_{number}"
    tree.attributes(
        directory,
        {
            "fw_ver": "28.39.2048",
            "hca_type": "MT4129",
            "hw_rev": 0,
            "board_id": "MT_0000000838",
            "node_type": "1: CA",
            "node_guid": f"946d:ae03:0000:00{number:02x}",
            "sys_image_guid": f"946d:ae03:0000:00{number:02x}",
            "node_desc": f"node-1 HCA-{number}",
        },
    )
    standard = {
        "state": "4: ACTIVE",
        "phys_state": "5: LinkUp",
        "rate": "400 Gb/sec (4X NDR)",
        "link_layer": "InfiniBand",
        "lid": f"0x{number + 1:x}",
        "sm_lid": "0x1",
    }
    tree.attributes(f"{directory}/ports/1", {**standard, **port})
    tree.attributes(f"{directory}/ports/1/counters", {"port_rcv_data": 4711})
    tree.link(f"{directory}/device", device)
    tree.link(f"/sys/class/infiniband/mlx5_{number}", directory)
    return directory


def stable(facts: dict[str, object]) -> dict[str, object]:
    rules = default_rules()
    return {key: value for key, value in facts.items() if rules.classify("OS", "infiniband", key) is Stability.STABLE}


def test_equal_adapters_fold(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for number in range(8):
        adapter(tree, number)
    facts = tree.facts(InfinibandCollector())
    assert {key: value for key, value in stable(dict(facts)).items() if ".name" not in key} == {
        "15b3:1021.count": 8,
        "15b3:1021.board-id": "MT_0000000838",
        "15b3:1021.driver": "mlx5_core",
        "15b3:1021.firmware-version": "28.39.2048",
        "15b3:1021.hca-type": "MT4129",
        "15b3:1021.hw-rev": "0",
        "15b3:1021.node-type": "CA",
        "15b3:1021.port1.link-layer": "InfiniBand",
        "15b3:1021.port1.phys-state": "LinkUp",
        "15b3:1021.port1.rate": "400 Gb/sec (4X NDR)",
        "15b3:1021.port1.state": "ACTIVE",
    }
    assert facts["15b3:1021.node-guid[2]"] == "946d:ae03:0000:0002"
    assert facts["15b3:1021.port1.lid[2]"] == "0x3"
    assert facts["15b3:1021.name[2]"] == "mlx5_2"


def test_two_servers_with_equal_adapters_have_equal_stable_facts(tmp_path: Path) -> None:
    first, second = DeviceTree(tmp_path / "1"), DeviceTree(tmp_path / "2")
    adapter(first, 0)
    adapter(second, 0, lid="0x99", sm_lid="0x7")
    assert stable(dict(first.facts(InfinibandCollector()))) == stable(dict(second.facts(InfinibandCollector())))


def test_a_port_that_is_down_stands_out(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    adapter(tree, 0)
    adapter(tree, 1, state="1: DOWN", phys_state="3: Disabled", rate="10 Gb/sec (4X SDR)")
    facts = tree.facts(InfinibandCollector())
    assert facts["15b3:1021.port1.state[1]"] == "DOWN"
    assert facts["15b3:1021.port1.phys-state[1]"] == "Disabled"


def test_traffic_class_of_roce(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    directory = adapter(tree, 0, link_layer="Ethernet")
    tree.write(f"{directory}/tc/1/traffic_class", "Global tclass=106")
    assert tree.facts(InfinibandCollector())["15b3:1021.port1.traffic-class"] == "106"


def test_virtual_functions_are_not_listed(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    adapter(tree, 0)
    adapter(tree, 1)
    tree.link("/sys/devices/pci0000:00/0000:19:00.0/physfn", "/sys/devices/pci0000:00/0000:18:00.0")
    assert tree.facts(InfinibandCollector())["15b3:1021.count"] == 1


@pytest.mark.parametrize("make", [False, True])
def test_no_adapters_are_absent(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "sys/class/infiniband").mkdir(parents=True)
    assert DeviceTree(tmp_path).reason(InfinibandCollector()) == (
        "there are no RDMA devices" if make else "/sys/class/infiniband is not there"
    )

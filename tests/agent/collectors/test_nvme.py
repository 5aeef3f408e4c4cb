"""OS.nvme."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.nvme import NvmeCollector, parse_model, parse_scheduler
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree


@pytest.mark.parametrize(
    ("text", "scheduler"),
    [
        ("[none] mq-deadline kyber", "none"),
        ("none [mq-deadline]", "mq-deadline"),
        ("write back", "write back"),
        ("", ""),
    ],
)
def test_parse_scheduler(text: str, scheduler: str) -> None:
    assert parse_scheduler(text) == scheduler


@pytest.mark.parametrize(
    ("text", "model"),
    [("SAMSUNG MZQL23T8HCLS-00A07             ", "SAMSUNG_MZQL23T8HCLS-00A07"), ("", "unknown"), (" \t", "unknown")],
)
def test_parse_model(text: str, model: str) -> None:
    assert parse_model(text) == model


@given(st.text())
def test_parsers_take_anything(text: str) -> None:
    parse_scheduler(text)
    assert parse_model(text)
    assert " " not in parse_model(text)


def drive(tree: DeviceTree, number: int, address: str, namespace: str = "", **attributes: str) -> None:
    device = tree.pci(address, "nvme")
    directory = f"{device}/nvme/nvme{number}"
    standard = {
        "model": "SAMSUNG MZQL23T8HCLS-00A07             ",
        "firmware_rev": "GDC5602Q",
        "serial": f"S64HNE0T{number:06d}",
        "state": "live",
        "transport": "pcie",
        "address": address,
        "numa_node": "0",
        "queue_count": "129",
        "sqsize": "1023",
        "subsysnqn": f"nqn.1994-11.com.samsung:nvme:PM9A3:2.5-inch:S64HNE0T{number:06d}",
    }
    tree.attributes(directory, {**standard, **attributes})
    block = f"{directory}/{namespace or f'nvme{number}n1'}"
    tree.attributes(block, {"size": 7501476528, "wwid": f"eui.36344830547{number:05d}"})
    tree.attributes(
        f"{block}/queue",
        {
            "scheduler": "[none] mq-deadline",
            "nr_requests": 1023,
            "read_ahead_kb": 128,
            "rq_affinity": 1,
            "write_cache": "write through",
            "logical_block_size": 512,
        },
    )
    tree.link(f"/sys/class/nvme/nvme{number}", directory)


def test_equal_drives_fold_in_the_order_of_their_slots(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    drive(tree, 1, "0000:41:00.0")
    drive(tree, 0, "0000:42:00.0")
    model = "SAMSUNG_MZQL23T8HCLS-00A07"
    assert tree.facts(NvmeCollector()) == {
        f"{model}.count": 2,
        f"{model}.address[0]": "0000:41:00.0",
        f"{model}.address[1]": "0000:42:00.0",
        f"{model}.firmware-revision": "GDC5602Q",
        f"{model}.name[0]": "nvme1",
        f"{model}.name[1]": "nvme0",
        f"{model}.namespace1.queue.logical-block-size": 512,
        f"{model}.namespace1.queue.nr-requests": 1023,
        f"{model}.namespace1.queue.read-ahead-kb": 128,
        f"{model}.namespace1.queue.rq-affinity": 1,
        f"{model}.namespace1.queue.scheduler": "none",
        f"{model}.namespace1.queue.write-cache": "write through",
        f"{model}.namespace1.size-bytes": 3840755982336,
        f"{model}.namespace1.wwid[0]": "eui.3634483054700001",
        f"{model}.namespace1.wwid[1]": "eui.3634483054700000",
        f"{model}.numa-node": 0,
        f"{model}.queue-count": 129,
        f"{model}.serial[0]": "S64HNE0T000001",
        f"{model}.serial[1]": "S64HNE0T000000",
        f"{model}.state": "live",
        f"{model}.submission-queue-size": 1023,
        f"{model}.subsystem-nqn[0]": "nqn.1994-11.com.samsung:nvme:PM9A3:2.5-inch:S64HNE0T000001",
        f"{model}.subsystem-nqn[1]": "nqn.1994-11.com.samsung:nvme:PM9A3:2.5-inch:S64HNE0T000000",
        f"{model}.transport": "pcie",
    }


def test_a_drive_with_other_firmware_stands_out(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for number in range(4):
        drive(tree, number, f"0000:4{number}:00.0", firmware_rev="GDC5302Q" if number == 2 else "GDC5602Q")
    facts = tree.facts(NvmeCollector())
    assert facts["SAMSUNG_MZQL23T8HCLS-00A07.firmware-revision[2]"] == "GDC5302Q"
    assert facts["SAMSUNG_MZQL23T8HCLS-00A07.firmware-revision[0-1,3]"] == "GDC5602Q"


def test_multipath_namespaces_are_read_through_their_controller(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    drive(tree, 0, "0000:41:00.0", namespace="nvme0c0n2")
    assert tree.facts(NvmeCollector())["SAMSUNG_MZQL23T8HCLS-00A07.namespace2.size-bytes"] == 3840755982336


def test_drives_of_other_machines_are_kept_apart(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes(
        "/sys/devices/virtual/nvme-fabrics/ctl/nvme3",
        {"model": "Linux", "transport": "tcp", "address": "traddr=192.0.2.7,trsvcid=4420"},
    )
    tree.link("/sys/class/nvme/nvme3", "/sys/devices/virtual/nvme-fabrics/ctl/nvme3")
    facts = tree.facts(NvmeCollector())
    assert facts["fabrics.Linux.count"] == 1
    rules = default_rules()
    assert {rules.classify("OS", "nvme", key) for key in facts} == {Stability.VOLATILE}


@pytest.mark.parametrize("make", [False, True])
def test_no_drives_are_absent(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "sys/class/nvme").mkdir(parents=True)
    assert DeviceTree(tmp_path).reason(NvmeCollector()) == (
        "there are no NVMe controllers" if make else "/sys/class/nvme is not there"
    )


@pytest.mark.parametrize(
    ("key", "stability"),
    [
        ("SAMSUNG.serial[1]", Stability.IDENTITY),
        ("SAMSUNG.namespace1.wwid", Stability.IDENTITY),
        ("SAMSUNG.name", Stability.IDENTITY),
        ("SAMSUNG.namespace1.size-bytes", Stability.STABLE),
        ("SAMSUNG.namespace1.queue.scheduler", Stability.STABLE),
        ("Amazon_Elastic_Block_Store.count", Stability.VOLATILE),
        ("Amazon_Elastic_Block_Store.namespace1.size-bytes[0]", Stability.VOLATILE),
        ("Amazon_Elastic_Block_Store.namespace1.queue.scheduler", Stability.STABLE),
        ("Amazon_EC2_NVMe_Instance_Storage.count", Stability.STABLE),
    ],
)
def test_stability(key: str, stability: Stability) -> None:
    assert default_rules().classify("OS", "nvme", key) is stability

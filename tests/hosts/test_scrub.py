"""What a recording must not show."""

import pytest

from tests.hosts.scrub import scrub, scrub_cmdline, scrub_release
from tests.hosts.tree import Tree


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ro quiet console=ttyS0 token=abc init=/opt/agent -- --listen 0.0.0.0:80", "ro quiet console=ttyS0\n"),
        ("", "\n"),
        ("hugepagesz=2M hugepages=4 ip=192.0.2.7", "hugepagesz=2M hugepages=4\n"),
    ],
)
def test_only_ordinary_options_are_kept(text: str, kept: str) -> None:
    assert scrub_cmdline(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"), [("6.8.0-1024-aws\n", "6.8.0-1024\n"), ("6.18.44-ours-v7", "6.18.44\n"), ("odd", "0.0.0\n")]
)
def test_a_release_keeps_its_numbers(text: str, kept: str) -> None:
    assert scrub_release(text) == kept


def test_scrub() -> None:
    tree = Tree()
    tree.write("/proc/cmdline", "ro secret=1")
    tree.write("/proc/sys/kernel/hostname", "workplace-17")
    tree.write("/proc/sys/kernel/random/boot_id", "3f2504e0-4f89-41d3-9a0c-0305e82c3301")
    tree.write("/sys/class/net/a/address", "06:9f:aa:12:34:56")
    tree.write("/sys/class/net/b/address", "06:9F:AA:12:34:57")
    tree.write("/sys/class/net/c/address", "06:9f:aa:12:34:56")
    tree.write("/sys/class/net/lo/address", "00:00:00:00:00:00")
    tree.write("/sys/class/infiniband/x/node_guid", "946d:ae03:0012:3456")
    tree.write("/sys/class/nvme/nvme0/serial", "S64HNE0T123456      ")
    tree.write("/sys/class/dmi/id/board_asset_tag", "i-0861d1808b85e90ca")
    tree.write("/sys/class/dmi/id/product_serial", "")
    tree.write("/sys/module/nvme/parameters/x", 1)
    tree.write("/proc/1/net/vlan/config", "secret")
    tree.write("/proc/sys/net/ipv4/tcp_fastopen_key", "secret")
    tree.write("/etc/containerd/config.toml", "secret")
    tree.write("/etc/containerd/certs.d/registry/hosts.toml", "secret")
    tree.write("/etc/docker/daemon.json", "secret")
    tree.write("/opt/own/file", "secret")
    tree.directories.update({"/sys/module/our_own", "/sys/module/nvme"})
    tree.link("/proc/self", "4711")
    tree.link("/var/run", "/run")
    tree.errors = {"/proc/1/ns/net": 13, "/sys/class/x": 5}
    scrubbed = scrub(tree, ["/opt/own"])
    assert scrubbed.files == {
        "/proc/cmdline": b"ro\n",
        "/proc/sys/kernel/hostname": b"recorded\n",
        "/proc/sys/kernel/random/boot_id": b"00000000-0000-4000-8000-000000000001\n",
        "/sys/class/net/a/address": b"02:00:00:00:00:01\n",
        "/sys/class/net/b/address": b"02:00:00:00:00:02\n",
        "/sys/class/net/c/address": b"02:00:00:00:00:01\n",
        "/sys/class/net/lo/address": b"00:00:00:00:00:00\n",
        "/sys/class/infiniband/x/node_guid": b"0200:0000:0000:0001\n",
        "/sys/class/nvme/nvme0/serial": b"MADE-UP-2\n",
        "/sys/class/dmi/id/board_asset_tag": b"MADE-UP-1\n",
        "/sys/class/dmi/id/product_serial": b"\n",
        "/sys/module/nvme/parameters/x": b"1\n",
    }
    assert scrubbed.links == {"/var/run": "/run"}
    assert scrubbed.directories == {"/sys/module/nvme"}
    assert scrubbed.errors == {"/sys/class/x": 5}

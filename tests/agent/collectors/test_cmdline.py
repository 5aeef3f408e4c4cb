"""OS.grub."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.cmdline import CmdlineCollector, parse_cmdline
from common.model import Absent, Failed, FailureCode
from common.stability import Stability, default_rules
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("\n", {}),
        ("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet\n", {"BOOT_IMAGE": "/vmlinuz", "ro": "", "quiet": ""}),
        ("console=tty0 console=ttyS0,115200n8", {"console": "tty0,ttyS0,115200n8"}),
        ("hugepagesz=1G hugepages=16 hugepagesz=2M hugepages=512", {"hugepagesz": "1G,2M", "hugepages": "16,512"}),
        ("quiet quiet", {"quiet": ""}),
        ("a= a=1", {"a": ",1"}),
        ('dyndbg="file a.c +p; file b.c +p" x', {"dyndbg": "file a.c +p; file b.c +p", "x": ""}),
        ('"spaced name=a value" y', {"spaced name": "a value", "y": ""}),
        ('open="never closed x=1\n', {"open": "never closed x=1"}),
        ('inner=a"b c"d', {"inner": 'a"b c"d'}),
        ("=odd =odd=1", {"=odd": ",1"}),
        ("resume=UUID=2 a=b=c", {"resume": "UUID=2", "a": "b=c"}),
        ("rd.iscsi.password=s3cret password", {"rd.iscsi.password": "<redacted>", "password": ""}),
        ("join_token=abc x.tokens=1", {"join_token": "<redacted>", "x.tokens": "<redacted>"}),
        ("  tabs\tand   spaces  ", {"tabs": "", "and": "", "spaces": ""}),
    ],
)  # fmt: skip
def test_parse_cmdline(text: str, data: dict[str, str]) -> None:
    assert parse_cmdline(text) == data


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("siderolink.api=https://o.example:443?jointoken=SECRET", "https://o.example:443?jointoken=<redacted>"),
        ("siderolink.api=https://o.example?a=b&jointoken=SECRET", "https://o.example?a=b&jointoken=<redacted>"),
        ("talos.config=https://u:p@h/?token=abc", "https://<redacted>@h/?token=<redacted>"),
        ("ignition.config.url=https://u:pw@h/x", "https://<redacted>@h/x"),
        ("inst.ks=http://u:p@h", "http://<redacted>@h"),
        ("netroot=iscsi:user:pass@h", "iscsi:<redacted>@h"),
        ("ds=nocloud;s=http://u:p@h/", "nocloud;s=http://<redacted>@h/"),
        ("systemd.setenv=TOKEN=abc", "TOKEN=<redacted>"),
        ("systemd.set_credential=foo:bar", "foo:<redacted>"),
        ("systemd.set_credential_binary=foo:YmFy", "foo:<redacted>"),
        ("apikey=x", "<redacted>"),
        ("api_key=x", "<redacted>"),
        ("auth_key=x", "<redacted>"),
        ("psk=x", "<redacted>"),
        ("luks.key=x", "<redacted>"),
    ],
)
def test_secrets_are_redacted(token: str, shown: str) -> None:
    assert parse_cmdline(token) == {token.partition("=")[0]: shown}


@pytest.mark.parametrize(
    "token",
    [
        "roothash=0123abcd",
        "dm-mod.verity=0123abcd",
        "keyboard=us",
        "vconsole.keymap=de",
        "rd.lvm.lv=vg/root",
        "console=ttyS0,115200n8",
        "hugepagesz=1G",
        "pcie_aspm=off",
        "rd.luks.uuid=luks-1-2",
        "iommu.passthrough=1",
        "module.sig_enforce=1",
        "netroot=iscsi:@10.0.0.1::::iqn.2020-01.com.example",
        "systemd.setenv=MODE=fast",
        "sysctl.net.ipv4.tcp_syncookies=1",
    ],
)
def test_ordinary_parameters_are_kept(token: str) -> None:
    name, _, value = token.partition("=")
    assert parse_cmdline(token) == {name: value}


def as_the_kernel_splits(text: str) -> list[tuple[str, str]]:
    """The rules of the kernel's next_arg() carried out character by character, as a second opinion."""
    found: list[tuple[str, str]] = []
    at, spaces = 0, " \t\n\v\f\r"
    while True:
        while at < len(text) and text[at] in spaces:
            at += 1
        if at == len(text):
            return found
        leading = text[at] == '"'
        at += leading
        start, equals, inside = at, 0, leading
        while at < len(text) and (inside or text[at] not in spaces):
            if text[at] == "=" and not equals:
                equals = at - start
            inside ^= text[at] == '"'
            at += 1
        token = text[start:at]
        value_at = equals + 1
        if (leading or (equals and token[value_at : value_at + 1] == '"')) and token.endswith('"'):
            token = token[:-1]
        if not equals:
            found.append((token, ""))
            continue
        value = token[value_at:]
        found.append((token[:equals], value[1:] if text[start + value_at : start + value_at + 1] == '"' else value))


@given(st.text(st.sampled_from('ab= "\t'), max_size=24))
def test_it_splits_as_the_kernel_does(text: str) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in as_the_kernel_splits(text):
        if name:
            expected.setdefault(name, []).append(value)
    assert parse_cmdline(text) == {n: ",".join(v) if any(v) else "" for n, v in expected.items()}


@given(st.text() | st.text(st.sampled_from('=" a\n\0é\u2028')))
def test_it_takes_anything(text: str) -> None:
    assert all(isinstance(value, str) and name for name, value in parse_cmdline(text).items())


def test_collects(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/cmdline", "ro iommu=pt")
    assert tree.facts(CmdlineCollector()) == {"ro": "", "iommu": "pt"}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/cmdline", b"a=\xff\xfe b\n")
    assert tree.facts(CmdlineCollector()) == {"a": "\ufffd\ufffd", "b": ""}


def test_absent(tmp_path: Path) -> None:
    assert DeviceTree(tmp_path).collect(CmdlineCollector()) == Absent("/proc/cmdline is not there")


def test_too_large_and_closed(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/cmdline", b"a " * (1 << 20))
    outcome = tree.collect(CmdlineCollector())
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.TOO_LARGE
    context = Context(ClosedHost(str(tmp_path), "/proc/cmdline"), "node-1", float("inf"))
    [outcome] = CmdlineCollector().collect(context).subtypes.values()
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/proc/cmdline may not be read")


def test_what_names_the_node_is_identity() -> None:
    rules = default_rules()
    assert rules.classify("OS", "grub", "BOOTIF") is Stability.IDENTITY
    assert rules.classify("OS", "grub", "iommu") is Stability.STABLE

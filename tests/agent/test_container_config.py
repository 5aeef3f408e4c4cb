"""Container runtimes' configuration files."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.container_config import (
    Document,
    MalformedError,
    canonical_text,
    containerd_settings,
    flatten,
    merge,
    merge_containerd,
    parse_cdi_spec,
    parse_json,
    parse_toml,
    scalar,
    without_secrets,
)
from common.canonical import canonical_bytes
from common.model import Scalar

VERSION_2 = """
version = 2
root = "/var/lib/containerd"
oom_score = -999
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.9"
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  max_concurrent_downloads = 8
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "nvidia"
    snapshotter = "overlayfs"
    discard_unpacked_layers = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      privileged_without_host_devices = false
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
        BinaryName = "/usr/bin/nvidia-container-runtime"
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""

VERSION_3 = """
version = 3
root = "/var/lib/containerd"
oom_score = -999
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  discard_unpacked_layers = true
  max_concurrent_downloads = 8
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "registry.k8s.io/pause:3.9"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "nvidia"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = true
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      privileged_without_host_devices = false
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
        BinaryName = "/usr/bin/nvidia-container-runtime"
        SystemdCgroup = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
"""


@pytest.mark.parametrize(("text", "version"), [(VERSION_2, 2), (VERSION_3, 3)])
def test_containerd_settings_have_the_same_names_in_every_version(text: str, version: int) -> None:
    assert containerd_settings(parse_toml(text)) == {
        "cdi-spec-dirs": "/etc/cdi,/var/run/cdi",
        "cni-bin-dir": "/opt/cni/bin",
        "cni-conf-dir": "/etc/cni/net.d",
        "config-version": version,
        "default-runtime-name": "nvidia",
        "discard-unpacked-layers": True,
        "enable-cdi": True,
        "max-concurrent-downloads": 8,
        "oom-score": -999,
        "registry-config-path": "/etc/containerd/certs.d",
        "root": "/var/lib/containerd",
        "runtime.nvidia.binary-name": "/usr/bin/nvidia-container-runtime",
        "runtime.nvidia.privileged-without-host-devices": False,
        "runtime.nvidia.systemd-cgroup": True,
        "runtime.nvidia.type": "io.containerd.runc.v2",
        "runtime.runc.systemd-cgroup": True,
        "runtime.runc.type": "io.containerd.runc.v2",
        "sandbox-image": "registry.k8s.io/pause:3.9",
        "snapshotter": "overlayfs",
    }


def test_version_1_is_read_too() -> None:
    config = parse_toml('[plugins.cri.containerd]\ndefault_runtime_name = "runc"')
    assert containerd_settings(config) == {"config-version": 1, "default-runtime-name": "runc"}


CRI = "io.containerd.grpc.v1.cri"


@pytest.mark.parametrize(
    ("version", "plugin"),
    [(2, {"enable_cdi": True}), (3, {"enable_cdi": True, "sandbox_image": "pause"})],
)
def test_an_import_replaces_a_plugin_before_version_3_and_is_merged_after(version: int, plugin: Document) -> None:
    main: Document = {"version": version, "imports": ["a"], "plugins": {CRI: {"sandbox_image": "pause"}, "x": {}}}
    imported: Document = {"version": version, "imports": ["b", "a"], "plugins": {CRI: {"enable_cdi": True}}}
    merged = merge_containerd(main, imported)
    assert merged["plugins"] == {CRI: plugin, "x": {}}
    assert merged["imports"] == ["a", "b"]
    assert main["plugins"] == {CRI: {"sandbox_image": "pause"}, "x": {}}


def test_secrets_are_left_out() -> None:
    document = parse_toml(
        """
        [plugins.cri.registry.configs."registry.example".auth]
        username = "user"
        password = "hunter2"
        [plugins.cri.registry.configs."registry.example".tls]
        ca_file = "/etc/ca.pem"
        [plugins.cri.registry.mirrors."https://user:hunter2@mirror.example"]
        endpoint = ["https://user:hunter2@mirror.example/v2"]
        [plugins.cri.registry.headers]
        Authorization = ["Basic hunter2"]
        [proxy]
        identitytoken = "hunter2"
        splunk-token = "hunter2"
        client_secret = "hunter2"
        default_env = ["API_TOKEN=hunter2", "LANG=C"]
        """
    )
    assert without_secrets(document) == {
        "plugins": {
            "cri": {
                "registry": {
                    "configs": {"registry.example": {"tls": {"ca_file": "/etc/ca.pem"}}},
                    "mirrors": {"https://mirror.example": {"endpoint": ["https://mirror.example/v2"]}},
                }
            }
        },
        "proxy": {"default_env": ["LANG=C"]},
    }


def test_order_and_comments_do_not_count_but_values_do() -> None:
    first = canonical_text(parse_toml('a = 1 # one\nb = "x"'))
    assert first == canonical_text(parse_toml("b='x'\na=0x1"))
    assert first != canonical_text(parse_toml("b='x'\na=2"))


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        ({"a": {"b": 1}, "c": True}, {"a.b": 1, "c": True}),
        ({"a": ["x", 1]}, {"a": "x,1"}),
        ({"a": []}, {"a": ""}),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a.0.b": 1, "a.1.b": 2}),
        ({"a": None}, {"a": "null"}),
        ({}, {}),
    ],
)
def test_flatten(value: Document, flat: dict[str, Scalar]) -> None:
    assert flatten(value, "") == flat


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (True, True),
        (1, 1),
        (1.5, 1.5),
        (1 << 64, hex(1 << 64)),
        (math.inf, "inf"),
        (math.nan, "nan"),
        ("\ud800", "?"),
    ],
)
def test_scalar(value: Any, fact: Scalar) -> None:
    assert scalar(value) == fact
    assert type(scalar(value)) is type(fact)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not TOML: "),
        ("a = " + "[" * 5000, "not TOML: a number too long or tables too deep"),
        ("a = " + "[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        ("a = " + "9" * 5000, "not TOML: a number too long or tables too deep"),
    ],
)
def test_malformed_toml(text: str, message: str) -> None:
    with pytest.raises(MalformedError) as error:
        parse_toml(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: "),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON: a number too long or lists too deep"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: a number too long or lists too deep"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested more than 32 levels deep"),
    ],
)
def test_malformed_json(text: str, message: str) -> None:
    with pytest.raises(MalformedError) as error:
        parse_json(text)
    assert str(error.value).startswith(message)


CDI_YAML = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - path: /dev/nvidia0
  - name: GPU-8f9a2c1e-0b3d-4e5f-a6b7-c8d9e0f1a2b3
"""


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (CDI_YAML, {"kind": "nvidia.com/gpu", "version": "0.5.0"}),
        ('{"cdiVersion": "0.6.0", "kind": "k8s.device-plugin.nvidia.com/gpu"}',
         {"kind": "k8s.device-plugin.nvidia.com/gpu", "version": "0.6.0"}),
        ('kind: "nvidia.com/gpu" # by hand\n', {"kind": "nvidia.com/gpu"}),
        ("devices:\n  - kind: nested\n", {}),
        ('{"kind": 7}', {}),
        ("", {}),
    ],
)  # fmt: skip
def test_parse_cdi_spec(text: str, fields: dict[str, Scalar]) -> None:
    assert parse_cdi_spec(text)[0] == fields


def test_specifications_that_differ_in_gpu_uuids_only_are_equal() -> None:
    other = CDI_YAML.replace("8f9a2c1e", "00000000")
    assert parse_cdi_spec(CDI_YAML) == parse_cdi_spec(other)
    assert parse_cdi_spec(CDI_YAML) != parse_cdi_spec(CDI_YAML.replace("nvidia0", "nvidia1"))


_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
_DOCUMENTS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=10,
    ),
    max_size=4,
)


@given(_DOCUMENTS, _DOCUMENTS)
def test_any_document_becomes_facts_and_a_digest(first: Document, second: Document) -> None:
    document = merge_containerd(first, second)
    canonical_bytes(flatten(without_secrets(document), ""))
    canonical_bytes(containerd_settings(document))
    assert canonical_text(document) == canonical_text(merge_containerd(first, second))


@given(_DOCUMENTS)
def test_merging_nothing_changes_nothing(document: Document) -> None:
    assert json.dumps(merge(document, {})) == json.dumps(merge({}, document)) == json.dumps(document)


@given(st.text() | st.text(st.sampled_from('a.=[]{}"\n,19 ')))
def test_parsers_take_anything(text: str) -> None:
    for parse in (parse_toml, parse_json, parse_cdi_spec):
        with contextlib.suppress(MalformedError):
            parse(text)

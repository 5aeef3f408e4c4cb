"""OS.container-runtime."""

import errno
from pathlib import Path

import pytest

from agent.collectors.base import Context
from agent.collectors.container_runtime import ContainerRuntimeCollector
from agent.host import Host
from common.model import Failed, FailureCode, Ok, Scalar
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree

CONTAINERD = """
version = 2
imports = ["conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.9"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
  [plugins."io.containerd.grpc.v1.cri".registry.configs."registry.example".auth]
    password = "hunter2"
"""
NVIDIA = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/opt/cdi"]
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "nvidia"
"""
SPEC = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n"


def collect(root: Path) -> dict[str, Scalar]:
    return DeviceTree(root).facts(ContainerRuntimeCollector())


def test_containerd_with_a_drop_in(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", CONTAINERD)
    tree.write("/etc/containerd/conf.d/99-nvidia.toml", NVIDIA)
    facts = collect(tmp_path)
    assert facts["containerd.config-files"] == "/etc/containerd/config.toml,/etc/containerd/conf.d/99-nvidia.toml"
    assert facts["containerd.default-runtime-name"] == "nvidia"
    assert facts["containerd.cdi-spec-dirs"] == "/etc/cdi,/opt/cdi"
    assert "containerd.sandbox-image" not in facts  # replaced with the whole section, as containerd 1.x does


def test_the_digest_follows_what_is_imported(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", CONTAINERD)
    tree.write("/etc/containerd/conf.d/99-nvidia.toml", NVIDIA)
    before = collect(tmp_path)["containerd.config-digest"]
    tree.write("/etc/containerd/conf.d/99-nvidia.toml", NVIDIA + "# a comment")
    assert collect(tmp_path)["containerd.config-digest"] == before
    tree.write("/etc/containerd/conf.d/99-nvidia.toml", NVIDIA.replace("nvidia", "runc"))
    assert collect(tmp_path)["containerd.config-digest"] != before


def test_files_that_import_each_other_end(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", 'imports = ["/etc/containerd/config.toml", "other.toml", "gone.toml"]')
    tree.write("/etc/containerd/other.toml", 'imports = ["config.toml"]\noom_score = 1')
    facts = collect(tmp_path)
    assert facts["containerd.config-files"] == "/etc/containerd/config.toml,/etc/containerd/other.toml"
    assert facts["containerd.oom-score"] == 1


def test_credentials_appear_nowhere_and_do_not_count(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", CONTAINERD)
    tree.write("/etc/docker/daemon.json", '{"proxies": {"x": "hunter2"}, "log-opts": {"x": "hunter2"}, "mtu": 1450}')
    facts = collect(tmp_path)
    assert "hunter2" not in str(facts)
    tree.write("/etc/containerd/config.toml", CONTAINERD.replace("hunter2", "other"))
    assert collect(tmp_path)["containerd.config-digest"] == facts["containerd.config-digest"]


def test_registry_hosts(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", CONTAINERD)
    tree.write("/etc/containerd/certs.d/docker.io/hosts.toml", 'server = "https://mirror.example"')
    tree.write("/etc/containerd/certs.d/broken.example/hosts.toml", "server = ")
    tree.write("/etc/containerd/certs.d/README", "not a registry")
    facts = {key: value for key, value in collect(tmp_path).items() if "registry-hosts" in key}
    assert set(facts) == {"containerd.registry-hosts.docker.io"}
    unread = tree.outcomes(ContainerRuntimeCollector())["container-runtime[containerd.registry-hosts.broken.example]"]
    assert isinstance(unread, Failed)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/cri/containerd.toml",
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    ],
)
def test_the_kubelets_containerd_goes_before_the_systems(tmp_path: Path, path: str) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", "oom_score = 1")
    tree.write(path, "oom_score = 2")
    facts = collect(tmp_path)
    assert facts["containerd.config-files"] == path
    assert facts["containerd.oom-score"] == 2


def test_docker(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write(
        "/etc/docker/daemon.json",
        '{"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}},'
        ' "exec-opts": ["native.cgroupdriver=systemd"], "features": {"cdi": true}}',
    )
    facts = collect(tmp_path)
    assert len(str(facts.pop("docker.config-digest"))) == 64
    assert facts == {
        "docker.default-runtime": "nvidia",
        "docker.exec-opts": "native.cgroupdriver=systemd",
        "docker.features.cdi": True,
        "docker.runtimes.nvidia.args": "",
        "docker.runtimes.nvidia.path": "nvidia-container-runtime",
    }


def test_cri_o_with_drop_ins(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/crio/crio.conf", '[crio.runtime]\ndefault_runtime = "runc"\ncgroup_manager = "systemd"')
    tree.write("/etc/crio/crio.conf.d/99-nvidia.conf", '[crio.runtime]\ndefault_runtime = "nvidia"')
    facts = collect(tmp_path)
    assert facts["cri-o.runtime.default_runtime"] == "nvidia"
    assert facts["cri-o.runtime.cgroup_manager"] == "systemd"
    assert facts["cri-o.config-files"] == "/etc/crio/crio.conf,/etc/crio/crio.conf.d/99-nvidia.conf"


def test_the_nvidia_toolkit_of_the_host_and_of_the_operator(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write(
        "/etc/nvidia-container-runtime/config.toml",
        'disable-require = false\n[nvidia-container-runtime]\nmode = "auto"\nruntimes = ["runc", "crun"]\n'
        '[nvidia-container-cli]\nenvironment = ["TOKEN=hunter2"]',
    )
    tree.write(
        "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
        '[nvidia-container-cli]\nroot = "/run/nvidia/driver"',
    )
    facts = {key: value for key, value in collect(tmp_path).items() if "digest" not in key}
    assert facts == {
        "nvidia-container-runtime.disable-require": False,
        "nvidia-container-runtime.nvidia-container-runtime.mode": "auto",
        "nvidia-container-runtime.nvidia-container-runtime.runtimes": "runc,crun",
        "nvidia-toolkit.nvidia-container-cli.root": "/run/nvidia/driver",
    }


def test_cdi_specifications_where_the_runtimes_look(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", NVIDIA)
    tree.link("/var/run", "/run")
    tree.write("/etc/cdi/nvidia.yaml", SPEC)
    tree.write("/run/cdi/k8s.device-plugin.nvidia.com-gpu.json", '{"cdiVersion": "0.5.0", "kind": "a/b"}')
    tree.write("/opt/cdi/broken.json", "{")
    tree.write("/opt/cdi/notes.txt", "nothing")
    facts = {key: value for key, value in collect(tmp_path).items() if key.startswith("cdi.")}
    digests = {key: facts.pop(key) for key in sorted(facts) if key.endswith(".digest")}
    assert list(digests) == [
        "cdi./etc/cdi/nvidia.yaml.digest",
        "cdi./var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json.digest",
    ]
    unread = tree.outcomes(ContainerRuntimeCollector())["container-runtime[cdi./opt/cdi/broken.json]"]
    assert isinstance(unread, Failed)
    assert facts == {
        "cdi./etc/cdi/nvidia.yaml.kind": "nvidia.com/gpu",
        "cdi./etc/cdi/nvidia.yaml.version": "0.5.0",
        "cdi./var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json.kind": "a/b",
        "cdi./var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json.version": "0.5.0",
    }


def test_a_broken_file_does_not_cost_the_others(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", "version = ")
    tree.write("/etc/docker/daemon.json", "{}")
    outcomes = tree.outcomes(ContainerRuntimeCollector())
    unread, read = outcomes["container-runtime[containerd]"], outcomes["container-runtime"]
    assert isinstance(unread, Failed)
    assert unread.code is FailureCode.MALFORMED
    assert unread.reason.startswith("/etc/containerd/config.toml is not TOML: ")
    assert isinstance(read, Ok)
    assert set(read.data) >= {"docker.config-digest"}


def test_nothing_but_broken_files_is_a_failure(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/containerd/config.toml", b"\xff\x00")
    outcome = tree.collect(ContainerRuntimeCollector())
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.MALFORMED


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/docker/daemon.json", b"{" + b" " * (1 << 20) + b"}")
    outcome = tree.collect(ContainerRuntimeCollector())
    assert outcome == Failed(FailureCode.TOO_LARGE, "/etc/docker/daemon.json is longer than 1048576 bytes")


class _ClosedHost(Host):
    def read_bytes(self, path: str, limit: int = 0) -> bytes:
        raise PermissionError(errno.EACCES, "denied", path)


def test_a_file_we_may_not_read_is_a_failure(tmp_path: Path) -> None:
    context = Context(host=_ClosedHost(str(tmp_path)), node="node-1", deadline=float("inf"))
    [outcome] = ContainerRuntimeCollector().collect(context).subtypes.values()
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/etc/cri/containerd.toml may not be read")


def test_no_runtime_is_absent(tmp_path: Path) -> None:
    reason = DeviceTree(tmp_path).reason(ContainerRuntimeCollector())
    assert reason == "no container runtime is configured on this node"


def test_a_specification_without_a_runtime_counts(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/etc/cdi/nvidia.yaml", SPEC)
    outcome = tree.collect(ContainerRuntimeCollector())
    assert isinstance(outcome, Ok)


@pytest.mark.parametrize(
    ("key", "stability"),
    [
        ("cdi./var/run/cdi/k8s.gpu.nvidia.com-claim_5f0c.yaml.digest", Stability.VOLATILE),
        ("cdi./etc/cdi/nvidia.yaml.digest", Stability.STABLE),
        ("docker.node-generic-resources", Stability.IDENTITY),
        ("containerd.config-digest", Stability.STABLE),
    ],
)
def test_stability(key: str, stability: Stability) -> None:
    assert default_rules().classify("OS", "container-runtime", key) is stability

"""OS.container-runtime: how containerd, Docker, CRI-O and the NVIDIA toolkit are configured; which CDI files exist.

Source: the configuration files themselves, where distributions put them; agent/container_config.py says how they are
read. Each file's digest is over its settings without credentials; wording, order and comments do not count.
"""

import os.path
from collections.abc import Callable, Iterator
from typing import Final

from agent.collectors.base import Context, hidden, outcome_of
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
    without_secrets,
)
from agent.host import Host
from common.canonical import file_digest
from common.model import Absent, Collected, Failed, FailureCode, MeasurementType, Ok, Outcome, Scalar

_CONTAINERD: Final = (
    # The kubelet's own containerd comes first: beside it, /etc/containerd may be that of Docker or of the system.
    "/etc/cri/containerd.toml",  # Talos
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/etc/k0s/containerd.toml",
    "/var/snap/microk8s/current/args/containerd.toml",
    "/etc/containerd/config.toml",
)
_DOCKER: Final = "/etc/docker/daemon.json"
_CRIO: Final = "/etc/crio/crio.conf"
_CRIO_DROP_INS: Final = "/etc/crio/crio.conf.d"
_NVIDIA: Final = {
    "nvidia-container-runtime": "/etc/nvidia-container-runtime/config.toml",
    # Where the GPU operator's toolkit container keeps its own.
    "nvidia-toolkit": "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
}
_CDI: Final = ("/etc/cdi", "/var/run/cdi")
_DOCKER_UNSAID: Final = frozenset({"log-opts", "proxies"})  # free-form, where credentials hide under any name
_UNREAD: Final = ".unread"
"""Ending of what stands for a file among many that could not be read, until it becomes an outcome of its own."""
_MOST_FILES: Final = 64
_LIMIT: Final = 1 << 20


class ContainerRuntimeCollector:
    """Reads the configuration of every runtime found; one broken file does not cost the others' facts."""

    name = "container-runtime"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        if why := ctx.host.hidden("/etc"):
            return Collected.of({"container-runtime": hidden("/etc", why)})
        facts: dict[str, Scalar] = {}
        troubles: dict[str, Failed] = {}
        for part, read in _PARTS.items():
            try:
                facts.update((f"{part}.{key}", value) for key, value in read(ctx.host).items())
            except _UnreadError as error:
                troubles[part] = error.failed
        facts.update(_cdi_specs(ctx.host, facts))
        if not facts and not troubles:
            return Collected.of({"container-runtime": Absent("no container runtime is configured on this node")})
        if not facts:
            return Collected.of({"container-runtime": next(iter(troubles.values()))})
        # A part that could not be read has a line of its own, so that its missing facts do not count as removed.
        parts: dict[str, Outcome] = {f"container-runtime[{part}]": failed for part, failed in troubles.items()}
        for key in [key for key in facts if key.endswith(_UNREAD)]:
            reason = str(facts.pop(key))
            parts[f"container-runtime[{key.removesuffix(_UNREAD)}]"] = Failed(FailureCode.UNREADABLE, reason)
        return Collected.of({"container-runtime": Ok(facts), **parts})


class _UnreadError(Exception):
    """A file is there, but cannot be read or understood."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.reason)
        self.failed = failed


def _load(host: Host, path: str, parse: Callable[[str], Document]) -> Document | None:
    """One file's document; None when there is no such file. Raises _UnreadError."""
    try:
        return parse(host.read_text(path, _LIMIT))
    except MalformedError as error:
        raise _UnreadError(Failed(FailureCode.MALFORMED, f"{path} is {error}")) from error
    except OSError as error:
        outcome = outcome_of(error, path)
        if isinstance(outcome, Failed):
            raise _UnreadError(outcome) from error
        return None


def _digest(document: Document) -> str:
    return file_digest(canonical_text(without_secrets(document)))


def _containerd(host: Host) -> dict[str, Scalar]:
    for path in _CONTAINERD:
        config = _load(host, path, parse_toml)
        if config is None:
            continue
        files = [path]
        for imported in _imports(host, config, path, files):
            config = merge_containerd(config, imported)
        facts: dict[str, Scalar] = {"config-digest": _digest(config), "config-files": ",".join(files)}
        facts.update(containerd_settings(without_secrets(config)))
        for directory in str(facts.get("registry-config-path", "")).split(":"):
            facts.update(_registry_hosts(host, directory) if directory else {})
        return facts
    return {}


def _imports(host: Host, config: Document, path: str, files: list[str]) -> Iterator[Document]:
    """The documents a file imports, in the order containerd merges them; their paths are added to `files`."""
    patterns = config.get("imports")
    for pattern in patterns if isinstance(patterns, list) else []:
        full = os.path.normpath(os.path.join(os.path.dirname(path), str(pattern)))
        directory, name = os.path.split(full)
        for found in host.glob(directory, name) if "*" in name else [full]:
            if found in files or len(files) >= _MOST_FILES:
                continue
            imported = _load(host, found, parse_toml)
            if imported is not None:
                files.append(found)
                yield imported
                yield from _imports(host, imported, found, files)


def _registry_hosts(host: Host, directory: str) -> dict[str, Scalar]:
    """A digest for each registry with a hosts.toml: mirrors decide where images come from."""
    facts: dict[str, Scalar] = {}
    for path in host.glob(directory, "*")[:_MOST_FILES]:
        key = f"registry-hosts.{os.path.basename(path)}"
        try:
            hosts = _load(host, f"{path}/hosts.toml", parse_toml)
        except _UnreadError as error:
            facts[f"{key}.unread"] = error.failed.reason
            continue
        if hosts is not None:
            facts[key] = _digest(hosts)
    return facts


def _docker(host: Host) -> dict[str, Scalar]:
    config = _load(host, _DOCKER, parse_json)
    if config is None:
        return {}
    said = {key: value for key, value in config.items() if key not in _DOCKER_UNSAID}
    return flatten(without_secrets(said), "") | {"config-digest": _digest(config)}


def _crio(host: Host) -> dict[str, Scalar]:
    config: Document | None = None
    files: list[str] = []
    for path in [_CRIO, *host.glob(_CRIO_DROP_INS, "*")[:_MOST_FILES]]:
        document = _load(host, path, parse_toml)
        if document is not None:
            files.append(path)
            config = merge(config or {}, document)
    if config is None:
        return {}
    settings = config.get("crio", {})
    digest: dict[str, Scalar] = {"config-digest": _digest(config), "config-files": ",".join(files)}
    return (flatten(without_secrets(settings), "") if isinstance(settings, dict) else {}) | digest


def _nvidia(path: str) -> Callable[[Host], dict[str, Scalar]]:
    def read(host: Host) -> dict[str, Scalar]:
        config = _load(host, path, parse_toml)
        return {} if config is None else flatten(without_secrets(config), "") | {"config-digest": _digest(config)}

    return read


def _cdi_specs(host: Host, facts: dict[str, Scalar]) -> dict[str, Scalar]:
    """The specifications in the usual directories and in those the runtimes were told of."""
    told = [
        directory
        for key in ("containerd.cdi-spec-dirs", "cri-o.runtime.cdi_spec_dirs", "docker.cdi-spec-dirs")
        for directory in str(facts.get(key, "")).split(",")
        if directory.startswith("/")
    ]
    specs: dict[str, Scalar] = {}
    seen: set[str] = set()
    for directory in dict.fromkeys([*_CDI, *told]):
        try:
            real = host.resolve(directory)
        except OSError:
            continue
        if real in seen:
            continue
        seen.add(real)
        for path in host.glob(directory, "*")[:_MOST_FILES]:
            if path.endswith((".json", ".yaml", ".yml")):
                specs.update((f"cdi.{path}.{key}", value) for key, value in _cdi_spec(host, path).items())
    return specs


def _cdi_spec(host: Host, path: str) -> dict[str, Scalar]:
    try:
        fields, content = parse_cdi_spec(host.read_text(path, _LIMIT))
    except MalformedError as error:
        return {"unread": f"{path} is {error}"}
    except OSError as error:
        return {"unread": outcome_of(error, path).reason}
    return fields | {"digest": file_digest(content)}


_PARTS: Final[dict[str, Callable[[Host], dict[str, Scalar]]]] = {
    "containerd": _containerd,
    "docker": _docker,
    "cri-o": _crio,
    **{part: _nvidia(path) for part, path in _NVIDIA.items()},
}

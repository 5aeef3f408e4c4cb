"""What container runtimes' configuration files say: parsed, merged as the runtime does, without secrets. Pure.

Source: containerd-config.toml(5) and containerd's docs/PLUGINS.md (versions 2 and 3), dockerd's daemon.json,
crio.conf(5), the NVIDIA container toolkit's config.toml, the Container Device Interface specification.
"""

import json
import re
import tomllib
from typing import Any, Final, TypeAlias

from common.model import Scalar

Document: TypeAlias = dict[str, Any]

_SECRET_KEYS: Final = frozenset(
    {"auth", "auths", "authorization", "env", "environment", "header", "headers", "username"}
)
_SECRET_PARTS: Final = ("credential", "passw", "secret", "token")
_USER_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]*@")
_UUID: Final = re.compile(
    r"\b(GPU|MIG)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE
)
_CDI_FIELD: Final = re.compile(r"""^["']?(kind|cdiVersion)["']?\s*:\s*["']?([^"'\s#]+)""", re.MULTILINE)
_DEEPEST: Final = 32


class MalformedError(ValueError):
    """The text is not what its format asks for. The message is the same every time."""


def parse_toml(text: str) -> Document:
    """A TOML file. Raises MalformedError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(f"not TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        raise MalformedError("not TOML: a number too long or tables too deep") from error
    return _bounded(document)


def parse_json(text: str) -> Document:
    """A JSON file with an object in it. Raises MalformedError."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise MalformedError("not JSON: a number too long or lists too deep") from error
    if not isinstance(document, dict):
        raise MalformedError("not a JSON object")
    return _bounded(document)


def _bounded(document: Document) -> Document:
    """What follows recurses; real configurations are some ten levels deep."""
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return document
    raise MalformedError(f"nested more than {_DEEPEST} levels deep")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def without_secrets(value: Any) -> Any:
    """A copy without credentials: entries and variables named like one, and `user:password@` in URLs, left out."""
    if isinstance(value, dict):
        return {
            _without_user(key): without_secrets(child) for key, child in value.items() if not _names_a_secret(key)
        }
    if isinstance(value, list):
        return [without_secrets(child) for child in value if not _assigns_a_secret(child)]
    return _without_user(value) if isinstance(value, str) else value


def _without_user(text: str) -> str:
    return _USER_IN_URL.sub("", text)


def _assigns_a_secret(value: Any) -> bool:
    """Whether a list's entry is a variable such as `API_TOKEN=…`."""
    if not isinstance(value, str):
        return False
    name, equals, _ = value.partition("=")
    return bool(equals) and _names_a_secret(name)


def _names_a_secret(key: str) -> bool:
    key = key.lower()
    return key in _SECRET_KEYS or any(part in key for part in _SECRET_PARTS)


def canonical_text(document: Document) -> bytes:
    """The same bytes for the same settings, however the file words, orders or comments them."""
    return _without_uuids(json.dumps(document, sort_keys=True, separators=(",", ":"), default=str))


def _without_uuids(text: str) -> bytes:
    """Equal servers name different GPUs; their files count as equal."""
    return _UUID.sub(r"\1-${uuid}", text).encode("utf-8", "replace")


def flatten(value: Any, prefix: str) -> dict[str, Scalar]:
    """Nested tables as dotted keys; a list of scalars is joined by commas, one of tables is numbered."""
    if isinstance(value, dict):
        flat: dict[str, Scalar] = {}
        for key, child in value.items():
            flat.update(flatten(child, f"{prefix}.{_writable(key)}" if prefix else _writable(key)))
        return flat
    if isinstance(value, list):
        if not any(isinstance(child, dict | list) for child in value):
            return {prefix: ",".join(str(scalar(child)) for child in value)}
        return flatten({str(index): child for index, child in enumerate(value)}, prefix)
    return {prefix: scalar(value)}


def scalar(value: Any) -> Scalar:
    """A value as a fact can hold it; dates, nulls and numbers past 64 bits as text."""
    if isinstance(value, bool | float) and value == value and abs(value) != float("inf"):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return value
    return _writable("null" if value is None else hex(value) if isinstance(value, int) else str(value))


def _writable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can name but UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def merge(into: Document, other: Document) -> Document:
    """Tables merged key by key, anything else replaced by what comes later; neither argument is changed."""
    merged = dict(into)
    for key, value in other.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def merge_containerd(into: Document, other: Document) -> Document:
    """An imported file merged as containerd does: lists at the top are united, plugins are merged.

    containerd 1.x, which version 2 and older files are for, replaces a plugin's section whole instead.
    """
    merged = merge(into, other)
    for key, value in other.items():
        mine = into.get(key)
        if isinstance(mine, list) and isinstance(value, list):
            merged[key] = mine + [item for item in value if item not in mine]
    if _version(merged) < 3:
        merged["plugins"] = {**_table(into, "plugins"), **_table(other, "plugins")}
    return merged


def _version(config: Document) -> int:
    version = config.get("version")
    return version if isinstance(version, int) else 1


def _table(value: Any, *path: str) -> Document:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


_RUNTIME_SETTINGS: Final = {
    "base-runtime-spec": "base_runtime_spec",
    "privileged-without-host-devices": "privileged_without_host_devices",
    "snapshotter": "snapshotter",
    "type": "runtime_type",
}
_RUNTIME_OPTIONS: Final = {"binary-name": "BinaryName", "systemd-cgroup": "SystemdCgroup"}


def containerd_settings(config: Document) -> dict[str, Scalar]:
    """The settings that decide how containers start and reach GPUs, by names that hold for every file version."""
    plugins = _table(config, "plugins")
    old = _table(plugins, "io.containerd.grpc.v1.cri") or _table(plugins, "cri")
    runtime = _table(plugins, "io.containerd.cri.v1.runtime") or old
    images = _table(plugins, "io.containerd.cri.v1.images")
    stores = images or _table(old, "containerd")  # version 3 moved image settings out of `containerd`
    images = images or old
    settings = {
        "cdi-spec-dirs": runtime.get("cdi_spec_dirs"),
        "cni-bin-dir": _table(runtime, "cni").get("bin_dirs", _table(runtime, "cni").get("bin_dir")),
        "cni-conf-dir": _table(runtime, "cni").get("conf_dir"),
        "config-version": _version(config),
        "default-runtime-name": _table(runtime, "containerd").get("default_runtime_name"),
        "device-ownership-from-security-context": runtime.get("device_ownership_from_security_context"),
        "disabled-plugins": config.get("disabled_plugins"),
        "discard-unpacked-layers": stores.get("discard_unpacked_layers"),
        "enable-cdi": runtime.get("enable_cdi"),
        "enable-selinux": runtime.get("enable_selinux"),
        "image-pull-with-sync-fs": images.get("image_pull_with_sync_fs"),
        "max-concurrent-downloads": images.get("max_concurrent_downloads"),
        "nri-disabled": _table(plugins, "io.containerd.nri.v1.nri").get("disable"),
        "oom-score": config.get("oom_score"),
        "registry-config-path": _table(images, "registry").get("config_path"),
        "root": config.get("root"),
        "sandbox-image": _table(images, "pinned_images").get("sandbox", images.get("sandbox_image")),
        "snapshotter": stores.get("snapshotter"),
        "state": config.get("state"),
    }
    for name, declared in _table(runtime, "containerd", "runtimes").items():
        options = _table(declared, "options")
        for ours, theirs in _RUNTIME_SETTINGS.items():
            settings[f"runtime.{name}.{ours}"] = _table(declared).get(theirs)
        for ours, theirs in _RUNTIME_OPTIONS.items():
            settings[f"runtime.{name}.{ours}"] = options.get(theirs)
    return flatten({key: value for key, value in settings.items() if value not in (None, "", [])}, "")


def parse_cdi_spec(text: str) -> tuple[dict[str, Scalar], bytes]:
    """A CDI specification's kind and version, and the bytes to compare it by: without the GPUs' UUIDs.

    The specification may be YAML or JSON and tens of kilobytes long. Its two fields stand at the top level; the
    rest is only compared, and specifications are written by generators, so the text need not be parsed.
    """
    fields: dict[str, Scalar] = {}
    if text.lstrip().startswith("{"):
        document = parse_json(text)
        found = [(key, str(document[key])) for key in ("kind", "cdiVersion") if isinstance(document.get(key), str)]
    else:
        found = _CDI_FIELD.findall(text)
    for key, value in found:
        fields.setdefault("kind" if key == "kind" else "version", value)
    return fields, _without_uuids(text)

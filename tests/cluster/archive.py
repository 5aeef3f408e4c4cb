"""Writes container images by hand, in the `docker save` format: one layer, no tools.

For what needs no Dockerfile: the pause image of every pod, and busybox for tests that only want a pod.
"""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.binaries import binaries_directory
from tests.cluster.debian import node_root

PAUSE_IMAGE = "eidos.test/pause:1"
BUSYBOX_IMAGE = "eidos.test/busybox:1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    archive.addfile(info)


def _write(target: Path, tag: str, layer: bytes, command: list[str]) -> None:
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [f"{layer_digest}.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add(archive, f"{layer_digest}.tar", layer)
        _add(archive, config_name, config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def write_pause(target: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tree:
        _add(tree, "pause", (binaries_directory() / "pause").read_bytes(), 0o755)
    _write(target, PAUSE_IMAGE, layer.getvalue(), ["/pause"])


def _in_node_root(*argv: str) -> str:
    return subprocess.run(["chroot", str(node_root()), *argv], capture_output=True, text=True, check=True).stdout


def _libraries(program: str) -> list[str]:
    """The shared libraries, and the loader, that a program of a node's root needs."""
    return sorted(word for word in _in_node_root("ldd", program).split() if word.startswith("/"))


def write_busybox(target: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tree:
        # With its libraries: a static glibc loads some all the same once it looks a name up.
        for name in ("/bin/busybox", *_libraries("/bin/busybox")):
            _add(tree, name.lstrip("/"), (node_root() / name.lstrip("/")).read_bytes(), 0o755)
        for applet in _in_node_root("/bin/busybox", "--list").split():
            if applet != "busybox":
                _link(tree, f"bin/{applet}", "busybox")
        _add(tree, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        _add(tree, "tmp/.keep", b"")
    _write(target, BUSYBOX_IMAGE, layer.getvalue(), ["/bin/sh"])

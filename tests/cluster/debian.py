"""The Debian file systems: a stand-in machine's root, and what stands in for debian:bookworm-slim.

Both are made by debootstrap, once, into the cache.
"""

import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from tests.cluster.paths import cache_root, keyed
from tests.cluster.progress import build_lock, step, tried_again

SUITE = "bookworm"
# What runs on a node beside containerd and kubelet: CNI plugins, nft for kube-proxy, a real systemd and its bus.
_NODE_PACKAGES = (
    "busybox",
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "dbus",
    "iproute2",
    "kmod",
    "nftables",
    "procps",
    "systemd",
)
# Left out of a node's root, where nobody reads them; containers read-only share the rest.
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt/archives")


def node_root() -> Path:
    """The root file system of a stand-in machine; running nodes write to an overlay above it."""
    return keyed("node", [SUITE, *_NODE_PACKAGES, *_UNREAD])


def base_root() -> Path:
    """debootstrap's minimal variant: what `FROM debian:bookworm-slim` is replaced by."""
    return keyed("base", [SUITE, *_UNREAD])


def debian_built() -> bool:
    return node_root().is_dir() and base_root().is_dir()


def build_debian() -> None:
    """Makes both roots, about a minute each."""
    if debian_built():
        return
    with build_lock():
        for target, packages in ((base_root(), ()), (node_root(), _NODE_PACKAGES)):
            if not target.is_dir():
                with step(f"debootstrap {SUITE} for {target.name}"):
                    tried_again(partial(_debootstrap, target, packages))


def _debootstrap(target: Path, packages: tuple[str, ...]) -> None:
    downloads = cache_root() / "debs"
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".debootstrap-") as made:
        root = Path(made) / "root"
        argv = ["debootstrap", "--variant=minbase", f"--cache-dir={downloads}"]
        if packages:
            argv.append(f"--include={','.join(packages)}")
        done = subprocess.run([*argv, SUITE, str(root)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"debootstrap failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        for unread in _UNREAD:
            shutil.rmtree(root / unread, ignore_errors=True)
        # apt insists on its empty folders when a Dockerfile installs something.
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        # debootstrap copies the names of this machine; an image or a node has its own.
        for own in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
            (root / own).write_text("")
        root.chmod(0o755)
        root.rename(target)

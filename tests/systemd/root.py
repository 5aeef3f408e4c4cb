"""The file system a test systemd runs in: a small Debian made by debootstrap, once per suite, in the cache."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.cluster.progress import tried_again

SUITES = {"bookworm": "252", "trixie": "257", "sid": "262"}
"""Debian suites and the systemd each had when these tests were last run against it."""

_PACKAGES = ("systemd", "dbus")
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt/archives")


class UnavailableError(Exception):
    """A real systemd cannot run on this machine; the text says why."""


def check_machine() -> None:
    """Raises UnavailableError unless this is Linux, we are root, and namespaces can be made."""
    if sys.platform != "linux":
        raise UnavailableError(f"a real systemd needs Linux (this is {sys.platform})")
    if os.geteuid() != 0:
        raise UnavailableError("a real systemd needs root (namespaces, mounts)")
    argv = ["unshare", "--mount", "--pid", "--cgroup", "--net", "--uts", "--ipc", "--fork", "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise UnavailableError(f"a real systemd needs new namespaces: {tried.stderr.strip()}")


def systemd_root(suite: str = "bookworm") -> Path:
    """The root for one Debian suite; made now if it is not in the cache. Raises UnavailableError."""
    target = _cache() / suite
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f"{suite}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                tried_again(partial(_make, suite, target), UnavailableError)
    return target


def _cache() -> Path:
    given = os.environ.get("EIDOS_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eidos"
    return base.resolve() / "systemd"


def _make(suite: str, target: Path) -> None:
    _need_debootstrap()
    print(f"systemd: debootstrap {suite} (about a minute, then cached)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as making:
        root = Path(making) / "root"
        argv = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", suite, str(root), *_mirror()]
        _run(argv)
        for unread in _UNREAD:
            shutil.rmtree(root / unread, ignore_errors=True)
        for own in ("etc/resolv.conf", "etc/hostname"):  # debootstrap copies this machine's
            (root / own).write_text("")
        root.chmod(0o755)
        root.rename(target)


def _need_debootstrap() -> None:
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError("debootstrap is not installed, and there is no apt-get to install it")
    _run(["apt-get", "update", "-qq"])
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap"])


def _mirror() -> list[str]:
    """The Debian mirror this machine's apt uses; [] leaves the choice to debootstrap."""
    argv = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    if not shutil.which("apt-get"):
        return []
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    mirrors = (line.removeprefix("Debian ") for line in listed.splitlines() if line.startswith("Debian "))
    return [mirror for mirror in mirrors if mirror.rstrip("/").endswith("/debian")][:1]


def _run(argv: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UnavailableError(f"{argv[0]} failed: {(done.stdout + done.stderr)[-1500:].strip()}")

"""What this machine must have before anything can be built or started."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.progress import build_lock, step

# A command, or a pattern of files below /usr, that shows a Debian package is there -> the package.
_PACKAGES = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "cc": "gcc",
    "include/**/sys/wait.h": "libc6-dev",
    "include/**/seccomp.h": "libseccomp-dev",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
_PACKAGES_OF_RUNTIME = ("ip", "nsenter", "openssl")


class ClusterUnavailableError(Exception):
    """The real cluster cannot run on this machine; the text says what is missing."""


def _present(sign: str) -> bool:
    if "/" in sign:
        return any(Path("/usr").glob(sign))
    return shutil.which(sign) is not None


def check_machine() -> None:
    """Raises ClusterUnavailableError unless this is Linux, root, and namespaces can be made."""
    if sys.platform != "linux":
        raise ClusterUnavailableError(f"the real cluster needs Linux (this is {sys.platform})")
    if os.geteuid() != 0:
        raise ClusterUnavailableError("the real cluster needs root (namespaces, mounts, cgroups)")
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--uts", "--cgroup", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        raise ClusterUnavailableError(f"the real cluster needs new namespaces: {tried.stderr.strip()}")


def missing_packages(*, to_build: bool) -> list[str]:
    signs = _PACKAGES if to_build else _PACKAGES_OF_RUNTIME
    return sorted(_PACKAGES[sign] for sign in signs if not _present(sign))


def install_packages(*, to_build: bool) -> None:
    """Installs the Debian packages that are not there; without apt, raises ClusterUnavailableError naming them."""
    missing = missing_packages(to_build=to_build)
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterUnavailableError(f"not installed, and there is no apt-get to install them: {', '.join(missing)}")
    with build_lock():  # of two at the same time apt refuses one
        missing = missing_packages(to_build=to_build)
        if missing:
            _install(missing)


def _install(missing: list[str]) -> None:
    with step(f"installing {' '.join(missing)}"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        ):
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise ClusterUnavailableError(f"{' '.join(argv)} failed: {done.stderr.strip()[-2000:]}")


def check_go() -> None:
    if shutil.which("go") is None:
        raise ClusterUnavailableError("Go is not installed: Kubernetes is built from the Go module proxy")

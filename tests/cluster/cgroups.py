"""A cgroup of its own for each stand-in machine, in every hierarchy this machine has mounted.

Inside its cgroup namespace a node takes that cgroup for the root, so kubelet's and containerd's groups lie below
it, two nodes never see each other's, and one walk removes them all. cgroup v1 and hybrid are tried; v2 alone is
written by the kernel's documentation (Documentation/admin-guide/cgroup-v2.rst) and untried.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy; `options` is empty for v2."""

    mount: Path
    options: str


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Reads /proc/self/mountinfo (Documentation/filesystems/proc.rst)."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, superblock = tail.split(" ", 2)
        mount = Path(head.split(" ")[4])
        if not mount.is_relative_to("/sys/fs/cgroup"):
            continue
        if kind == "cgroup":
            options = [option for option in superblock.split(",") if option not in ("rw", "ro", "xattr")]
            found.append(Hierarchy(mount, ",".join(o for o in options if not o.startswith("release_agent"))))
        elif kind == "cgroup2":
            found.append(Hierarchy(mount, ""))
    return found


def mounted() -> list[Hierarchy]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def make(group: str) -> list[Path]:
    """Makes the cgroup `group` (`cluster/machine`) in every hierarchy and returns the folders."""
    made = []
    for hierarchy in mounted():
        folder = hierarchy.mount
        for part in Path(group).parts:
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # A new v1 cpuset is empty and takes no process before it is filled.
                if hierarchy.options and (folder / setting).exists():
                    (folder / setting).write_text((parent / setting).read_text())
        made.append(folder)
    return made


def remove(group: str) -> None:
    """Removes `group` and everything below it; its processes must be dead. A dying one may need a moment."""
    for hierarchy in mounted():
        top = hierarchy.mount / group
        folders = sorted((Path(at) for at, _, _ in os.walk(top)), key=lambda at: len(at.parts), reverse=True)
        deadline = time.monotonic() + 30
        for folder in folders:
            while True:
                try:
                    folder.rmdir()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)


def mount_script(root: str) -> str:
    """Shell lines that mount the same hierarchies below `root`/sys/fs/cgroup, as seen from a new cgroup namespace."""
    lines = []
    found = mounted()
    if any(hierarchy.options for hierarchy in found):
        lines.append(f"mount -t tmpfs -o mode=755 cgroup {root}/sys/fs/cgroup")
    for hierarchy in found:
        at = f"{root}{hierarchy.mount}"
        if hierarchy.options:
            lines.append(f"mkdir -p {at} && mount -t cgroup -o {hierarchy.options} cgroup {at}")
        else:
            lines.append(f"mkdir -p {at} && mount -t cgroup2 cgroup2 {at}")
    return "\n".join(lines)


# Run inside a node: joins the node's cgroups, which entering its namespaces does not do. A v2 root may hold no
# process once controllers are enabled below it, hence the group `init` there.
JOIN = """
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/init && echo 0 > /sys/fs/cgroup/init/cgroup.procs
else
    for procs in /sys/fs/cgroup/*/cgroup.procs; do echo 0 > "$procs"; done
fi
exec "$@"
"""

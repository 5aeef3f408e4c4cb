"""A real systemd and D-Bus on a node, for agents that read `/run/systemd/private` and `/run/dbus`.

It is process 1 of the node, with a mount namespace of its own and the node's /run, so pods find its sockets at the
usual host paths, `systemctl` works on the node, and a pod with `hostPID` sees it as process 1.
"""

import shlex
from pathlib import Path

from tests.cluster.machine import TELL_PID
from tests.cluster.processes import MARK

# What a GPU node's systemd shows. The daemons themselves are started by the cluster, so these only stand for them.
_UNITS = {
    "containerd.service": "containerd container runtime",
    "kubelet.service": "Kubernetes node agent",
    "nvidia-persistenced.service": "NVIDIA Persistence Daemon",
}
_UNIT = """[Unit]
Description={description}
[Service]
ExecStart=/usr/bin/sleep infinity
Restart=always
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
"""
# Its own view of the machine: the kernel's settings read-only (it would set some), and cgroup v2 alone.
_ENTER = f"""
set -eu
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=eidos {MARK}=${MARK} /lib/systemd/systemd --system --unit=multi-user.target --show-status=false
"""
# `systemd` becomes process 1, because it talks only to processes it can see: those of its pid namespace.
_STAY = f'{TELL_PID}echo $outer_pid > "$1"; exec "$2"'
PROCESS_1 = f"unshare --mount --cgroup sh -c '{_ENTER}'"


def prepare_script(root: str, state: Path, pause: Path) -> str:
    """Shell lines for the node's boot: units, nothing on the machine's consoles, a cgroup, and a process that stays
    in the node's mount namespace for others to enter it by."""
    units = f"{root}/etc/systemd/system"
    told = shlex.quote(str(state / "inside.pid"))
    lines = [
        f"mkdir -p {units}/multi-user.target.wants",
        f"ln -sf /dev/null {units}/getty.target",
        "group=/sys/fs/cgroup/unified; [ -d $group ] || group=/sys/fs/cgroup",
        f"mkdir -p {root}$group/systemd; echo 0 > {root}$group/systemd/cgroup.procs",
        f"(sh -c '{_STAY}' sh {told} {shlex.quote(str(pause))} > /dev/null &)",
        f"until [ -s {told} ]; do sleep 0.01; done",
        f"read -r inside_pid < {told}",
    ]
    for unit, description in _UNITS.items():
        lines += [
            f"cat > {units}/{unit} <<'UNIT'\n{_UNIT.format(description=description)}UNIT",
            f"ln -sf ../{unit} {units}/multi-user.target.wants/{unit}",
        ]
    return "\n".join(lines)


# Waits for systemd's own socket and then for it to finish starting; a degraded system is up all the same.
WAIT = """
until [ -S /run/systemd/private ]; do sleep 0.05; done
state=$(systemctl is-system-running --wait) || true
case "$state" in running|degraded) ;; *) echo "systemd is $state" >&2; exit 1 ;; esac
"""

"""Starts a real systemd as process 1 of its own namespaces, and ends it without leaving a mount or a cgroup."""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWPID = 0x20000000
_START_SECONDS = 60.0

_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# In a mount namespace of its own already: a cgroup to be the root of the machine's view, then the other namespaces.
_ENTER = r"""
set -eu
root=$1 work=$2
mount -t cgroup2 cgroup2 "$work/cgroup"
mkdir "$work/cgroup/$3"
echo $$ > "$work/cgroup/$3/cgroup.procs"
exec unshare --pid --cgroup --net --uts --ipc --fork --kill-child=KILL --mount-proc sh -c "$4" boot "$root" "$work"
"""
# Process 1: an overlay above the cached root, the kernel's settings read-only (systemd would set some), cgroup v2
# alone, no devices but the harmless ones, and a /run that the outside sees too.
_BOOT = r"""
set -eu
root=$1 work=$2 new=$2/new
mount -t tmpfs tmpfs "$work/upper"
mkdir "$work/upper/files" "$work/upper/work"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper/files,workdir=$work/upper/work" "$new"
cp -a "$work/files/." "$new/"
: > "$new/etc/machine-id"
mount -t proc proc "$new/proc"
mount --bind "$new/proc/sys" "$new/proc/sys"
mount -o remount,bind,ro "$new/proc/sys"
mount -t sysfs -o ro sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount --bind "$work/run" "$new/run"
mount -t tmpfs tmpfs "$new/dev"
for device in null zero full random urandom; do
    : > "$new/dev/$device"
    mount --bind "/dev/$device" "$new/dev/$device"
done
cd "$new"
mkdir -p before
pivot_root . before
umount --lazy /before
exec env -i container=eidos NOTIFY_SOCKET=/run/started.socket PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=console --show-status=false
"""
_CLEAN = r"""
mount -t cgroup2 cgroup2 "$1/cgroup" && [ ! -d "$1/cgroup/$2" ] || find "$1/cgroup/$2" -depth -type d -exec rmdir {} +
"""
# Nothing on the machine's consoles, and nothing that starts by the clock.
_MASKED = ("getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer")


@dataclass(slots=True)
class SystemdMachine:
    """A running systemd. `work` is its state on the outside; only `stop` may be called after it has ended."""

    work: Path
    pid: int
    """Process 1 of the machine, as numbered outside."""
    process: "subprocess.Popen[bytes]"

    @property
    def root(self) -> Path:
        """The machine's root as seen from outside, /run, /proc and /sys included: a host root for collectors."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def run(self) -> Path:
        """Its /run, an ordinary directory outside that a container may be given."""
        return self.work / "run"

    @property
    def private_socket(self) -> Path:
        """systemd's own socket. It answers only processes of the machine's pid namespace: see `inside`."""
        return self.run / "systemd/private"

    @property
    def bus_socket(self) -> Path:
        """The system bus."""
        return self.run / "dbus/system_bus_socket"

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl on the machine and return what it printed; raises CalledProcessError with its stderr."""
        argv = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--net"]
        done = subprocess.run(
            [*argv, "systemctl", "--no-pager", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
        return done.stdout

    def wait_until_it_answers(self) -> None:
        """`systemctl daemon-reexec` returns when the old one has gone; the new one listens a moment later."""
        while True:
            try:
                self.systemctl("show", "--property=Version")
            except subprocess.CalledProcessError:
                continue  # pytest's timeout ends a wait in vain
            return

    def write(self, path: str, content: str) -> None:
        """Write a file of the machine, such as `/etc/systemd/system/x.service`."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function whose child processes belong to the machine's pid namespace.

        systemd turns away a process it cannot see. The namespace for children is the calling thread's own setting
        (setns(2)), so a thread is made for the call.
        """
        results: list[T | BaseException] = []

        def call() -> None:
            try:
                _use_pid_namespace(self.pid)
                results.append(function())
            except BaseException as error:  # given to the caller's thread
                results.append(error)

        thread = threading.Thread(target=call, name="inside-systemd")
        thread.start()
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def stop(self) -> None:
        """Kill process 1, with which the kernel kills all others, and remove what the machine left."""
        _end(self.process)
        if self.work.exists():
            _remove(self.work)


def _use_pid_namespace(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/pid", "rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWPID) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"/proc/{pid}/ns/pid")


def start_systemd(root: Path, files: Mapping[str, str] | None = None) -> SystemdMachine:
    """Boot the systemd in `root`, which is not changed, with `files` added (path to content); wait until it is up.

    It ends with `stop`, and with the thread that called this. Raises RuntimeError with what systemd wrote when it
    does not come up.
    """
    work = Path(tempfile.mkdtemp(prefix="eidos-systemd-"))  # short: a socket's path has at most 107 bytes
    try:
        for part in ("cgroup", "upper", "new", "run", "files"):
            (work / part).mkdir()
        _write_files(work / "files", files or {})
        return _start(root, work)
    except BaseException:
        _remove(work)
        raise


def _write_files(top: Path, files: Mapping[str, str]) -> None:
    units = top / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in _MASKED:
        (units / unit).symlink_to("/dev/null")
    for path, content in files.items():
        place = top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


def _start(root: Path, work: Path) -> SystemdMachine:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as started, (work / "console").open("wb") as console:
        started.bind(str(work / "run/started.socket"))
        process = subprocess.Popen(
            [
                *_ENDS_WITH_US,
                "unshare",
                "--mount",
                "sh",
                "-c",
                _ENTER,
                "enter",
                str(root),
                str(work),
                work.name,
                _BOOT,
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_started(started, process)
            [pid] = _children(process.pid)
        except BaseException as error:
            _end(process)
            said = (work / "console").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"systemd did not start: {error}\n{said}") from error
    return SystemdMachine(work, pid, process)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the machine's process 1, and wait: its parent reports it only when all of the machine is gone."""
    if process.poll() is None:
        for pid in _children(process.pid) or [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def _wait_until_started(started: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    """Until systemd says READY=1 (sd_notify(3)), which it does once all that starts at boot has been started."""
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            readable, _, _ = select.select([started.fileno(), ended], [], [], _START_SECONDS)
            if started.fileno() in readable:
                if b"READY=1" in started.recv(65536).split(b"\n"):
                    return
            else:
                raise TimeoutError("it ended" if readable else f"it was not up after {_START_SECONDS:g} s")
    finally:
        os.close(ended)


def _remove(work: Path) -> None:
    subprocess.run(["unshare", "--mount", "sh", "-c", _CLEAN, "clean", str(work), work.name], check=False)
    shutil.rmtree(work)

"""A stand-in machine: its own pid, mount, network, UTS and cgroup namespaces under one process 1.

Nothing is pinned anywhere: when process 1 dies the kernel ends every other process in it and drops its mounts,
network and interfaces, so killing it is the whole clean-up.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.cluster import cgroups
from tests.cluster.processes import MARK

BIN = "/opt/eidos/bin"
_PATH = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAKE = ("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child")
# Read from the machine's outer /proc: the pid by which everybody outside knows process 1.
TELL_PID = "read -r outer_pid _ < /proc/self/stat\n"
# One that is being killed still has its sockets while its memory is given back.
_KILL = """
set -e
pids=$(pgrep -x "$1")
kill -KILL $pids || true
for pid in $pids; do while [ -e "/proc/$pid" ]; do sleep 0.02; done; done
"""


class MachineError(RuntimeError):
    """A stand-in machine did not start, or a command in it failed."""


class Machine:
    """One stand-in machine of a cluster.

    `mark` is the cluster's state folder; with `bound` the machine dies with the thread that booted it, so a killed
    test run leaves nothing running. Without `group` it stays in the caller's cgroups. `pid` is process 1 and `inside`
    a process that has every namespace of the machine, both as known outside.
    """

    def __init__(self, name: str, state: Path, *, mark: str, bound: bool, group: str = "") -> None:
        self.name = name
        self.state = state
        self.pid = 0
        self.inside = 0
        self._group = group
        self._mark = mark
        self._bound = bound
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def root(self) -> Path:
        """The machine's root file system, seen from outside."""
        return Path(f"/proc/{self.inside}/root")

    def boot(self, script: str, last: str) -> None:
        """Runs the shell lines `script` as process 1, which then becomes the command `last`.

        Where process 1 will leave the machine's mount namespace, the script sets `inside_pid` to one that stays.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        folders = cgroups.make(self._group) if self._group else []
        joined = "".join(f"echo 0 > {folder}/cgroup.procs\n" for folder in folders)
        inner = f"set -eu\n{TELL_PID}{script}\necho $outer_pid ${{inside_pid:-$outer_pid}}\nexec {last} > /dev/null"
        outer = f'set -eu\n{joined}exec "$@"'
        own_cgroups = ["--cgroup"] if self._group else []
        argv = ["sh", "-c", outer, "sh", *_MAKE, *own_cgroups, "sh", "-c", inner]
        child = self._popen(argv, self.state / "boot.log", stdout=subprocess.PIPE)
        assert child.stdout is not None
        with child.stdout:
            answer = child.stdout.readline().split()
        if not answer:
            raise MachineError(f"{self.name} did not start:\n{(self.state / 'boot.log').read_text()[-2000:]}")
        self.pid, self.inside = (int(pid) for pid in answer)

    def _environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", MARK: self._mark, **(more or {})}

    def _popen(
        self,
        argv: Sequence[str],
        log: Path,
        stdout: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        if self._bound:
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                # Ctrl-C in the terminal ends the test run, which then ends the cluster in order.
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` inside the machine."""
        nsenter = ["nsenter", f"--target={self.inside}", "-m", "-u", "-n", "-p"]
        if not self._group:
            return [*nsenter, *argv]
        return [*nsenter, "-C", "sh", "-c", cgroups.JOIN, "sh", *argv]

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a daemon in the machine; its output goes to `<state>/<program>.log`."""
        return self._popen(self.enter(argv), self.state / f"{Path(argv[0]).name}.log", environment=environment)

    def run(
        self, argv: Sequence[str], *, stdin: IO[bytes] | None = None, text: str | None = None, timeout: float = 60
    ) -> str:
        """Runs a command in the machine and returns its stdout; raises MachineError with its stderr."""
        done = subprocess.run(
            self.enter(argv),
            env=self._environment(),
            stdin=subprocess.DEVNULL if stdin is None and text is None else stdin,
            input=None if text is None else text.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise MachineError(f"`{' '.join(argv)}` on {self.name}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def kill(self, program: str) -> None:
        """SIGKILLs every process of that exact name, and returns when they are gone with their ports and files."""
        self.run(["sh", "-c", _KILL, "kill", program])

    def run_in_network(self, script: str) -> None:
        """Runs shell lines in the machine's network only, where pids are those of the outside."""
        argv = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "sh", "-c", script]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MachineError(f"setting up the network of {self.name}: {done.stderr.strip()}")

    def reap(self) -> None:
        """Collects the exit status of what was started from here, after the cluster's processes were killed."""
        for child in self._children:
            child.wait(timeout=60)
        self._children.clear()

"""NVML at arm's length: a child process that may hang or crash without harm (docs/decisions/002-nvml-in-a-child.md).

Past its deadline a child is abandoned: never killed, because a process stuck in the driver does not die and killing
it has made things worse, and never joined by a second one while it lives.
"""

import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from agent.nvml_lease import Lease, Record, open_lease
from agent.nvml_reading import ANSWER_LIMIT, Reading, Refusal, trouble_refusal
from common.model import FailureCode

_HERE: Final = os.path.dirname(os.path.abspath(__file__))
CHILD_SCRIPT: Final = os.path.join(_HERE, "nvml_child.py")
_LONGEST: Final = 3600.0
"""Seconds an answer may take at most, so that "no deadline" is one."""
_decoder: Final = msgspec.json.Decoder(Reading)


def decode_reading(frame: bytes) -> Reading:
    """One frame from the child. Raises ValueError on anything that is not one."""
    try:
        return _decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:  # UnicodeDecodeError is a ValueError already
        raise ValueError(str(error)) from error


def frame_length(header: bytes) -> int:
    """Length of the frame that four bytes announce. Raises ValueError past the limit."""
    length = int.from_bytes(header, "big")
    if len(header) != 4 or length > ANSWER_LIMIT:
        raise ValueError("a frame of an impossible length")
    return length


def binding_directory() -> str | None:
    """Where nvidia-ml-py is installed, found without importing it; None when it is not."""
    found = importlib.util.find_spec("pynvml")
    return os.path.dirname(found.origin) if found and found.origin else None


# What a lease says a child was doing, where that is no NVML function.
_DOING: Final = {
    "": "",
    "start": "starting the process that asks it",
    "information": "reading /proc/driver/nvidia/gpus",
    "dlopen": "loading its library",
}


def _doing(record: Record) -> str:
    """What a child was doing, in brackets; nothing when that is unknown."""
    gpu = "" if record.gpu is None else f" of GPU {record.gpu}"
    doing = _DOING.get(record.call, f"{record.call}{gpu}")
    return doing and f" ({doing})"


def unresponsive(record: Record) -> Refusal:
    """The driver did not answer by its deadline; the record says what it was asked last."""
    return Refusal(
        FailureCode.DRIVER_UNRESPONSIVE,
        f"the NVIDIA driver does not answer{_doing(record)};"
        " look for its messages in the kernel log, and restart the node if it stays so",
        record.information,
    )


def broken(how: str, record: Record) -> Refusal:
    """The child ended or answered with nonsense: `how` completes the sentence."""
    return Refusal(
        FailureCode.DRIVER_ERROR,
        f"the process that talks to the NVIDIA driver {how}{_doing(record)}",
        record.information,
    )


class _SilenceError(Exception):
    """The child has not answered in time."""


class _DeathError(Exception):
    """The child ended, or answered with nonsense."""


class _Process:
    """One running child and its pipes."""

    def __init__(self, command: Sequence[str], lease: Lease | None) -> None:
        self._lease = lease
        incoming, self._requests = os.pipe()
        self._answers, outgoing = os.pipe()
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=incoming,
                stdout=outgoing,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=[lease.descriptor] if lease else [],
                # Ctrl-C on our terminal must not reach a process that may be inside the driver.
                start_new_session=True,
            )
        except OSError:
            self._close()
            raise
        finally:
            os.close(incoming)
            os.close(outgoing)
        self._buffer = b""

    def _close(self) -> None:
        os.close(self._requests)
        os.close(self._answers)
        if self._lease:
            self._lease.close()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        if self._popen.returncode is not None:
            return False
        try:  # only looked at: collecting its status is for whoever waits for it already
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def acquire(self, deadline: float) -> bool:
        return self._lease is None or self._lease.acquire(deadline)

    def ask(self, volatile: bool, deadline: float) -> Reading:
        """The answer to one request.

        Raises _SilenceError when there is none by `deadline`, _DeathError when there will never be one.
        """
        request = msgspec.json.encode({"volatile": volatile, "deadline": deadline}) + b"\n"
        try:
            os.write(self._requests, request)  # far shorter than a pipe, so it neither blocks nor splits
        except BrokenPipeError as error:
            raise _DeathError(self._ending(deadline)) from error
        try:
            return decode_reading(self._take(frame_length(self._take(4, deadline)), deadline))
        except ValueError as error:
            raise _DeathError("answered with something unreadable") from error

    def _take(self, count: int, deadline: float) -> bytes:
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while len(self._buffer) < count:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _SilenceError
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                raise _DeathError(self._ending(deadline))
            self._buffer += chunk
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _ending(self, deadline: float) -> str:
        try:
            status = self._popen.wait(timeout=max(0.1, min(1.0, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            return "closed its output"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"crashed with {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def let_go(self) -> None:
        """Close our ends. An idle child ends at once, a busy one when the driver lets it, a hung one never."""
        self._close()
        # Collects the exit status whenever it comes; a daemon thread, so that nothing waits for it.
        threading.Thread(target=self._popen.wait, name="nvml-reaper", daemon=True).start()

    def record(self) -> Record:
        """What the lease says the child was doing last."""
        return self._lease.record() if self._lease else Record()


class NvmlChild:
    """Asks NVML through a child process; starts it when needed and keeps it until `release`.

    `library` is the libnvidia-ml.so.1 to load, `information` the directory of /proc/driver/nvidia/gpus as seen from
    here, `lease_directories` the places to try for the file all processes share (agent/nvml_lease.py), `script` what
    the child runs. Not safe to use from two threads at once.
    """

    def __init__(
        self, library: str, information: str, lease_directories: Sequence[str], script: str = CHILD_SCRIPT
    ) -> None:
        self.library = library
        self._script = script
        self._information = information
        self._lease_directories = list(lease_directories)
        self._process: _Process | None = None
        self._abandoned: _Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child, in use or abandoned; None when there is none."""
        process = self._process or self._abandoned
        return process.pid if process and process.is_alive else None

    def request(self, volatile: bool, deadline: float) -> Reading | Refusal:
        """Everything NVML says, by `deadline` (time.monotonic()); `volatile` asks for live readings too."""
        deadline = min(deadline, time.monotonic() + _LONGEST)
        if self._abandoned and self._abandoned.is_alive:
            return unresponsive(self._abandoned.record())
        self._abandoned = None
        if self._process and not self._process.is_alive:
            self.release()  # it ended while idle, which says nothing about the driver
        if self._process is None:
            started = self._start(deadline)
            if isinstance(started, Refusal):
                return started
            self._process = started
        elif not self._process.acquire(deadline):
            return unresponsive(self._process.record())
        try:
            reading = self._process.ask(volatile, deadline)
        except (_SilenceError, _DeathError) as error:
            record = self._process.record()
            self._abandoned = self._process  # as far as we know it may be alive
            self.release()
            return broken(str(error), record) if isinstance(error, _DeathError) else unresponsive(record)
        if not reading.is_clean:
            # A lost GPU that comes back, or a reloaded driver, is seen only by a process that initialises anew.
            self.release()
        return trouble_refusal(reading.trouble) if reading.trouble else reading

    def release(self) -> None:
        """Let the child go. It is not waited for and not killed."""
        if self._process:
            self._process.let_go()
            self._process = None

    def _start(self, deadline: float) -> _Process | Refusal:
        binding = binding_directory()
        if binding is None:
            return Refusal(
                FailureCode.LIBRARY_MISSING, "the Python package nvidia-ml-py is not installed; install eidos[node]"
            )
        lease = open_lease(self._lease_directories)
        if lease and not lease.acquire(deadline):
            lease.close()
            return unresponsive(lease.record())
        setup = {
            "paths": [os.path.dirname(_HERE), binding],
            "library": self.library,
            "lease": lease.descriptor if lease else -1,
            "information": self._information,
        }
        # -I and -S: no user's or site's code runs in there, and the interpreter is up in a third of the time.
        command = [sys.executable, "-I", "-S", self._script, msgspec.json.encode(setup).decode()]
        try:
            return _Process(command, lease)
        except OSError as error:
            return Refusal(FailureCode.INTERNAL, f"the process for NVML cannot be started: {error.strerror}")

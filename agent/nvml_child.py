"""The process that talks to NVML, so that nobody else has to: started by agent/nvml.py, never imported by it.

A call into a wedged driver never returns and cannot be interrupted, and a broken library takes its process with it.
Here that costs nobody anything. Run as a script under `python -I -S` with one argument, JSON:

    paths        directories to import from (ours, nvidia-ml-py's)
    library      libnvidia-ml.so.1 to load
    lease        inherited descriptor of the lease (agent/nvml_lease.py), or -1
    information  directory of /proc/driver/nvidia/gpus as seen from here

Each line on standard input asks for one reading: {"volatile", "deadline"}. Each answer is four bytes of length,
most significant first, and that much JSON: a reading (agent/nvml_reading.py). It ends when standard input does.
"""

import json
import os
import resource
import sys
from typing import Any

INFORMATION_LIMIT = 4096
"""Most bytes read of one GPU's information file."""


def main() -> None:
    setup: dict[str, Any] = json.loads(sys.argv[1])
    sys.path.extend(setup["paths"])
    answers = _own_standard_output()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported; it leaves no file behind
    from agent.nvml_lease import Holder

    holder = Holder(setup["lease"])
    driver = Driver(setup["library"])
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        holder.begin(request["deadline"])
        # These files wait for the driver's locks, so reading them belongs here too. They come first, because what
        # they say is all that will be known of the GPUs if the driver does not answer.
        holder.note("information", None)
        holder.keep(read_information(setup["information"]))
        reading = driver.read(holder.note, request["volatile"])
        holder.end()
        frame = json.dumps(reading).encode()
        try:
            _write_all(answers, len(frame).to_bytes(4, "big") + frame)
        except BrokenPipeError:  # nobody waits for it any more
            break
    # The kernel closes the devices; nvmlShutdown and the interpreter's own could only take time, or hang.
    os._exit(0)


def _own_standard_output() -> int:
    """A descriptor only we write to: what a library prints must not end up between the frames."""
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return answers


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def read_information(directory: str) -> dict[str, str]:
    """PCI bus id to the text of /proc/driver/nvidia/gpus/<id>/information; what cannot be read is left out."""
    found = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return {}
    for name in names:
        try:
            with open(os.path.join(directory, name, "information"), "rb") as file:
                found[name] = file.read(INFORMATION_LIMIT).decode("utf-8", "replace")
        except OSError:
            continue
    return found


class Driver:
    """NVML, loaded and initialised when first asked: on an idle GPU initialising takes seconds."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._nvml: Any = None

    def read(self, note: Any, volatile: bool) -> dict[str, Any]:
        """A reading, or `{"trouble": {call, code, text}}` when NVML could not be used at all."""
        import ctypes

        import pynvml

        from agent.nvml_queries import read

        if self._nvml is None:
            note("dlopen", None)
            try:
                # The binding asks for the bare name, which finds what is loaded already under that soname.
                ctypes.CDLL(self._library)
            except OSError as error:
                return {"trouble": {"call": "dlopen", "code": 0, "text": str(error)}}
        call = "nvmlInitWithFlags"
        try:
            if self._nvml is None:
                note(call, None)
                pynvml.nvmlInit()
                self._nvml = pynvml
            call = "nvmlDeviceGetCount_v2"
            return read(pynvml, note, volatile)
        except pynvml.NVMLError as error:
            return {"trouble": {"call": call, "code": error.value}}


if __name__ == "__main__":
    main()

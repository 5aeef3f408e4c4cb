"""Builds the stand-in and puts it, with a scenario, where a library search finds it.

    library = install(root / "usr/lib/x86_64-linux-gnu", "gpu-lost")       # a real libnvidia-ml.so.1 and its scenario
    write_scenario(library, "h100x8", "[3]\\nvbios = 96.00.74.00.01")       # another scenario, some lines changed

The library finds its scenario beside itself, so it can be placed into a node without any environment.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SCENARIOS: Final = HERE / "scenarios"
_BUILD: Final = HERE.parent.parent / "build" / "nvml-standin"
_INCLUDE: Final = re.compile(r"^@include (\S+)$", re.MULTILINE)


def build(old: bool = False) -> Path:
    """The shared library, compiled once for every version of its source. `old`: as a driver 470 would have it."""
    sources = sorted(path for path in HERE.glob("*.c") if not (old and path.name == "nvml_newer.c"))
    content = b"".join(path.read_bytes() for path in [*sources, *sorted(HERE.glob("*.h"))])
    library = _BUILD / (hashlib.sha256(content).hexdigest()[:16]) / "libnvidia-ml.so.1"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_name(f"unfinished-{os.getpid()}")
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
        subprocess.run(["cc", *flags, "-o", str(unfinished), *map(str, sources)], check=True)
        unfinished.rename(library)  # two test runs at once must not see half a library
    return library


def scenario(name: str, changes: str = "") -> str:
    """The text of a scenario with what it includes, and further lines after it."""
    text = (SCENARIOS / f"{name}.scenario").read_text()
    # What follows an included file belongs to no GPU until a section says so.
    text = _INCLUDE.sub(lambda match: f"{scenario(match[1])}\n[]", text)
    return f"{text}\n[]\n{changes}\n"


def write_scenario(library: Path, name: str, changes: str = "") -> None:
    """Make an installed stand-in answer by another scenario from its next initialisation on."""
    Path(f"{library}.scenario").write_text(scenario(name, changes))


def install(directory: Path, name: str, changes: str = "", old: bool = False) -> Path:
    """Put the stand-in into a directory as libnvidia-ml.so.1, with its scenario beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / "libnvidia-ml.so.1"
    shutil.copy(build(old), library)
    write_scenario(library, name, changes)
    return library

"""`make demo`: the main job on this machine's real data, then a fleet of processes on this machine.

Ends with status 1 if anything drifted, or if the fleet missed a difference that was put there.
"""

import subprocess
import sys
import time
from pathlib import Path

OUT = Path("build/demo")
EIDOS = str(Path(sys.executable).with_name("eidos"))


def announce(*arguments: str) -> None:
    """The command as a person types it."""
    line = f"$ eidos {' '.join(arguments)}"
    print(f"\n\033[1m{line}\033[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)


def eidos(*arguments: str) -> str:
    """Run eidos, showing the command; returns its standard output and ends the demo when it fails."""
    announce(*arguments)
    started = time.monotonic()
    done = subprocess.run([EIDOS, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"eidos ended with status {done.returncode}")
    print(f"  ({time.monotonic() - started:.2f} s)")
    return done.stdout


def shorten(text: str, most: int = 6) -> str:
    """The first lines of each block, so that a whole machine fits on a few screens."""
    blocks = text.rstrip().split("\n\n")
    head, shown = blocks[:2], []
    for block in blocks[2:]:
        lines = block.splitlines()
        more = len(lines) - 1 - most
        shown.append("\n".join(lines[: most + 1] + ([f"  … and {more} more"] if more > 0 else [])))
    return "\n\n".join([*head, *shown])


def one_node() -> None:
    """Two snapshots of this machine, and that nothing drifted between them."""
    OUT.mkdir(parents=True, exist_ok=True)
    first, second = OUT / "first.yaml", OUT / "second.yaml"
    eidos("snapshot", "--output", str(first))
    print(shorten(eidos("snapshot", "--format", "table")))
    eidos("snapshot", "--output", str(second))

    print(eidos("diff", str(first), str(second), "--fail-on-drift"))
    lines = [
        pair
        for pair in zip(first.read_text().splitlines(), second.read_text().splitlines(), strict=True)
        if pair[0] != pair[1]
    ]
    others = [pair for pair in lines if "timestamp:" not in pair[0]]
    size = first.stat().st_size
    if others:
        sys.exit(f"the two files differ in more than the timestamp: {others}")
    print(f"Two snapshots of {size:,} bytes differ in {len(lines)} line(s): nothing but the timestamp.")
    print(f"They are in {OUT}/.")


def fleet() -> None:
    """A fleet, on the terminal as it is: it has colours and progress of its own."""
    announce("fleet", "demo")
    if status := subprocess.run([EIDOS, "fleet", "demo"], check=False).returncode:
        sys.exit(status)


def main() -> None:
    one_node()
    fleet()
    print("Next: .venv/bin/eidos --help, .venv/bin/eidos fleet demo --keep")


if __name__ == "__main__":
    main()

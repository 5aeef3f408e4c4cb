"""Cold start of the command and of a snapshot, beside the bare cost of reading the same files."""

import json
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Row, interleaved, run_cost

# Reads every file given on standard input's list once, in the cheapest way Python has.
_BARE_READS = """
import os, sys
for path in open(sys.argv[1]).read().splitlines():
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        continue
    try:
        os.read(fd, 65536)
    except OSError:
        pass
    os.close(fd)
"""


def files_read() -> list[str]:
    """The files a snapshot of this machine reads, found by watching it read them."""
    from agent.collect import run
    from agent.collectors.base import Options
    from agent.collectors.registry import collectors
    from agent.host import Host

    seen: list[str] = []

    class Watching(Host):
        def read_bytes(self, path: str, limit: int = 1 << 20) -> bytes:
            seen.append(path)
            return super().read_bytes(path, limit)

    chosen = [collector for collector in collectors() if collector.type.value in ("OS", "GPU")]
    run(chosen, Watching(), "bench", Options())
    sysctls = [str(path) for path in Path("/proc/sys").rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(set(seen) | set(sysctls))


def rows(rounds: int) -> list[Row]:
    """Measure and return the table's rows."""
    eidos = str(Path(sys.executable).with_name("eidos"))
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder, "files")
        paths = files_read()
        listing.write_text("\n".join(paths))
        target = str(Path(folder, "snapshot.yaml"))
        python = [sys.executable, "-I", "-S"]
        costs = interleaved(
            {
                "start": lambda: run_cost([*python, "-c", "pass"]),
                "click": lambda: run_cost([sys.executable, "-c", "import click"]),
                "reads": lambda: run_cost([*python, "-c", _BARE_READS, str(listing)]),
                "help": lambda: run_cost([eidos, "--help"]),
                "snapshot": lambda: run_cost([eidos, "snapshot", "--output", target]),
            },
            rounds,
        )
    start, click, reads, help_, snapshot = (costs[name] for name in ("start", "click", "reads", "help", "snapshot"))
    bare = max(reads.wall_ms - start.wall_ms, 0.1)
    bound = 3 * bare + start.wall_ms
    return [
        Row("python start, wall", start.wall_ms, "ms"),
        Row(f"bare reads of {len(paths)} files, wall", bare, "ms"),
        Row("eidos --help, wall", help_.wall_ms, "ms", "python importing click", help_.wall_ms / click.wall_ms),
        Row("eidos --help, peak RSS", help_.rss_mb, "MB", "python start", help_.rss_mb / start.rss_mb),
        Row("eidos snapshot, wall", snapshot.wall_ms, "ms", "3 x bare reads + start", snapshot.wall_ms / bound),
        Row("eidos snapshot, CPU", snapshot.cpu_ms, "ms", "bare reads' process", snapshot.cpu_ms / reads.cpu_ms),
        Row("eidos snapshot, peak RSS", snapshot.rss_mb, "MB", "50 MB", snapshot.rss_mb / 50),
    ]


if __name__ == "__main__":
    print(json.dumps([(row.name, row.median) for row in rows(3)]))

"""`python -m tests.hosts.unpack DIRECTORY NAME...`: hosts as trees of files, DIRECTORY/NAME each.

Files that cannot be read on the host (`!` in an archive) are empty here: only ArchivedHost raises for them.
"""

import sys
from pathlib import Path

from tests.hosts.archive import load, unpack


def main(directory: Path, names: list[str]) -> None:
    for name in names:
        unpack(load(Path(__file__).parent / name / "tree.txt"), directory / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

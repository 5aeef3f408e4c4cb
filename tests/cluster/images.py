"""The images of Dockerfile.agent and Dockerfile.aggregator as this checkout makes them.

Built when something that goes into them has changed, kept outside the checkout, and found again otherwise.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.cluster.baseimage import build_image, remove_old
from tests.cluster.debian import base_root
from tests.cluster.paths import cache_root
from tests.cluster.progress import build_lock

AGENT_IMAGE: Final = "eidos.test/agent:1"
AGGREGATOR_IMAGE: Final = "eidos.test/aggregator:1"
CHECKOUT: Final = Path(__file__).parents[2]
AGENT_DOCKERFILE: Final = CHECKOUT / "Dockerfile.agent"
AGGREGATOR_DOCKERFILE: Final = CHECKOUT / "Dockerfile.aggregator"


@functools.cache
def agent_archive() -> Path:
    """A docker archive of the agent's image, for `Cluster.load_image`. The same one for the whole test run."""
    return _archive(AGENT_DOCKERFILE, AGENT_IMAGE)


@functools.cache
def aggregator_archive() -> Path:
    """A docker archive of the aggregator's image, likewise."""
    return _archive(AGGREGATOR_DOCKERFILE, AGGREGATOR_IMAGE)


def _archive(dockerfile: Path, tag: str) -> Path:
    kind = dockerfile.suffix.removeprefix(".")
    archive = cache_root() / "images" / f"{kind}-of-{_digest(dockerfile)}"
    with build_lock("images"):  # both workers of a test run want it at the same moment
        if not archive.exists():
            built = build_image(dockerfile, tag, CHECKOUT)
            unfinished = archive.with_name(f".{archive.name}")
            unfinished.unlink(missing_ok=True)
            unfinished.hardlink_to(built)
            unfinished.rename(archive)
        archive.touch()
    remove_old(archive.parent.glob(f"{kind}-of-*"), 1)
    return archive


def _digest(dockerfile: Path) -> str:
    """Of all that decides what comes out, the base included."""
    total = hashlib.sha256(base_root().name.encode())
    for path in (dockerfile, CHECKOUT / ".dockerignore", *sorted(context_files())):
        total.update(f"{path.relative_to(CHECKOUT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def context_files() -> Iterator[Path]:
    """The files .dockerignore lets through."""
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = CHECKOUT / line[1:]
            found = path.rglob("*") if path.is_dir() else (path,)
            yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)

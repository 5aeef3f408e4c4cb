"""The image of Dockerfile.agent, built when something that goes into it has changed, and found again otherwise."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.baseimage import build_image
from tests.cluster.debian import base_root
from tests.cluster.paths import cache_root

AGENT_IMAGE = "eidos.test/agent:1"
_CHECKOUT = Path(__file__).parents[2]
_DOCKERFILE = _CHECKOUT / "Dockerfile.agent"


def agent_archive() -> Path:
    """A docker archive of the agent's image as this checkout makes it."""
    archive = cache_root() / "images" / f"agent-of-{_digest()}"
    if not archive.exists():
        built = build_image(_DOCKERFILE, AGENT_IMAGE, _CHECKOUT)
        unfinished = archive.with_name(f".{archive.name}")
        unfinished.unlink(missing_ok=True)
        unfinished.hardlink_to(built)
        unfinished.rename(archive)
        _forget_others(archive)
    return archive


def _digest() -> str:
    """Of all that decides what comes out, the base included."""
    total = hashlib.sha256(base_root().name.encode())
    for path in (_DOCKERFILE, _CHECKOUT / ".dockerignore", *sorted(_context())):
        total.update(f"{path.relative_to(_CHECKOUT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def _context() -> Iterator[Path]:
    """The files .dockerignore lets through."""
    for line in (_CHECKOUT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = _CHECKOUT / line[1:]
            found = path.rglob("*") if path.is_dir() else (path,)
            yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _forget_others(kept: Path) -> None:
    for old in kept.parent.glob("agent-of-*"):
        if old != kept:
            old.unlink(missing_ok=True)

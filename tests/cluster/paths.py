"""Where the cluster keeps what it builds and what it runs: always outside the checkout."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path


def cache_root() -> Path:
    """`$EIDOS_CACHE/cluster`, else `$XDG_CACHE_HOME/eidos/cluster`, else `~/.cache/eidos/cluster`."""
    given = os.environ.get("EIDOS_CACHE")
    if given:
        return Path(given).resolve() / "cluster"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).resolve() / "eidos" / "cluster"


def keyed(kind: str, recipe: Iterable[str]) -> Path:
    """The folder for one kind of build, named by a digest of everything that decides what comes out."""
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]
    return cache_root() / f"{kind}-{digest}"


def run_directory(name: str) -> Path:
    """The state of the running cluster called `name`; raises ValueError unless it is a plain word."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise ValueError(f"a cluster's name has small letters, digits and hyphens, at most 41: {name!r}")
    return cache_root() / f"run-{name}"

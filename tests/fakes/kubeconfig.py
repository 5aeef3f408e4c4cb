"""Kubeconfig files for the fake API server."""

from pathlib import Path
from typing import Any

import yaml


def write_kubeconfig(path: Path, server: str, context: str = "test", **user: Any) -> str:
    """A kubeconfig with one context; its path."""
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        "current-context": context,
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)

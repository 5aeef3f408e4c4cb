"""What the tests of cm:// documents share."""

import random
from datetime import UTC, datetime
from typing import Any, Final

from common.kube.client import Kube
from common.kube.configmap_writer import write_document
from tests.fakes.apiserver import FakeApiServer

OURS: Final = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
WHEN: Final = datetime(2026, 1, 3, 10, 30, tzinfo=UTC)


def noise(seed: int, length: int = 20_000) -> bytes:
    """Text that does not pack well."""
    return bytes(random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=length))  # noqa: S311 - no secret


async def write(kube: Kube, content: bytes, name: str = "snap", document_format: str = "yaml") -> None:
    await write_document(kube, "x", name, content, document_format, _excerpt, WHEN)


def _excerpt(limit: int) -> bytes:
    return b"kind: Snapshot # excerpt\n"


def names(api: FakeApiServer) -> set[str]:
    """Of all ConfigMaps."""
    return {name for _, name in api.store.objects.get("configmaps", {})}


def stored(api: FakeApiServer, name: str = "snap") -> dict[str, Any]:
    """A ConfigMap as it is on the server."""
    return api.store.objects["configmaps"]["x", name]


def data_of(api: FakeApiServer) -> dict[str, str]:
    data = stored(api)["data"]
    assert isinstance(data, dict)
    return data

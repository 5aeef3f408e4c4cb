"""An image whose `eidos` does what a test needs instead of a snapshot: wait for long, or fail."""

from pathlib import Path
from typing import Final

import pytest

from tests.cluster.baseimage import build_image
from tests.cluster.cluster import Cluster

_TAG: Final = "eidos.test/slow:1"
_DOCKERFILE: Final = """ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY --chmod=755 eidos /usr/bin/eidos
USER 65532:65532
"""
# The tests choose by a flag that is passed on into the pod.
_SCRIPT: Final = """#!/bin/sh
trap 'exit 143' TERM
case "$*" in
*--systemd-units=crash*)
    for number in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line $number" >&2; done
    exit 7
    ;;
*)
    echo started
    sleep 600 &
    wait
    ;;
esac
"""


@pytest.fixture(scope="session")
def slow_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("slow")
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    (folder / "eidos").write_text(_SCRIPT)
    cluster.load_image(build_image(folder / "Dockerfile", _TAG, folder))
    return _TAG

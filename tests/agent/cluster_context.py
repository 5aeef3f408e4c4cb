"""Contexts for the collectors that ask a cluster."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.cluster import ClusterAccess
from agent.collectors.base import Context, Options
from agent.host import Host
from common.model import Collected, Failed, Ok, Scalar
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.kubeconfig import write_kubeconfig

NOWHERE = "/nonexistent"


def context(
    kubeconfig: str | None = None, seconds: float = 20.0, host: Host | None = None, **options: Any
) -> Context:
    """A context whose collectors ask the cluster of a kubeconfig."""
    chosen = Options(kubeconfig=kubeconfig, **options)
    return Context(host or Host(), "gpu-1", time.monotonic() + seconds, chosen)


def context_for(api: FakeApiServer, folder: Path, seconds: float = 20.0, **options: Any) -> Context:
    return context(write_kubeconfig(folder / "kubeconfig", api.url), seconds, **options)


def access(environment: Mapping[str, str] | None = None) -> ClusterAccess:
    """Sees nothing of the cluster that the tests may run in."""
    return ClusterAccess(environment or {}, account=NOWHERE)


def data_of(collected: Collected, subtype: str) -> dict[str, Scalar]:
    outcome = collected.subtypes[subtype]
    assert isinstance(outcome, Ok), outcome
    return outcome.data


def failure_of(collected: Collected, subtype: str) -> Failed:
    outcome = collected.subtypes[subtype]
    assert isinstance(outcome, Failed), outcome
    return outcome

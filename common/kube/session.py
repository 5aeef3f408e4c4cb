"""For synchronous callers: one visit to a cluster, in an event loop of its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from common.errors import UsageError
from common.kube.choice import NOT_INSTALLED, ClusterChoice, installed
from common.kube.client import Kube
from common.kube.target import Target, load_target

T = TypeVar("T")

SECONDS: Final = 60.0
"""How long a visit may take unless its caller says otherwise."""


def visit(
    work: Callable[[Kube], Awaitable[T]],
    choice: ClusterChoice | None = None,
    environment: Mapping[str, str] | None = None,
) -> T:
    """Run `work` with a client of the chosen cluster. Raises EidosError; not for callers inside an event loop."""
    if not installed():
        raise UsageError(NOT_INSTALLED, "Install it: pip install 'eidos[kubernetes]'.")
    kubeconfig, context = choice or ClusterChoice()
    return visit_target(work, load_target(kubeconfig, context, environment), time.monotonic() + SECONDS)


def visit_target(work: Callable[[Kube], Awaitable[T]], target: Target, deadline: float) -> T:
    """The same for a cluster that is known already; `deadline` is a time.monotonic()."""

    async def run() -> T:
        async with Kube(target, deadline=deadline) as kube:
            return await work(kube)

    return asyncio.run(run())

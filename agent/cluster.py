"""The cluster as the Kubernetes collectors see it: found once, and every failure made an outcome.

Two collectors ask it, each in a thread and an event loop of its own; they share the target and so the credential,
because a credential plugin may take a second or ask a person to log in. Nothing that speaks to a cluster is imported
before it is known that there is one.
"""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.collectors.base import Context
from common.errors import ClusterError, Code, EidosError
from common.kube.choice import (
    NOT_CONFIGURED,
    NOT_INSTALLED,
    SERVICE_ACCOUNT,
    configured,
    in_pod,
    installed,
)
from common.kube.outcomes import code_of, failure, together
from common.model import Collected, Outcome

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.target import Target

ANOTHER_MACHINE: Final = "the host that is read is not this machine, and no --kubeconfig says which cluster it is in"

_MARGIN: Final = 0.5
"""Seconds before the deadline that the last call ends, so that what was read until then is not lost."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads some subtypes with one or a few calls; what it raises is the outcome of them all."""

    subtypes: Sequence[str]
    read: "Callable[[Kube, Context], Awaitable[Mapping[str, Outcome]]]"


class ClusterAccess:
    """Shared by the collectors of one run."""

    def __init__(self, environment: Mapping[str, str] | None = None, account: str = SERVICE_ACCOUNT) -> None:
        self._environment = os.environ if environment is None else environment
        self._account = account
        self._lock = threading.Lock()
        self._targets: dict[tuple[str | None, str | None], Target] = {}

    def collect(self, ctx: Context, readers: Iterable[Reader]) -> Collected:
        """Run all readers at the same time and put together what they read."""
        if (reason := self._absent(ctx)) is not None:
            return Collected.absent(reason)
        try:
            target = self._target(ctx)
        except EidosError as error:
            return Collected.failed(code_of(error), error.message)
        import asyncio

        return together(asyncio.run(_visit(target, ctx, list(readers))))

    def _absent(self, ctx: Context) -> str | None:
        """Why there is no cluster to ask; None when there is one. Costs a look at a file or two."""
        if not configured(ctx.options.kubeconfig, self._environment, self._account):
            return NOT_CONFIGURED
        # A recorded host, or a mounted disk, has nothing to do with the cluster this machine is set up for.
        chosen = ctx.options.kubeconfig or self._environment.get("KUBECONFIG")
        if not ctx.host.is_local and not chosen and not in_pod(self._environment, self._account):
            return ANOTHER_MACHINE
        return None if installed() else NOT_INSTALLED

    def _target(self, ctx: Context) -> "Target":
        import asyncio

        from common.kube.target import load_target

        choice = ctx.options.kubeconfig, ctx.options.kube_context
        with self._lock:
            if choice not in self._targets:
                target = load_target(*choice, self._environment, self._account)
                try:
                    asyncio.run(asyncio.wait_for(target.credentials.current(), _remaining(ctx)))
                except TimeoutError:
                    raise ClusterError(
                        Code.DEADLINE, "the credential plugin of the kubeconfig did not answer in time"
                    ) from None
                self._targets[choice] = target
            return self._targets[choice]


def _remaining(ctx: Context) -> float:
    return max(0.0, ctx.deadline - _MARGIN - time.monotonic())


async def _visit(target: "Target", ctx: Context, readers: list[Reader]) -> dict[str, Outcome]:
    import asyncio

    from common.kube.client import Kube

    async with Kube(target, deadline=ctx.deadline - _MARGIN) as kube:
        parts = await asyncio.gather(*(_read(reader, kube, ctx) for reader in readers))
    return {subtype: outcome for part in parts for subtype, outcome in part.items()}


async def _read(reader: Reader, kube: "Kube", ctx: Context) -> Mapping[str, Outcome]:
    try:
        return await reader.read(kube, ctx)
    except EidosError as error:
        return dict.fromkeys(reader.subtypes, failure(error))

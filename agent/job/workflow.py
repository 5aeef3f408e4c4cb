"""One run from permissions to cleanup, with its phases told and timed, however it ends."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.job.config import CleanupOptions, Config
from agent.job.deployer import Deployer
from common.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.kube.target import Target

_CLEANUP_SECONDS: Final = 20.0
_LOG_SECONDS: Final = 2.0


class Phase(StrEnum):
    """The steps of a run, in their order."""

    PERMISSIONS = "permissions"
    RBAC = "rbac"
    JOB = "job"
    POD = "pod"
    COLLECT = "collect"
    RETRIEVE = "retrieve"
    CLEANUP = "cleanup"


@dataclass(slots=True)
class Report:
    """What came of a run."""

    snapshot: bytes = b""
    node: str = ""
    """Where the pod ran."""
    output: str = ""
    """The ConfigMap the Job wrote, as a reference."""
    seconds: dict[Phase, float] = field(default_factory=dict)


class Observer:
    """Hears how a run goes. The methods do nothing; whoever shows progress overrides them."""

    def phase(self, phase: Phase) -> None:
        """A phase begins."""

    def detail(self, text: str) -> None:
        """What is being waited for, in the cluster's words."""

    def note(self, text: str) -> None:
        """Something the user should know although nothing is wrong."""

    def log(self, line: str) -> None:
        """A line of the pod's log."""


async def run(
    target: "Target", config: Config, observer: Observer, *, keep: bool = False, seconds: float | None = None
) -> Report:
    """Deploy, wait, fetch, clean up. Cleans up on errors and on cancellation too.

    `keep` leaves everything for debugging. `seconds` bounds the whole but the cleanup, which has its own bound.
    Raises ClusterError; if the cleanup also fails, its message says what is left.
    """
    from common.kube.client import Kube

    allowed = config.seconds if seconds is None else seconds
    started = time.monotonic()
    async with Kube(target, deadline=started + allowed) as kube:
        deployer = Deployer(kube, config, observer.note, observer.detail)
        report = Report(output=deployer.names.output)
        try:
            await _steps(deployer, observer, report, started, allowed)
        except BaseException as error:
            trouble = await _clean(target, deployer, observer, report, keep)
            if trouble is not None and isinstance(error, ClusterError):
                hint = " ".join(part for part in (error.hint, f"Also {trouble}") if part)
                raise ClusterError(error.code, error.message, hint) from error
            if trouble is not None:
                observer.note(str(trouble))
            raise
        trouble = await _clean(target, deployer, observer, report, keep)
        if trouble is not None:
            observer.note(str(trouble))
        return report


async def _steps(deployer: Deployer, observer: Observer, report: Report, started: float, allowed: float) -> None:
    def left() -> float:
        return max(0.0, started + allowed - time.monotonic())

    async with _timed(Phase.PERMISSIONS, observer, report):
        await deployer.check_permissions()
    async with _timed(Phase.RBAC, observer, report):
        await deployer.ensure_rbac()
    async with _timed(Phase.JOB, observer, report):
        await deployer.ensure_job()
    async with _timed(Phase.POD, observer, report):
        await deployer.wait_for_pod_ready(left(), allowed)
    async with _timed(Phase.COLLECT, observer, report):
        following = asyncio.create_task(_follow_logs(deployer, observer))
        try:
            await deployer.wait_for_completion(left(), allowed)
            # The last lines come with the pod's end, and are worth a moment.
            await asyncio.wait([following], timeout=_LOG_SECONDS if deployer.config.debug else 0)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    report.output = deployer.names.output
    report.node = deployer.node
    async with _timed(Phase.RETRIEVE, observer, report):
        report.snapshot = await deployer.get_snapshot()


async def _follow_logs(deployer: Deployer, observer: Observer) -> None:
    """Logs help a person to watch; that they cannot be read must not fail the run."""
    try:
        await deployer.stream_logs(observer.log)
    except ClusterError as error:
        observer.detail(f"the log cannot be followed: {error.message}")


async def _clean(
    target: "Target", deployer: Deployer, observer: Observer, report: Report, keep: bool
) -> ClusterError | None:
    """Clean up in a time of its own, which the run's cancellation or deadline does not cut short."""
    options = CleanupOptions(enabled=not keep, rbac=deployer.config.cleanup_rbac)
    async with _timed(Phase.CLEANUP, observer, report):
        task = asyncio.create_task(_clean_within(target, deployer, options))
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.done():
                    left = deployer.may_be_left(options)
                    observer.note(f"the cleanup was cut short; {left}" if left else "the cleanup was cut short")
                    raise


async def _clean_within(target: "Target", deployer: Deployer, options: CleanupOptions) -> ClusterError | None:
    from common.kube.client import Kube

    async with Kube(target, deadline=time.monotonic() + _CLEANUP_SECONDS) as kube:
        try:
            await deployer.cleanup(options, kube)
        except ClusterError as error:
            return error
    return None


@asynccontextmanager
async def _timed(phase: Phase, observer: Observer, report: Report) -> "AsyncIterator[None]":
    observer.phase(phase)
    started = time.monotonic()
    try:
        yield
    finally:
        report.seconds[phase] = time.monotonic() - started

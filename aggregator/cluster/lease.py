"""Which replica leads: a Lease, taken and kept as client-go's leaderelection does it.

The holder writes `renewTime` every few seconds. Whoever sees the Lease unchanged for its duration, counted by the own
clock from when the own eyes last saw it change, may take it: clocks need not agree. Every write is for exactly the
version that was read. A holder that could not renew for a while stops before anyone else may start.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from aggregator.cluster.labels import LABELS
from common.errors import Code, FleetError
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.kube.types import ObjectMeta

_log: Final = logging.getLogger(__name__)
_VERSION: Final = "coordination.k8s.io/v1"
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where there is one that does."""


_RELEASES: Final = 3


def clock() -> float:
    """Seconds, for what must not be outslept."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. client-go's usual values."""

    duration: float = 15.0
    """How long a Lease holds that is not renewed."""
    renew_within: float = 10.0
    """A holder that could not renew for so long stops."""
    every: float = 2.0
    """Between attempts."""
    attempt: float = 5.0
    """Longest that one takes."""


class Standing(StrEnum):
    """What is known of our leadership."""

    WAITING = "waiting"
    """Never led."""
    LEADING = "leading"
    UNSURE = "unsure"
    """Led, and could not renew in time: nobody else may lead yet, or somebody does."""
    LOST = "lost"
    """Another leads after us. Final."""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class LeaseObject(msgspec.Struct, frozen=True):
    """coordination.k8s.io/v1 Lease, the part that matters."""

    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()


class Elector:
    """One candidate. `run` it; `standings` tells what becomes of it."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        now: Callable[[], float] = clock,
    ) -> None:
        """`identity` must be nobody else's. `kube` should not retry by itself: every attempt has its time here."""
        self.identity = identity
        self.standing = Standing.WAITING
        self._kube = kube
        self._collection = path_of(_VERSION, "leases", namespace)
        self._path = path_of(_VERSION, "leases", namespace, name)
        self._metadata = {"name": name, "namespace": namespace}
        self._timing = timing or Timing()
        self._now = now
        self._renewed_at = float("-inf")
        self._seen: LeaseObject | None = None
        self._seen_at = float("-inf")
        """When the Lease was last seen to change."""
        self._looked_at = float("-inf")
        self._acquired: str | None = None
        """The Lease's acquireTime as we wrote it: others write another."""
        self._changed = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether we surely lead at this moment, however long we were asleep."""
        fresh = self._now() - self._renewed_at < self._timing.renew_within
        return self.standing is Standing.LEADING and fresh

    async def confirm(self) -> None:
        """Raise FleetError unless the API server says, now, that we lead; KubeError when it cannot be asked."""
        found = await self._kube.get(self._path, LeaseObject)
        if not self.leads or found.spec.holder_identity != self.identity:
            raise FleetError(Code.FLEET_FAILED, "this aggregator no longer leads, so it publishes nothing")

    async def standings(self) -> AsyncGenerator[Standing, None]:
        """What we are now, then every change. A change that was overtaken by another is not told."""
        told: Standing | None = None
        while True:
            self._changed.clear()
            if self.standing is not told:
                told = self.standing
                yield told
                continue
            await self._changed.wait()

    async def run(self) -> None:
        """Try to lead, keep leading. Raises FleetError when leadership is lost for good."""
        while True:
            await self._attempt()
            self._judge()
            if self.standing is Standing.LOST:
                raise FleetError(Code.FLEET_FAILED, "another replica leads now, so this one starts anew")
            await asyncio.sleep(self._pause())

    async def release(self) -> None:
        """Let another take over at once; when `run` has ended. Raises KubeError."""
        led, self.standing = self.standing is Standing.LEADING, Standing.LOST
        for _ in range(_RELEASES if led else 0):
            found = await self._kube.get(self._path, LeaseObject)
            if found.spec.holder_identity != self.identity:
                return
            spec = self._spec(found.spec, holder="", duration=1)
            try:
                await self._kube.replace(self._path, self._body(spec, found), LeaseObject)
                return
            except KubeError as error:
                if error.code is not Code.CLUSTER_CONFLICT:  # a renewal of ours that was still on its way
                    raise

    # ---- one attempt

    async def _attempt(self) -> None:
        """Take the Lease, or renew it. Trouble is logged: the next attempt is soon."""
        began = self._now()
        try:
            async with asyncio.timeout(max(0.1, min(self._timing.attempt, self._left()))):
                held = await (self._renew() if self.standing is Standing.LEADING else self._take())
        except TimeoutError:
            _log.warning("lease not reached", extra={"detail": "the API server did not answer in time"})
        except KubeError as error:
            if error.code is not Code.CLUSTER_CONFLICT:  # that is another's move: the next attempt looks at it
                _log.warning("lease not reached", extra={"detail": error.message})
        else:
            if held:
                self._renewed_at = began  # not after the answer: from here others count, too
                self._become(Standing.LEADING)

    async def _renew(self) -> bool:
        """Write at the version we wrote last; look again where somebody else has written."""
        if self._seen is not None:
            try:
                await self._write(self._spec(self._seen.spec), self._seen)
                return True
            except KubeError as error:
                if error.code not in (Code.CLUSTER_NOT_FOUND, Code.CLUSTER_CONFLICT):
                    raise
        return await self._take()

    async def _take(self) -> bool:
        """Read the Lease, and write it when it is ours, free or run out."""
        try:
            found = await self._kube.get(self._path, LeaseObject)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            if self.standing is Standing.UNSURE:
                return self._lose()
            await self._create()
            return True
        mine = found.spec.holder_identity == self.identity
        if self.standing is not Standing.WAITING and not (mine and found.spec.acquire_time == self._acquired):
            return self._lose()  # somebody else has led since
        self._look_at(found)
        if found.spec.holder_identity and not mine and self._now() < self._runs_out():
            return False
        await self._write(self._spec(found.spec), found)
        return True

    def _look_at(self, found: LeaseObject) -> None:
        """Note when it was seen to change. Who could not look for long cannot tell that the holder did nothing.

        (client-go does not make this difference: there a standby may be the first after an outage of the API server
        and depose a leader that is well.)
        """
        now = self._now()
        if found != self._seen or now - self._looked_at > self._timing.renew_within:
            self._seen, self._seen_at = found, now
        self._looked_at = now

    def _lose(self) -> bool:
        self._become(Standing.LOST)
        return False

    async def _create(self) -> None:
        metadata = {**self._metadata, "labels": dict(LABELS)}
        body = {"apiVersion": _VERSION, "kind": "Lease", "metadata": metadata, "spec": self._spec(_Spec())}
        self._wrote(await self._kube.create(self._collection, body, LeaseObject))

    async def _write(self, spec: dict[str, Any], found: LeaseObject) -> None:
        self._wrote(await self._kube.replace(self._path, self._body(spec, found), LeaseObject))

    def _wrote(self, answer: LeaseObject) -> None:
        self._seen, self._seen_at = answer, self._now()
        self._looked_at = self._seen_at
        self._acquired = answer.spec.acquire_time

    def _body(self, spec: dict[str, Any], found: LeaseObject) -> dict[str, Any]:
        metadata = {
            **self._metadata,
            "resourceVersion": found.metadata.resource_version,
            "labels": found.metadata.labels,
            "annotations": found.metadata.annotations,
        }
        return {"apiVersion": _VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}

    def _spec(self, last: _Spec, holder: str | None = None, duration: float | None = None) -> dict[str, Any]:
        holder = self.identity if holder is None else holder
        same = holder == last.holder_identity or not holder
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(duration or self._timing.duration),
            "acquireTime": last.acquire_time if same and last.acquire_time else stamp,
            "renewTime": stamp,
            "leaseTransitions": last.lease_transitions + (0 if same or not last.acquire_time else 1),
        }

    # ---- time

    def _judge(self) -> None:
        if self.standing is Standing.LEADING and self._left() <= 0:
            self._become(Standing.UNSURE)

    def _left(self) -> float:
        """How long we still lead without renewing; any time when we do not lead."""
        if self.standing is not Standing.LEADING:
            return self._timing.attempt
        return self._renewed_at + self._timing.renew_within - self._now()

    def _runs_out(self) -> float:
        """When another's Lease has been unchanged for long enough."""
        held = self._seen.spec.lease_duration_seconds if self._seen else 0
        return self._seen_at + (held or self._timing.duration)

    def _pause(self) -> float:
        """Until the next attempt: no later than the moment in which something runs out."""
        if self.standing is Standing.LEADING:
            return max(0.0, min(self._timing.every, self._left()))
        free = self._seen is None or not self._seen.spec.holder_identity
        until = self._timing.every if free else self._runs_out() - self._now()
        return min(self._timing.every, until) if until > 0 else min(self._timing.every, 0.2)

    def _become(self, standing: Standing) -> None:
        if standing is not self.standing:
            _log.info("leadership", extra={"standing": standing.value, "identity": self.identity})
            self.standing = standing
            self._changed.set()


__all__ = ["Elector", "LeaseObject", "Standing", "Timing", "clock"]

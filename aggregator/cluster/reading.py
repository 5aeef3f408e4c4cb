"""What belongs to the cluster itself, read from its API server: a few requests, however many nodes there are."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from common.errors import EidosError
from common.kube import images
from common.kube.client import Kube
from common.kube.facts import read_server
from common.kube.images import read_images
from common.kube.outcomes import failure, together
from common.kube.policies import read_policies
from common.model import Collected, Failed, FailureCode, Outcome

MOST_PODS: Final = 10_000
"""Pods beyond which images are not read: twenty answers of some 4 MB each."""

_LATE: Final = Failed(FailureCode.TIMEOUT, "the API server did not answer within the deadline")


class ClusterReader:
    """A `ReadCluster`."""

    def __init__(self, kube: Kube) -> None:
        """`kube` should give up soon: a run waits for it."""
        self._kube = kube

    async def __call__(self, seconds: float) -> Collected:
        """See ReadCluster. Every subtype succeeds or fails by itself."""
        parts = await asyncio.gather(
            _read(["server"], read_server(self._kube), seconds),
            _read(images.SUBTYPES, read_images(self._kube, MOST_PODS), seconds),
            _read(["policy"], read_policies(self._kube), seconds),
        )
        return together({subtype: outcome for part in parts for subtype, outcome in part.items()})


async def _read(
    subtypes: Sequence[str], reading: Awaitable[Mapping[str, Outcome]], seconds: float
) -> Mapping[str, Outcome]:
    try:
        async with asyncio.timeout(seconds):
            return await reading
    except EidosError as error:
        return dict.fromkeys(subtypes, failure(error))
    except TimeoutError:
        return dict.fromkeys(subtypes, _LATE)
    except Exception as error:  # a defect in reading one thing must not cost the run
        broken = Failed(FailureCode.INTERNAL, f"reading broke: {type(error).__name__}: {error}")
        return dict.fromkeys(subtypes, broken)

"""ConfigMap `eidos-ca`: the authorities by which agents know the aggregator. Their pods mount it."""

import asyncio
from collections.abc import Callable
from typing import Final

from aggregator.cluster.guard import guard, named
from aggregator.cluster.labels import LABELS
from aggregator.tls import BUNDLE
from common.errors import Code
from common.kube.client import Kube, KubeError
from common.kube.configmaps import configmap_path
from common.kube.types import ConfigMap

NAME: Final = "eidos-ca"


class PublishedBundle:
    """Keeps the ConfigMap as it should be."""

    def __init__(self, kube: Kube, namespace: str, bundle: Callable[[], bytes]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._bundle = bundle
        self.touched = asyncio.Event()
        """Set it when the bundle is another one: `follow` writes it."""

    async def mend(self) -> None:
        """Write it where it is not as it should be. Raises KubeError."""
        path, wanted = configmap_path(self._namespace, NAME), self._bundle().decode()
        try:
            if (await self._kube.get(path, ConfigMap)).data.get(BUNDLE) == wanted:
                return
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
        metadata = {"name": NAME, "namespace": self._namespace, "labels": LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {BUNDLE: wanted}}
        await self._kube.apply(path, body, ConfigMap, force=True)

    async def follow(self) -> None:
        """Put it back whenever somebody changes it, for ever."""
        await guard(self._kube, configmap_path(self._namespace), named(NAME), self.mend, self.touched)

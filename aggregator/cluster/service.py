"""The aggregator in a cluster, put together, and what happens when leadership comes and goes.

Every replica follows the cluster's nodes, so that a standby can begin at once. Only the leader has an authority,
listens for agents, is ready, and publishes. One that cannot reach the API server for ten seconds cannot tell whether
it still leads: it sends its agents away and goes on showing what it knows; it takes them back when the Lease turns
out to be still its own, and ends when it is not.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from aggregator.apiservice.ca_bundle import APISERVICE, keep_ca_bundle
from aggregator.apiservice.front_proxy import FrontProxy
from aggregator.apiservice.service import ApiService
from aggregator.auth import Authenticator
from aggregator.cluster.authority import SecretAuthority
from aggregator.cluster.bundle import PublishedBundle
from aggregator.cluster.certificates import Certificates, Pair
from aggregator.cluster.guard import guard, named
from aggregator.cluster.lease import Elector, Standing
from aggregator.cluster.nodes import ExpectedNodes
from aggregator.cluster.options import AGENT_ACCOUNT, LEASE, Options
from aggregator.cluster.publishing import LeaderPublisher
from aggregator.cluster.reading import ClusterReader
from aggregator.cluster.tlsfiles import TlsFiles
from aggregator.cluster.tokens import ClusterKeys, TokenReviewer
from aggregator.cluster.users import ClusterUsers
from aggregator.fleet import Fleet
from aggregator.server import Server
from aggregator.tls import Authority, OwnCertificates
from common.errors import EidosError
from common.kube.call import path_of
from common.kube.client import Kube, Retry
from common.kube.target import Target

_log: Final = logging.getLogger(__name__)
_AGAIN_AFTER: Final = 2.0
_BORROW_EVERY: Final = 10.0
_TIDY_EVERY: Final = 60.0
_RELEASED_WITHIN: Final = 3.0


class ClusterService:
    """One replica."""

    def __init__(self, options: Options, target: Target) -> None:
        namespace = options.namespace
        self._kube = Kube(target)
        # Every attempt has its time, and none waits behind the connections of watches.
        self._lease_kube = Kube(target, retry=Retry(attempts=1))
        # Who asks for a snapshot does not wait long for an API server that is away.
        self._facts_kube = Kube(target, retry=Retry(attempts=2, seconds=2.0))
        # Anybody can have made-up tokens reviewed: nothing else waits behind those.
        self._users_kube, self._agents_kube = Kube(target), Kube(target)
        self._nodes = ExpectedNodes(self._kube, namespace, options.node_selector)
        self._elector = Elector(self._lease_kube, namespace, LEASE, options.identity)
        self._publisher = LeaderPublisher(self._kube, namespace, self._elector)
        self._certificates: Certificates = (
            TlsFiles(options.tls_directory)
            if options.tls_directory is not None
            else SecretAuthority(self._kube, namespace, options.settings.names)
        )
        self._bundle = PublishedBundle(self._kube, namespace, lambda: self._certificates.bundle)
        self._apiservice_touched = asyncio.Event()
        self._keys = ClusterKeys(self._kube)
        account = f"{namespace}:{AGENT_ACCOUNT}"
        reviewer = TokenReviewer(self._agents_kube, account, self._nodes.node_of_pod)
        self._authenticator = Authenticator(self._keys, "", account, reviewer)
        self._front_proxy = FrontProxy()
        cluster = ClusterReader(self._facts_kube)
        self._fleet = Fleet(options.settings, self._nodes.expected, self._publisher, cluster)
        self._nodes.on_new = self._fleet.hub.forget_node
        self.server = Server(
            self._fleet,
            self._authenticator,
            ClusterUsers(self._users_kube, self._front_proxy),
            _for_probes(),
            in_cluster=ApiService(self._fleet).add_to,
        )

    async def start(self) -> None:
        """Answer probes. Raises OSError when the address is taken."""
        await self.server.start_api()

    async def run(self, stop: asyncio.Event) -> None:
        """Stand by and lead until `stop`. Raises FleetError when another took over, OSError, EidosError."""
        tasks = [
            asyncio.create_task(stop.wait(), name="stop"),
            asyncio.create_task(self._elector.run(), name="elector"),
            asyncio.create_task(self._nodes.follow(), name="nodes"),
            asyncio.create_task(self._front_proxy.follow(self._kube, self.server.trust_clients), name="front-proxy"),
            asyncio.create_task(self._duties(), name="duties"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(*tasks)
            await self.server.suspend("the aggregator is stopping")
            await self._release()
            await self.server.stop()
            for kube in (self._kube, self._lease_kube, self._facts_kube, self._users_kube, self._agents_kube):
                await kube.__aexit__()

    async def _duties(self) -> None:
        """Do what our standing asks for. Raises what goes wrong with it."""
        standings = self._elector.standings()
        standing = await anext(standings)
        while True:
            duty = asyncio.create_task(self._duty(standing), name=f"duty-{standing}")
            change = asyncio.create_task(anext(standings), name="standing")
            try:
                await asyncio.wait((duty, change), return_when=asyncio.FIRST_COMPLETED)
                if duty.done():
                    duty.result()
                standing = await change
            finally:
                await _cancel(duty, change)

    async def _duty(self, standing: Standing) -> None:
        if standing is Standing.WAITING:
            await self._stand_by()
        elif standing is Standing.LEADING:
            await self._lead()
        elif standing is Standing.UNSURE:
            await self.server.suspend("the aggregator lost touch with the API server and may no longer lead")

    async def _stand_by(self) -> None:
        """Have a certificate that Prometheus can verify: it reads a standby's metrics too."""
        while True:
            try:
                if (pair := await self._certificates.borrow()) is not None:
                    self.server.use_certificate(pair)
            except (EidosError, OSError) as error:  # what cannot be used by a leader either is said by that
                _log.warning("no certificate while standing by", extra={"detail": str(error)})
            await asyncio.sleep(_BORROW_EVERY)

    async def _lead(self) -> None:
        await self._nodes.synced.wait()
        await _until_done(self._prepare)
        await self.server.lead()
        await _together(
            self._certificates.follow(self._renewed),
            self._bundle.follow(),
            self._publisher.follow(),
            self._follow_apiservice(),
            self._tidy(),
        )

    async def _prepare(self) -> None:
        """What must be so before anybody is served. Raises EidosError."""
        await self._publisher.take_over()
        if (last := await self._publisher.read_back()) is not None:
            self._fleet.resume(last)
        self._authenticator.issuer = await self._keys.load()
        self.server.use_certificate(await self._certificates.load())
        await self._bundle.mend()

    async def _renewed(self, pair: Pair) -> None:
        """Serve with it, and have others told: what the API server refuses them holds up no later renewal."""
        self.server.use_certificate(pair)
        self._bundle.touched.set()
        self._apiservice_touched.set()

    async def _follow_apiservice(self) -> None:
        apiservices = path_of("apiregistration.k8s.io/v1", "apiservices")
        await guard(self._kube, apiservices, named(APISERVICE), self._give_bundle, self._apiservice_touched)

    async def _give_bundle(self) -> None:
        await keep_ca_bundle(self._kube, self._certificates.bundle)

    async def _tidy(self) -> None:
        """Forget nodes that the cluster no longer has: names of autoscaled ones never come again."""
        while True:
            await asyncio.sleep(_TIDY_EVERY)
            self._fleet.hub.forget_nodes({node.node for node in self._nodes.expected()})

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASED_WITHIN):
                await self._elector.release()
        except (EidosError, TimeoutError) as error:
            _log.warning("lease not released", extra={"detail": str(error)})


def _for_probes() -> Pair:
    """A certificate for until there is one: kubelet looks at none."""
    authority = Authority()
    authority.rotate()
    return OwnCertificates(authority, ["localhost"]).issue()


async def _until_done(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await step()
        except EidosError as error:
            _log.error("tried again soon", extra={"detail": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)


async def _together(*endless: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in endless:
            group.create_task(each)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

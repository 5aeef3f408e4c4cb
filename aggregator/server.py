"""The aggregator as a server: both listeners, certificates that renew themselves, an orderly stop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from aggregator.admission import Admission
from aggregator.api.routes import application
from aggregator.auth import Authenticator
from aggregator.endpoint import LinkEndpoint
from aggregator.fleet import Fleet
from aggregator.listener import Listener
from aggregator.tls import Authority, ServerTls
from aggregator.users import API_PATH, UserAuthenticator

_log: Final = logging.getLogger(__name__)

_RENEWAL_EVERY: Final = 3600.0


class Server:
    """Serves one fleet to agents and users."""

    def __init__(
        self,
        fleet: Fleet,
        authenticator: Authenticator,
        users: UserAuthenticator,
        authority: Authority,
        keep: Callable[[Authority], None],
        in_cluster: Callable[[web.Application], None] | None = None,
    ) -> None:
        """`keep` stores the authority's files, and publishes its bundle, whenever it has changed.

        `in_cluster` makes the API part of a cluster's own: it adds what kube-apiserver passes on, and clients may
        present certificates (`trust_clients`).
        """
        settings = fleet.settings
        self.fleet = fleet
        self.link_port = self.api_port = 0
        self._settings = settings
        self._authority = authority
        self._keep = keep
        if authority.rotate():
            keep(authority)
        pair = authority.issue(settings.names)
        self._tls = ServerTls(*pair)
        self._api_tls = ServerTls(*pair, asks_clients=in_cluster is not None)
        prefixes = ("", API_PATH) if in_cluster is not None else ("",)
        api_app = application(fleet, users, settings.api, lambda: self._ready, prefixes)
        if in_cluster is not None:
            in_cluster(api_app)
        self._endpoint = LinkEndpoint(fleet.hub, Admission(fleet.hub, authenticator))
        self._api_listener = Listener(
            api_app, self._api_tls.context, fleet.counts, settings.api.most_connections, settings.api.headers_within
        )
        self._ready = False
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve. Raises OSError when an address is taken."""
        settings = self._settings
        self.fleet.start()
        self.link_port = await self._endpoint.start(self._tls.context, settings.link_address, settings.link_port)
        self.api_port = await self._api_listener.start(settings.api_address, settings.api_port)
        self._renewing = asyncio.get_running_loop().create_task(self._renew_certificates(), name="renew")
        self._ready = True
        _log.info("serving", extra={"link_port": self.link_port, "api_port": self.api_port})

    @property
    def api_connections(self) -> int:
        """Connections of users that are open."""
        return self._api_listener.connections

    async def stop(self) -> None:
        """Tell agents to come back later, end what is under way, and forget everything."""
        self._ready = False
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._endpoint.stop()
        await self.fleet.stop()
        await self._api_listener.stop()

    def trust_clients(self, authorities: str) -> None:
        """Client certificates of these authorities (PEM) may be presented to the API. Raises ssl.SSLError."""
        self._api_tls.trust_clients(authorities)

    async def _renew_certificates(self) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_EVERY)
            self.renew_certificates()

    def renew_certificates(self) -> None:
        """Renew what is due: the authority, the server's certificate. Links that stand are not touched."""
        if self._authority.rotate():
            self._keep(self._authority)
        if self._tls.is_due():
            pair = self._authority.issue(self._settings.names)
            self._tls.reload(*pair)
            self._api_tls.reload(*pair)
            _log.info("server certificate renewed")

"""The aggregator as a server: both listeners, certificates that renew themselves, an orderly stop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aggregator.admission import Admission
from aggregator.api.routes import application
from aggregator.auth import Authenticator, UserAuthenticator
from aggregator.endpoint import LinkEndpoint
from aggregator.fleet import Fleet
from aggregator.listener import Listener
from aggregator.tls import Authority, ServerTls

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
    ) -> None:
        """`keep` stores the authority's files, and publishes its bundle, whenever it has changed."""
        settings = fleet.settings
        self.fleet = fleet
        self.link_port = self.api_port = 0
        self._settings = settings
        self._authority = authority
        self._keep = keep
        if authority.rotate():
            keep(authority)
        self._tls = ServerTls(*authority.issue(settings.names))
        api_app = application(fleet, users, settings.api, lambda: self._ready)
        self._endpoint = LinkEndpoint(fleet.hub, Admission(fleet.hub, authenticator))
        self._api_listener = Listener(
            api_app, self._tls.context, fleet.counts, settings.api.most_connections, settings.api.headers_within
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

    async def _renew_certificates(self) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_EVERY)
            self.renew_certificates()

    def renew_certificates(self) -> None:
        """Renew what is due: the authority, the server's certificate. Links that stand are not touched."""
        if self._authority.rotate():
            self._keep(self._authority)
        if self._tls.is_due():
            self._tls.reload(*self._authority.issue(self._settings.names))
            _log.info("server certificate renewed")

"""The aggregator as a server: the listener for users and the one for agents, and an orderly stop."""

import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from aggregator.admission import Admission
from aggregator.api.routes import application
from aggregator.auth import Authenticator
from aggregator.duty import Duty
from aggregator.endpoint import LinkEndpoint
from aggregator.fleet import Fleet
from aggregator.listener import Listener
from aggregator.tls import ServerTls
from aggregator.users import UserAuthenticator
from common.fleet_api import API_PATH
from common.wire import Closed

_log: Final = logging.getLogger(__name__)


class Server:
    """Serves one fleet to agents and users."""

    def __init__(
        self,
        fleet: Fleet,
        authenticator: Authenticator,
        users: UserAuthenticator,
        pair: tuple[bytes, bytes],
        in_cluster: Callable[[web.Application], None] | None = None,
    ) -> None:
        """`pair` is certificate and key, PEM; `use_certificate` changes them later.

        `in_cluster` makes the API part of a cluster's own: it adds what kube-apiserver passes on, and clients may
        present certificates (`trust_clients`).
        """
        settings = fleet.settings
        self.fleet = fleet
        self.duty = Duty.STANDBY
        self.link_port = self.api_port = 0
        self._settings = settings
        self._tls = ServerTls(*pair)
        self._api_tls = ServerTls(*pair, asks_clients=in_cluster is not None)
        prefixes = ("", API_PATH) if in_cluster is not None else ("",)
        api_app = application(fleet, users, settings.api, lambda: self.duty, prefixes)
        if in_cluster is not None:
            in_cluster(api_app)
        self._endpoint = LinkEndpoint(fleet.hub, Admission(fleet.hub, authenticator))
        self._api_listener = Listener(
            api_app, self._api_tls.context, fleet.counts, settings.api.most_connections, settings.api.headers_within
        )

    async def start(self) -> None:
        """Serve. Raises OSError when an address is taken."""
        await self.start_api()
        await self.lead()

    async def start_api(self) -> None:
        """Be there for probes, as a standby. Raises OSError when the address is taken."""
        self.fleet.start()
        self.api_port = await self._api_listener.start(self._settings.api_address, self._settings.api_port)

    async def lead(self) -> None:
        """Serve agents and users. Raises OSError when the address is taken."""
        settings = self._settings
        self.fleet.runs.warm_up()
        self.link_port = await self._endpoint.start(self._tls.context, settings.link_address, settings.link_port)
        self.duty = Duty.LEADING
        _log.info("serving", extra={"link_port": self.link_port, "api_port": self.api_port})

    async def suspend(self, why: str) -> None:
        """Send agents away and end runs; `lead` takes it up again. What is known stays readable."""
        self.duty = Duty.SUSPENDED
        await self.fleet.runs.end_all(why)  # before its nodes are gone: no document shall say that they are
        await self._endpoint.stop(Closed.LOST)  # at once: they shall look for another aggregator

    @property
    def api_connections(self) -> int:
        """Connections of users that are open."""
        return self._api_listener.connections

    async def stop(self) -> None:
        """Tell agents to come back later, end what is under way, and forget everything."""
        self.duty = Duty.STANDBY
        await self._endpoint.stop(Closed.GOING_AWAY)
        await self.fleet.stop()
        await self._api_listener.stop()

    def use_certificate(self, pair: tuple[bytes, bytes]) -> None:
        """From the next connection on; those that stand are not touched. Raises ssl.SSLError, keeping the old one."""
        self._tls.reload(*pair)
        self._api_tls.reload(*pair)
        _log.info("server certificate renewed")

    def trust_clients(self, authorities: str) -> None:
        """Client certificates of these authorities (PEM) may be presented to the API. Raises ssl.SSLError."""
        self._api_tls.trust_clients(authorities)

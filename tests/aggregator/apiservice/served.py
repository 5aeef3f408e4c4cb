"""A fleet's part of a cluster's API, served over plain HTTP, with a user whom everything is allowed."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from aggregator.api.routes import application
from aggregator.apiservice.service import ApiService
from aggregator.duty import Duty
from aggregator.ledger import Expected
from aggregator.users import GROUP_PATH, TokenUser, UserAuthenticator
from common.fleet_api import API_PATH
from tests.fleet.scene import Scene, scene

NODES = [f"n{number}" for number in range(1, 6)]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
TOKEN = "secret"


class Asked:
    """An answer, read."""

    def __init__(self, status: int, body: bytes, headers: CIMultiDict[str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """What a test needs."""

    def __init__(self, fleet: Scene, client: "TestClient[Any, Any]") -> None:
        self.scene = fleet
        self.client = client
        self.expected = [
            Expected(name, labels={"zone": f"z{number % 2}", "only": name}) for number, name in enumerate(NODES)
        ]
        fleet.fleet.expected = lambda: self.expected

    async def ask(self, path: str, method: str = "GET", **options: Any) -> Asked:
        """A request below the group's path, or anywhere if it begins with a slash."""
        where = path if path.startswith("/") else f"{GROUP_PATH}/{path}"
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        async with self.client.request(method, where, headers=headers, **options) as response:
            return Asked(response.status, await response.read(), response.headers.copy())

    async def get(self, path: str, **options: Any) -> Any:
        """Of a request that must succeed."""
        answer = await self.ask(path, **options)
        assert answer.status == 200, answer.body
        return answer.json

    async def status(self, path: str, code: int, reason: str, **options: Any) -> str:
        """The message of a request that must fail so, as a Status."""
        answer = await self.ask(path, **options)
        told = answer.json
        assert answer.status == code, answer.body
        assert (told["kind"], told["apiVersion"], told["status"]) == ("Status", "v1", "Failure")
        assert (told["code"], told["reason"]) == (code, reason)
        message: str = told["message"]
        return message

    @asynccontextmanager
    async def watching(self, path: str, **options: Any) -> "AsyncIterator[AsyncIterator[Any]]":
        """The events of a watch, as they come."""
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        async with self.client.get(f"{GROUP_PATH}/{path}", headers=headers, **options) as response:
            assert response.status == 200, await response.read()

            async def events() -> AsyncIterator[Any]:
                while line := await response.content.readline():
                    yield json.loads(line)

            yield events()


@asynccontextmanager
async def served(directory: Path, join: int = 3, users: UserAuthenticator | None = None) -> AsyncIterator[Served]:
    """Five expected nodes, of which some have agents."""
    async with scene(directory, NODES) as fleet:
        for number in range(join):
            await fleet.join(NODES[number], number)
        app = application(
            fleet.fleet,
            users or TokenUser(TOKEN),
            fleet.fleet.settings.api,
            lambda: Duty.LEADING,
            ("", API_PATH),
        )
        ApiService(fleet.fleet).add_to(app)
        async with TestClient(TestServer(app)) as client:
            yield Served(fleet, client)

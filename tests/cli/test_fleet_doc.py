"""docs/fleet.md names every endpoint and every state."""

import re
from pathlib import Path

from aggregator.api.routes import application
from aggregator.duty import Duty
from aggregator.fleet import Fleet
from aggregator.settings import Settings
from aggregator.users import TokenUser
from common.fleet import NodeState

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()


def shape(method: str, path: str) -> str:
    """An endpoint with X for what stands for something: {node} in the code, NAME in the text."""
    return f"{method} {re.sub(r'{[^}]*}|[A-Z]{2,}([.][A-Z]+)*', 'X', path)}"


async def test_every_endpoint_is_described(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    fleet = Fleet(settings, list)
    app = application(fleet, TokenUser("token"), settings.api, lambda: Duty.LEADING)
    resources = [(route.method, route.resource) for route in app.router.routes() if route.method != "HEAD"]
    served = {shape(method, resource.canonical) for method, resource in resources if resource is not None}
    described = {shape(method, path) for method, path in re.findall(r"`(GET|POST) (/[^`?]*)", PAGE)}
    assert served == described
    await fleet.stop()


def test_every_state_is_described() -> None:
    described = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert set(NodeState) <= set(described)

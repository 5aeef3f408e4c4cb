"""docs/fleet.md names every endpoint, state and metric, and the limits as they are."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from agent.daemon import arguments as agent_arguments
from aggregator.__main__ import arguments as aggregator_arguments
from aggregator.api.metrics import FleetCollector
from aggregator.api.routes import application
from aggregator.duty import Duty
from aggregator.fleet import Fleet
from aggregator.settings import ApiSettings, LinkSettings, RunSettings, Settings
from aggregator.users import TokenUser
from common.fleet import NodeState
from common.wire import MAX_CONTENT, MAX_FRAME

PAGES = Path(__file__).parents[2] / "docs"
PAGE = (PAGES / "fleet.md").read_text()


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


@pytest.mark.parametrize("parser", [aggregator_arguments(), agent_arguments({})], ids=["aggregator", "agent"])
def test_every_setting_is_described(parser: ArgumentParser) -> None:
    told = set(re.findall(r"\[([A-Z_]+)\]", parser.format_help()))
    assert "EIDOS_LOG_LEVEL" in told
    described = re.findall(r"`([A-Z_]+)`", (PAGES / "operate.md").read_text())
    assert told <= set(described)


async def test_every_metric_is_described(tmp_path: Path) -> None:
    fleet = Fleet(Settings(tmp_path), list)
    families = list(FleetCollector(fleet, lambda: Duty.LEADING).collect())
    served = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    described = set(re.findall(r"`(eidos_[a-z_]+)", PAGE))
    assert served <= described
    # Of the last snapshot, and there is none.
    assert described - served == {"eidos_nodes", "eidos_groups", "eidos_outliers", "eidos_run_seconds"}
    await fleet.stop()


def test_limits_are_as_described() -> None:
    link, run, api, whole = LinkSettings(), RunSettings(), ApiSettings(), Settings(Path())
    rows = [
        f"| nodes, and links of agents | {link.most_nodes:,} |",
        f"| one agent in {link.ping_every:.0f} s | {link.most_frames} frames, {link.most_bytes >> 20} MiB |",
        f"| one frame; one piece of content, unpacked | {MAX_FRAME >> 20} MiB; {MAX_CONTENT >> 20} MiB |",
        f"| unfinished frames of all agents together | {link.most_unfinished >> 20} MiB |",
        f"| what waits for an agent that does not read | {link.most_unread >> 20} MiB |",
        f"| silence on a link, pings every {link.ping_every:.0f} s | {link.silent_after:.0f} s |",
        f"| TLS handshake, and request or `Hello` after it | {link.hello_within:.0f} s each |",
        f"| content kept, compressed | {whole.memory >> 20} MiB in memory, {whole.disk >> 30} GiB on disk |",
        f"| runs at once; waiting; beyond that 429 | {run.at_once}; {run.queued} |",
        f"| a run's deadline | {run.longest:.0f} s |",
        "| HTTP connections of users, and as many of strangers; requests that wait for runs "
        f"| {api.most_connections}; {api.most_waiting} |",
        f"| HTTP body, and the time for it | {api.most_body >> 10} KiB, {api.body_within:.0f} s |",
    ]
    assert [row for row in rows if row not in PAGE] == []
    assert api.headers_within == link.hello_within

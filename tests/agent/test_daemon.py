"""The resident agent's own settings."""

import pytest

from agent.daemon import arguments, bracketed, build, main
from common.errors import UsageError


@pytest.mark.parametrize(
    ("given", "dialled"),
    [
        ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
        ("https://eidos-link.eidos.svc:8443", "https://eidos-link.eidos.svc:8443"),
        ("https://fd00:10::1:8443", "https://[fd00:10::1]:8443"),  # what Service variables make of IPv6
        ("https://[fd00:10::1]:8443", "https://[fd00:10::1]:8443"),
        ("https://[fd00:10::1]", "https://[fd00:10::1]"),
        ("https://host", "https://host"),
    ],
)
def test_an_ipv6_service_can_be_dialled(given: str, dialled: str) -> None:
    assert bracketed(given) == dialled


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1:99999",
        "https://127.0.0.1:0",
        "https://[::1",
        "https://::1]:8443",
        "https://",
        "https://:8443",
        "https://host:port",
        "https://ho st:8443",
        "https://host:8443\n",
        "https://me@host:8443",
        "https://host:8443?x=y",
        "https://$(EIDOS_LINK_SERVICE_HOST):$(EIDOS_LINK_SERVICE_PORT)",
    ],
)
def test_an_address_that_never_can_be_is_refused_at_once(address: str) -> None:
    options = arguments({}).parse_args(["--aggregator", address, "--node", "n1", "--host-root", "/"])
    with pytest.raises(UsageError, match="is no address of an aggregator"):
        build(options, {})


@pytest.mark.parametrize(
    "address", ["https://host", "https://h:65535/", "https://[fd00::1]:8443", "https://h:1/under"]
)
def test_an_address_that_can_be_is_taken(address: str) -> None:
    options = arguments({}).parse_args(["--aggregator", address, "--node", "n1", "--host-root", "/"])
    assert build(options, {})._settings.url == address


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
def test_a_health_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--health-port={port}"])
    assert f"argument --health-port: '{port}' is no port" in capsys.readouterr().err

"""The resident agent's own settings."""

import pytest

from agent.daemon import bracketed


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

"""Switches and rules for all tests."""

import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: how long an example takes says nothing about whether it is right. Every run tries others,
# so fewer than Hypothesis's 100 do where nobody says otherwise.
settings.register_profile("eidos", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("eidos")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, no node name, no host root from the environment the tests happen to run in."""
    for variable in ("KUBERNETES_SERVICE_HOST", "NODE_NAME", "KUBERNETES_NODE_NAME", "EIDOS_HOST_ROOT", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))


def cannot_run_here(reason: str) -> NoReturn:
    """Skip loudly on a person's machine; fail in CI, where everything must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"must run in CI, but cannot: {reason}")
    pytest.skip(f"CANNOT RUN HERE: {reason}")

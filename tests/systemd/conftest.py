"""The real systemd as fixtures; each suite named in EIDOS_SYSTEMD_SUITES (default: bookworm) runs all tests."""

import os
from collections.abc import Iterator

import pytest

from tests.conftest import cannot_run_here
from tests.systemd.machine import SystemdMachine, start_systemd
from tests.systemd.root import UnavailableError, check_machine, systemd_root
from tests.systemd.units import ENABLED, STARTED, UNITS

_SUITES = os.environ.get("EIDOS_SYSTEMD_SUITES", "bookworm").split(",")


@pytest.fixture(params=_SUITES)
def machine(request: pytest.FixtureRequest) -> Iterator[SystemdMachine]:
    """A systemd of the test's own, with `units.UNITS` installed and `units.STARTED` running."""
    try:
        check_machine()
        root = systemd_root(request.param)
    except UnavailableError as error:
        cannot_run_here(str(error))
    machine = start_systemd(root, UNITS)
    try:
        machine.systemctl("enable", *ENABLED)
        machine.systemctl("start", *STARTED)
        yield machine
    finally:
        machine.stop()

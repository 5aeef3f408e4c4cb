"""`eidos fleet install`, `upgrade` and `uninstall` on a real cluster, with the images as they are built."""

import pytest

from tests.cluster.fleetmode import NAMESPACE, Fleet

pytestmark = pytest.mark.cluster


def test_installed_and_gone_again(fleet: Fleet) -> None:
    before = fleet.everything()
    done = fleet.eidos("install", *fleet.images)
    assert done.returncode == 0, done.stderr
    print(done.stdout, done.stderr)
    assert "2 of 2 agents ready" in done.stdout
    print(fleet.kubectl("get", "all,cm,secrets,leases", "-n", NAMESPACE))
    removed = fleet.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    print(removed.stdout, removed.stderr)
    assert fleet.everything() == before

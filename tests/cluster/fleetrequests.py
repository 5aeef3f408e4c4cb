"""What a fleet asks of the API server, counted by the server's own audit log."""

from collections import Counter
from typing import Final

from tests.cluster.apiservice import GROUP
from tests.cluster.audit import Asked, AuditLog, account
from tests.cluster.fleetmode import NAMESPACE, Fleet

AGGREGATOR: Final = account(NAMESPACE, "eidos-aggregator")
AGENT: Final = account(NAMESPACE, "eidos-agent")
NOBODY: Final = ""
RENEWAL: Final = Asked("update", "leases", "eidos-aggregator")
PUBLISHED: Final = Asked("patch", "configmaps", "eidos-fleet")
LOOKED_AT: Final = Asked("get", "configmaps", "eidos-fleet")
SWEPT: Final = Asked("list", "configmaps")
OF_A_RUN: Final = Counter(
    {
        LOOKED_AT: 1,  # what the document replaces
        Asked("get", "leases", "eidos-aggregator"): 1,  # whether we lead still
        PUBLISHED: 1,
        SWEPT: 1,  # shards that nobody needs any more
    }
)
"""And once more LOOKED_AT when the watch tells of it, unless several are told of at once."""


def audit_log(fleet: Fleet) -> AuditLog:
    """The cluster's, counting from now on."""
    log = AuditLog(fleet.cluster.control_plane.audit_log)
    log.begin()
    return log


def run_once(fleet: Fleet) -> str:
    """A run over the whole fleet, as a user starts one with kubectl; the document."""
    return fleet.kubectl("create", "--raw", f"{GROUP}/fleets/eidos/api/v1/runs", "-f", "-", stdin="{}")


def of_runs(fleet: Fleet, runs: int) -> Counter[Asked]:
    """What the aggregator asks for some runs, each published before the next; not what it asks anyway."""
    log = audit_log(fleet)
    for number in range(1, runs + 1):
        run_once(fleet)
        log.wait_until(AGGREGATOR, PUBLISHED, number)
    asked = log.wait_until(AGGREGATOR, SWEPT, runs)
    return Counter({each: count for each, count in asked.items() if not is_idle(each)})


def is_idle(asked: Asked) -> bool:
    """Whether it is asked with or without runs."""
    return asked == RENEWAL or asked.verb == "watch"

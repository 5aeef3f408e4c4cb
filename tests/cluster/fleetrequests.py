"""What a fleet asks of the API server, counted by the server's own audit log."""

import json
import time
from collections import Counter
from typing import Any, Final

from tests.cluster.apiservice import GROUP
from tests.cluster.audit import Asked, AuditLog, account
from tests.cluster.fleetmode import NAMESPACE, Fleet

AGGREGATOR: Final = account(NAMESPACE, "eidos-aggregator")
AGENT: Final = account(NAMESPACE, "eidos-agent")
NOBODY: Final = ""
RENEWAL: Final = Asked("update", "leases", "eidos-aggregator")
PUBLISHED: Final = Asked("patch", "configmaps", "eidos-fleet")
LOOKED_AT: Final = Asked("get", "configmaps", "eidos-fleet")
LED: Final = Asked("get", "leases", "eidos-aggregator")
PODS: Final = Asked("list", "pods")
SWEPT: Final = Asked("list", "configmaps")
OF_A_RUN: Final = Counter(
    {
        LOOKED_AT: 1,  # what the document replaces
        LED: 1,  # whether we lead still
        PUBLISHED: 1,
        SWEPT: 1,  # shards that nobody needs any more
        Asked("get", "/version"): 1,
        Asked("get", "/apis"): 1,  # whether there are ClusterPolicies
    }
)
"""And LOOKED_AT once more when the watch tells of it, and PODS by number, then in pages for their images."""


def audit_log(fleet: Fleet) -> AuditLog:
    """The cluster's, counting from now on."""
    log = AuditLog(fleet.cluster.control_plane.audit_log)
    log.begin()
    return log


def run_once(fleet: Fleet) -> Any:
    """A run over the whole fleet, as a user starts one with kubectl; the document."""
    runs = f"{GROUP}/fleets/eidos/api/v1/runs"
    return json.loads(fleet.kubectl("create", "--raw", runs, "-f", "-", stdin="{}"))


def run_and_publish(fleet: Fleet) -> float:
    """A run, to the last request that its publishing takes; seconds until its document was here."""
    began = time.perf_counter()
    run = run_once(fleet)["metadata"]["run"]
    seconds = time.perf_counter() - began
    published = ("get", "configmap", "eidos-fleet", "-n", NAMESPACE, "-o", r"jsonpath={.data.snapshot\.yaml}")
    while run not in fleet.kubectl(*published):
        pass  # each look takes a while
    AuditLog(fleet.cluster.control_plane.audit_log).wait_until(AGGREGATOR, _is_swept)
    return seconds


def of_runs(fleet: Fleet, runs: int) -> Counter[Asked]:
    """What the aggregator asks for some runs, one after the other; not what it asks anyway."""
    run_and_publish(fleet)  # what others began is over now
    log = audit_log(fleet)
    for _ in range(runs):
        run_and_publish(fleet)
    return Counter({each: count for each, count in log.asked(AGGREGATOR).items() if not is_idle(each)})


def _is_swept(requests: list[Asked]) -> bool:
    """Whether after the last writing of the document nothing is to be removed any more."""
    return next(each for each in reversed(requests) if each in (PUBLISHED, SWEPT)) == SWEPT


def is_idle(asked: Asked) -> bool:
    """Whether it is asked with or without runs."""
    return asked == RENEWAL or asked.verb == "watch"

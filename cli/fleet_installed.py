"""What `eidos fleet status` says of an installation itself, above all when its aggregator is silent."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.fleet_transport import ClusterConnection, Connection
from cli.text import style, visible
from common.errors import EidosError

if TYPE_CHECKING:
    from installer.inspection import Installation


def look(where: Connection | ClusterConnection) -> "Installation | None":
    """The installation of the cluster that is asked; None when there is none, or it cannot be looked at."""
    if isinstance(where, Connection):
        return None
    from common.kube.choice import ClusterChoice
    from common.kube.session import visit
    from installer.inspection import inspect

    try:
        return visit(inspect, ClusterChoice(where.kubeconfig, where.context))
    except EidosError:  # what is asked next says so, better
        return None


def lines(found: "Installation", colour: bool) -> Iterator[str]:
    """One line when all is well, and one more for each thing that is not."""
    from cli.fleet_text import names
    from common.nodeset import fold_names

    agents = found.agents
    yield style(f"Installed in namespace {visible(found.namespace)}", colour, bold=True) + (
        f": {agents.ready} of {agents.desired} agents ready"
    )
    for what, verdict in (("aggregator", found.aggregator), ("API", found.api)):
        if verdict is not None and not verdict.done:
            yield style(f"  {what}: {visible(verdict.explanation)}", colour, fg="red")
    if agents.counted and not agents.desired:
        yield style("  agents: no node has the labels that their node selector wants", colour, fg="yellow")
    if agents.refused:
        yield style(f"  agents: {visible(agents.refused)}", colour, fg="red")
    if agents.starting:
        starting = names(fold_names(agents.starting))
        yield style(f"  {starting} ({len(agents.starting)}): not ready yet", colour, fg="yellow")
    for why, nodes in agents.troubled.items():
        yield style(f"  {names(fold_names(nodes))} ({len(nodes)}): {visible(why)}", colour, fg="yellow")


def as_data(found: "Installation") -> dict[str, object]:
    """The same for programs."""
    agents = found.agents
    return {
        "namespace": found.namespace,
        "aggregator": {"leads": found.aggregator.done, "explanation": found.aggregator.explanation},
        "api": {"available": found.api.done, "explanation": found.api.explanation} if found.api else None,
        "agents": {
            "desired": agents.desired,
            "ready": agents.ready,
            "troubled": [{"reason": why, "nodes": nodes} for why, nodes in agents.troubled.items()],
        },
    }

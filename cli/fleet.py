"""`eidos fleet`: what an aggregator knows of all nodes."""

from typing import Final

import click

from cli.lazy import LazyGroup

_COMMANDS: Final = {
    "snapshot": ("cli.fleet_snapshot", "Ask every node now and write one folded document."),
    "status": (
        "cli.fleet_status:status",
        "Say which nodes are connected, and how each ended in the last snapshot.",
    ),
    "nodes": ("cli.fleet_status:nodes", "List the nodes with their states."),
    "node": ("cli.fleet_status:node", "Write one node's snapshot, as eidos snapshot would there."),
    "groups": ("cli.fleet_views:groups", "Show which nodes are equal, and what they share."),
    "outliers": ("cli.fleet_views:outliers", "Show the few nodes that differ from others like them, and in what."),
    "fact": ("cli.fleet_views:fact", "Show one fact across the fleet: its values and who has them."),
    "query": ("cli.fleet_query", "Find the nodes that an expression over their facts is true for."),
    "watch": ("cli.fleet_watch", "Follow changes as they happen: nodes, runs, drift between snapshots."),
    "install": ("cli.fleet_install:install", "Install agents and an aggregator into a cluster."),
    "upgrade": ("cli.fleet_install:upgrade", "Bring an installation to this version, or to other images."),
    "uninstall": ("cli.fleet_install:uninstall", "Remove an installation with all that it wrote."),
    "demo": ("cli.fleet_demo", "Start a fleet on this machine, without a cluster, and find what is odd in it."),
}

EXAMPLES: Final = """\
\b
Examples:
  eidos fleet demo --keep                             a fleet to try the others on
  eidos fleet install                                 into the cluster that kubectl uses
  eidos fleet snapshot                                all nodes, folded
  eidos fleet status --context staging                another context's fleet, through its cluster's API
  eidos fleet status --server https://eidos.example:8444 --token-file token --ca ca.crt
  eidos fleet outliers                                which nodes are not like the others, and why
  eidos fleet fact GPU.smi.driver                     who runs which driver
  eidos fleet query 'semver(GPU.smi.driver) < semver("570")'
  eidos fleet node gpu-017 -o gpu-017.yaml            one node's snapshot
"""


@click.group("fleet", cls=LazyGroup, table=_COMMANDS, epilog=EXAMPLES)
def command() -> None:
    """Every node of a fleet in one snapshot, as an aggregator knows it.

    Exit status: 0 done, 1 the demo missed what it seeded or query --exit-status found no node, 2 wrong use or the
    output cannot be written, 4 the aggregator refused, failed or cannot be reached, 5 out of time, 130 interrupted.
    """

"""`eidos fleet snapshot`: every node asked now, one folded document."""

from typing import TYPE_CHECKING, Any, Final

import click

from cli import install_options
from cli.fleet_options import Target, connection, document_options
from cli.options import Duration, Text, refuse_empty, split_commas

if TYPE_CHECKING:
    from common.fleet import FleetSnapshot
    from common.model import MeasurementType

EXAMPLES: Final = """\
\b
Examples:
  eidos fleet snapshot                                       for a person on a terminal, YAML in a pipe
  eidos fleet snapshot -o fleet.yaml
  eidos fleet snapshot --nodes 'gpu-[001-016]' --deadline 30s
  eidos fleet snapshot --selector nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3 --sections GPU,OS
  eidos fleet snapshot --ephemeral -o fleet.yaml             nothing stays in the cluster
  eidos fleet snapshot --format json | jq '.ledger[] | select(.state != "ok")'
"""


@click.command("snapshot", epilog=EXAMPLES)
@click.option("--nodes", type=Text(), metavar="NODESET", help="Only these nodes, such as gpu-[001-016],login.")
@click.option("-l", "--selector", type=Text(), metavar="LABELS",
              help="Only nodes with these labels: a=b,c!=d,e,!f as with kubectl.")  # fmt: skip
@click.option("--sections", metavar="TYPES", multiple=True,
              help="Only these measurement types, such as GPU,OS.")  # fmt: skip
@click.option("--deadline", type=Duration(), metavar="TIME",
              help="When the run ends, answered or not.  [default: the aggregator's]")  # fmt: skip
@click.option("--ephemeral", is_flag=True,
              help="Install a fleet, take the snapshot, and remove everything again.")  # fmt: skip
@install_options.what_options
@install_options.timeout_option
@document_options
def command(**flags: Any) -> None:
    """Ask every node now and write what they answer as one FleetSnapshot.

    It never takes longer than the deadline: a node that does not answer is in the ledger with its state and the
    reason, and the last known facts of it are in the document with their age.

    With --ephemeral nothing stays in the cluster, after Ctrl-C neither. The flags about images, overlays and where it
    goes, and --timeout, are for that, and as with eidos fleet install.
    """
    from cli import fleet_ephemeral
    from cli.fleet_client import FleetClient, ask
    from cli.fleet_run import take
    from common.fleet_api import RunBody

    for flag, noun in (("nodes", "node"), ("selector", "label"), ("sections", "section")):
        refuse_empty(f"--{flag}", flags[flag], noun)
    sections = _sections(split_commas(flags["sections"]))
    fleet_ephemeral.check(flags)
    target = Target(flags, piped="yaml")
    body = RunBody(flags["nodes"] or "", flags["selector"] or "", sections, flags["deadline"])

    async def run(client: FleetClient) -> "FleetSnapshot":
        return (await take(client, body))[0]

    def tell(document: "FleetSnapshot") -> None:
        if target.is_table:
            from cli.fleet_text import overview

            target.write_lines(lambda colour: overview(document, colour))
        else:
            target.write(document)
        _warn(document, brief=target.is_table)
        if flags["nodes"] and not flags["selector"]:  # with labels too, those left out may be meant
            _warn_of_strangers(document, flags["nodes"])

    if flags["ephemeral"]:
        fleet_ephemeral.take(flags, body, tell)
    else:
        tell(ask(connection(flags), run))


def _sections(names: tuple[str, ...]) -> "list[MeasurementType]":
    from common.errors import UsageError
    from common.model import MeasurementType

    known = {kind.value.lower(): kind for kind in MeasurementType}
    if unknown := [name for name in names if name.lower() not in known]:
        raise UsageError(f"there is no section {unknown[0]!r}", f"Choose from {', '.join(MeasurementType)}.")
    return [kind for kind in MeasurementType if kind in {known[name.lower()] for name in names}]


def _warn_of_strangers(document: "FleetSnapshot", nodes: str) -> None:
    """Who was named and is no node of the fleet, perhaps for a slip of the pen."""
    from aggregator.names import ledger_nodes
    from cli.fleet_text import names
    from common.nodeset import fold_names, unfold_names

    if strangers := set(unfold_names(nodes)) - ledger_nodes(document):
        click.echo(f"Warning: the fleet has no {names(fold_names(strangers))}", err=True)


def _warn(document: "FleetSnapshot", brief: bool) -> None:
    """Who did not answer, and that nobody was asked, also goes to standard error, where a person looks."""
    from cli.fleet_text import names
    from cli.text import visible
    from common.fleet import NodeState

    if not document.summary.expected:
        click.echo("Warning: no node of the fleet is selected", err=True)
    for line in () if brief else document.ledger:  # a table has begun with them
        if line.state is not NodeState.OK:
            nodes = names(line.nodes, document.node_table)
            click.echo(f"Warning: {nodes} ({line.count}): {line.state.value}: {visible(line.reason)}", err=True)

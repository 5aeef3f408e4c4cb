"""`eidos fleet install`, `upgrade` and `uninstall`: a fleet into a cluster, kept up to date there, and out again."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from cli import install_options, interrupts, suggestions
from cli.fleet_options import is_flag
from cli.install_progress import Progress
from cli.terminal import is_terminal
from cli.text import colour_wanted
from common.errors import ClusterError, EidosError, UsageError

if TYPE_CHECKING:
    from common.fleet import FleetSnapshot
    from common.kube.target import Target
    from installer.settings import Settings
    from installer.workflow import Report

INSTALL_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet install
  eidos fleet install --overlay gpu-nodes --overlay ha
  eidos fleet install --agent-image reg.example/eidos:1.2 --aggregator-image reg.example/eidos-aggregator:1.2
  eidos fleet install --dry-run > fleet.yaml              what would be applied
"""

UPGRADE_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet upgrade --agent-image reg.example/eidos:1.3
  eidos fleet upgrade                                     to the manifests of this version of eidos
"""

UNINSTALL_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet uninstall
  eidos fleet uninstall --yes --context prod
"""

_STAYS: Final = "What has been made stays: run it again to go on, or remove it with eidos fleet uninstall."
_REMOVAL_SECONDS: Final = 120.0


@click.command("install", epilog=INSTALL_EXAMPLES)
@install_options.install_options
@install_options.timeout_option
@click.option("--dry-run", is_flag=True, help="Only write what would be applied, as YAML.")
@click.option("-o", "--output", metavar="REF", default="-", show_default=True, shell_complete=suggestions.a_file,
              help="Where --dry-run writes: - or stdout, or a file.")  # fmt: skip
def install(dry_run: bool, output: str, timeout: float, **flags: Any) -> None:
    """Install agents and an aggregator into a cluster, and wait until they work.

    Nothing is changed before it is clear that all of it may be. It may be repeated: what is there already is brought
    to what the flags say. Nodes whose agents do not come up are named, with the reason, and not waited for.
    """
    wanted = install_options.settings(flags)
    if dry_run:
        _write_objects(wanted, output)
        return
    if is_flag("output"):  # whoever wants a file does not want it applied
        raise UsageError("--output means nothing without --dry-run")
    cluster = install_options.target(flags)
    progress = Progress()

    async def work() -> "tuple[Report, FleetSnapshot | None]":
        async with progress.shown():
            report = await _install(cluster, wanted, progress, timeout)
            return report, await _first_run(flags, progress)

    report, document = interrupts.run(work)
    _summarise(report)
    if document is not None:
        _show(document)


@click.command("upgrade", epilog=UPGRADE_EXAMPLES)
@install_options.install_options
@install_options.timeout_option
def upgrade(timeout: float, **flags: Any) -> None:
    """Bring an installation to this version of eidos, and to what the flags say; the rest of its settings stays.

    The aggregator comes first. Agents follow, a tenth of the nodes at a time.
    """
    install_options.settings(flags)  # what makes no sense is refused before anybody is asked
    cluster = install_options.target(flags)
    progress = Progress()

    async def work() -> "Report":
        from common.kube.client import Kube
        from installer.settings import NAMESPACE
        from installer.workflow import locate, remembered

        async with Kube(cluster, deadline=time.monotonic() + timeout) as kube:
            namespace = flags["namespace"] or await locate(kube) or NAMESPACE
            before = await remembered(kube, namespace)
        async with progress.shown():
            return await _install(cluster, install_options.settings(flags, before), progress, timeout)

    report = interrupts.run(work)
    for change in report.changes:
        if change.effect.value != "unchanged":
            click.echo(str(change))
    if all(change.effect.value == "unchanged" for change in report.changes):
        click.echo("Nothing has changed.")
    _summarise(report)


@click.command("uninstall", epilog=UNINSTALL_EXAMPLES)
@click.option("--namespace", metavar="NAME", help="Where it is.  [default: wherever it is]")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@install_options.cluster_options
def uninstall(namespace: str | None, yes: bool, **flags: Any) -> None:
    """Remove an installation with all that it wrote, the published snapshot included, and nothing else."""
    if namespace is not None:
        from cli.job_values import check_namespace

        check_namespace(namespace, "--namespace")
    cluster = install_options.target(flags)
    progress = Progress()
    where = namespace or interrupts.run(lambda: _located(cluster))
    if not yes and is_terminal(sys.stdin):
        question = f"Remove Eidos from namespace {where} of {cluster.context or cluster.server}?"
        if not click.confirm(question):
            click.echo("Nothing was removed.")
            return
    removed = interrupts.run(lambda: _uninstall(cluster, where, progress))
    if not removed:
        click.echo(f"There is no installation in namespace {where}.")
    else:
        click.echo(f"Removed {len(removed)} objects from namespace {where} and the cluster.")


async def _install(cluster: "Target", wanted: "Settings", progress: Progress, seconds: float) -> "Report":
    from common.kube.client import Kube
    from installer.workflow import carry_out, prepare

    deadline = time.monotonic() + seconds
    async with Kube(cluster, deadline=deadline) as kube:
        plan = await prepare(kube, wanted, progress)
        try:
            report = await carry_out(kube, plan, progress, deadline)
        except ClusterError as error:
            raise ClusterError(error.code, error.message, f"{error.hint} {_STAYS}".strip()) from error
        except BaseException:
            progress.note(_STAYS)
            raise
        progress.finish()
        return report


async def _first_run(flags: dict[str, Any], progress: Progress) -> "FleetSnapshot | None":
    """What the fleet says first. That it cannot be asked is worth a warning: it is installed all the same."""
    from cli.install_run import take_through_cluster
    from common.fleet_api import RunBody

    try:
        return await take_through_cluster(flags, progress, RunBody())
    except EidosError as error:
        progress.note(f"the first run failed: {error}")
        return None


async def _uninstall(cluster: "Target", namespace: str, progress: Progress) -> list[str]:
    from common.kube.client import Kube
    from installer.removal import uninstall as remove

    async with Kube(cluster, deadline=time.monotonic() + _REMOVAL_SECONDS) as kube, progress.shown():
        try:
            removed = await remove(kube, namespace, progress, _REMOVAL_SECONDS)
        except asyncio.CancelledError:
            progress.note("a part may be left: run it again")
            raise
        progress.finish()
        return removed


async def _located(cluster: "Target") -> str:
    from common.kube.client import Kube
    from installer.settings import NAMESPACE
    from installer.workflow import locate

    async with Kube(cluster, deadline=time.monotonic() + _REMOVAL_SECONDS) as kube:
        return await locate(kube) or NAMESPACE


def _write_objects(wanted: "Settings", output: str) -> None:
    from common.refs import RefKind, parse_ref, write
    from installer.objects import as_yaml, build

    ref = parse_ref(output)
    if ref.kind is RefKind.CONFIGMAP:
        raise UsageError("manifests are not written to a ConfigMap", "Give a file, or - for standard output.")
    write(ref, as_yaml(build(wanted)).encode())


def _show(document: "FleetSnapshot") -> None:
    from cli.fleet_text import ledger, numbers

    colour = colour_wanted()
    click.echo("\n".join([*numbers(document, colour), "", *ledger(document.ledger, document.node_table, colour)]))


def _summarise(report: "Report") -> None:
    from cli.fleet_text import names
    from common.nodeset import fold_names

    agents = report.agents
    for why, nodes in agents.troubled.items():
        click.echo(f"Warning: {names(fold_names(nodes))} ({len(nodes)}): {why}", err=True)
    if agents.starting:
        folded = names(fold_names(agents.starting))
        click.echo(f"Warning: {folded} ({len(agents.starting)}): not ready yet", err=True)
    if not agents.desired:
        click.echo(
            "Warning: no node is chosen for agents: no node has the labels that --node-selector or an overlay wants",
            err=True,
        )
    click.echo(
        f"Eidos is installed in namespace {report.namespace}: {agents.ready} of {agents.desired} agents ready."
    )

"""`eidos fleet snapshot --ephemeral`: install, ask once, remove, for clusters that allow nothing resident."""

from typing import TYPE_CHECKING, Any

from cli import install_options, interrupts
from cli.fleet_options import is_flag
from cli.install_progress import Progress
from common.errors import EidosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.fleet import FleetSnapshot
    from common.fleet_api import RunBody


def check(flags: dict[str, Any]) -> None:
    """Raise UsageError for flags that contradict each other."""
    if flags["ephemeral"] and is_flag("server"):
        raise UsageError("--ephemeral makes an aggregator of its own", "Leave out --server.")
    given = install_options.given(flags) + (["--timeout"] if is_flag("timeout") else [])
    if given and not flags["ephemeral"]:
        raise UsageError(f"{given[0]} means nothing without --ephemeral")


def take(flags: dict[str, Any], body: "RunBody", tell: "Callable[[FleetSnapshot], None]") -> None:
    """Take the snapshot, remove everything, and `tell` the snapshot.

    Whatever becomes of the removal, what has been taken is told first. Raises EidosError and KeyboardInterrupt.
    """
    _check_run(body)
    wanted, cluster = install_options.settings(flags), install_options.target(flags)
    progress = Progress()
    taken: list[FleetSnapshot] = []

    async def work() -> None:
        from cli.install_run import take_through_cluster
        from installer.temporary import installed

        async with progress.shown():
            async with installed(cluster, wanted, progress, flags["timeout"]):
                taken.append(await take_through_cluster(flags, progress, body))
            progress.finish()

    left: list[EidosError] = []
    try:
        interrupts.run(work)
    except EidosError as error:
        left.append(error)
        raise
    finally:
        try:
            for document in taken:
                tell(document)
        except BaseException:  # it is raised instead of what is left, which nobody would say
            for trouble in left:
                progress.note(str(trouble))
            raise


def _check_run(body: "RunBody") -> None:
    """Raise UsageError for what the aggregator would refuse once it is installed."""
    from aggregator.selector import Selector
    from aggregator.settings import RunSettings

    Selector(body.nodes, body.labels).select(())
    if body.seconds is not None:
        RunSettings().check_deadline(body.seconds)

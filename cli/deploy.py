"""`eidos snapshot --deploy-agent`: one Job per context and namespace, side by side, each with its own output."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from agent.job.config import Config
from agent.job.workflow import Report
from cli import interrupts
from cli.job_progress import Progress, shown
from cli.text import aligned, colour_wanted, failure_lines, style
from common.errors import EidosError, UsageError
from common.refs import Ref, RefKind, check_writable, parse_ref, write

if TYPE_CHECKING:
    from common.kube.target import Target
    from common.model import Snapshot

_MOST_RUNS: Final = 64


@dataclass(slots=True)
class Run:
    """One Job to run, and what came of it."""

    context: str
    target: "Target"
    config: Config
    output: Ref
    observer: Progress
    report: Report | None = None
    error: EidosError | None = None

    @property
    def title(self) -> str:
        return f"{self.context or 'cluster'}/{self.config.namespace}"


def plan(
    contexts: Sequence[str],
    namespaces: Sequence[str],
    kubeconfig: str | None,
    output: str,
    config: Config,
    debug: bool,
) -> list[Run]:
    """One run per context and namespace. Raises UsageError when two of them would write to one place."""
    from common.kube.target import load_target

    places = [
        (context, namespace) for context in contexts or ("",) for namespace in namespaces or (config.namespace,)
    ]
    if len(places) > _MOST_RUNS:
        raise UsageError(f"{len(places)} runs at once are too many", f"Ask for at most {_MOST_RUNS}.")
    runs: list[Run] = []
    for context, namespace in places:
        target = load_target(kubeconfig, context or None)
        ref = parse_ref(_output_for(output, context or target.context, namespace, several=len(places) > 1))
        own = replace(config, namespace=namespace, output=str(ref) if ref.kind is RefKind.CONFIGMAP else "")
        if ref.kind is not RefKind.CONFIGMAP:
            check_writable(ref)
        run = Run(context or target.context, target, own, ref, Progress("", debug))
        run.observer.title = run.title
        runs.append(run)
    spots = [(str(run.output), run.target.server if run.output.kind is RefKind.CONFIGMAP else "") for run in runs]
    if len(set(spots)) < len(spots):
        raise UsageError(
            f"{len(runs)} snapshots cannot all be written to {output}",
            "Give a directory, or a name with {context} and {namespace} in it.",
        )
    return runs


def _output_for(output: str, context: str, namespace: str, several: bool) -> str:
    safe = context.replace("/", "_").replace(":", "_") or "cluster"
    if several and (output.endswith("/") or os.path.isdir(output)):
        return os.path.join(output, f"snapshot-{safe}-{namespace}.yaml")
    return output.replace("{context}", safe).replace("{namespace}", namespace)


def execute(runs: list[Run], render: "Callable[[Snapshot], bytes] | None", keep: bool) -> int:
    """Run them all, write what each brought, and return the exit status: the worst of them.

    `render` makes the output from the document; None writes it as the Job wrote it.
    """
    interrupts.run(lambda: _all(runs, render, keep))  # all has been cleaned up when it raises
    if len(runs) > 1:
        click.echo("\n".join(_summary(runs)), err=True)
    for run in runs:
        if run.error is not None and len(runs) == 1:
            raise run.error
    return max((run.error.exit_status for run in runs if run.error), default=0)


async def _all(runs: list[Run], render: "Callable[[Snapshot], bytes] | None", keep: bool) -> None:
    async with shown([run.observer for run in runs]):
        await asyncio.gather(*(_one(run, render, keep) for run in runs))


async def _one(run: Run, render: "Callable[[Snapshot], bytes] | None", keep: bool) -> None:
    from agent.job.workflow import run as run_job

    try:
        run.report = await run_job(run.target, run.config, run.observer, keep=keep)
        if run.output.kind is not RefKind.CONFIGMAP:
            write(run.output, _rendered(run.report, render))
    except EidosError as error:
        run.error = error
        run.observer.end("failed")
    else:
        for warning in _warnings(run.report):
            run.observer.warn(warning)
        run.observer.done(run.report, str(run.output))


def _rendered(report: Report, render: "Callable[[Snapshot], bytes] | None") -> bytes:
    if render is None:
        return report.snapshot
    from common.formats import load_snapshot

    return render(load_snapshot(report.snapshot, report.output))


def _warnings(report: Report) -> list[str]:
    """What failed on the node, as it says when it is read there. From the document's head: the rest is long."""
    head, found, _ = report.snapshot.partition(b"\nmeasurements:")
    if not found:  # stored in another format, in a ConfigMap, where the pod's log has the warnings
        return []
    from common.formats import load_snapshot

    return failure_lines(load_snapshot(head + b"\nmeasurements: []\n", report.output))


def _summary(runs: list[Run]) -> list[str]:
    colour = colour_wanted(sys.stderr)
    rows = [_row(run, colour) for run in runs]
    return list(aligned(rows, header=("CONTEXT", "NAMESPACE", "NODE", "RESULT", "SECONDS", "OUTPUT")))


def _row(run: Run, colour: bool) -> tuple[str, ...]:
    if run.report is None or run.error is not None:
        what = style("failed", colour, fg="red")
        return run.context, run.config.namespace, "", what, "", str(run.error or "")
    seconds = f"{sum(run.report.seconds.values()):.1f}"
    return (
        run.context,
        run.config.namespace,
        run.report.node,
        style("ok", colour, fg="green"),
        seconds,
        str(run.output),
    )

"""`eidos snapshot`: read this node and write what was read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import Duration, split_commas
from cli.progress import waiting
from common.model import Snapshot, State

if TYPE_CHECKING:
    from agent.collect import Answer
    from agent.host import Host
    from agent.oneshot import Request

EXAMPLES = """\
\b
Examples:
  eidos snapshot                                      YAML on standard output
  eidos snapshot -o node.json                         the file's name chooses the format
  eidos snapshot --format table --collectors gpu,os   for a person
  eidos snapshot --require-gpu -o gpu.yaml            fail where no GPU can be read
  eidos snapshot --systemd-units 'nvidia-*,kubelet.service'
  eidos snapshot --template report.j2                 rendered with Jinja

\b
Exit status: 0 written, 2 wrong use or the output cannot be written, 3 --require-gpu is not met.
"""


@click.command("snapshot", epilog=EXAMPLES)
@click.option("-o", "--output", metavar="REF", default="-", show_default=True,
              help="Where to write: - or stdout, a file, or cm://NAMESPACE/NAME.")  # fmt: skip
@click.option("-t", "--format", "output_format", type=click.Choice(["yaml", "json", "table"]),
              help="How to write it. Default: by the file's name, else yaml.")  # fmt: skip
@click.option("--collectors", metavar="NAMES", multiple=True,
              help="Only these collectors or measurement types, separated by commas.")  # fmt: skip
@click.option("--include-volatile", is_flag=True,
              help="Also facts that change by themselves: counters, temperatures, process ids.")  # fmt: skip
@click.option("--require-gpu", is_flag=True, help="Fail (exit status 3) unless GPUs could be read.")
@click.option("--systemd-units", metavar="UNITS", multiple=True,
              help="Units to read instead of containerd, docker and kubelet; shell patterns allowed.")  # fmt: skip
@click.option("--max-nodes-per-entry", type=click.IntRange(min=0), default=0, envvar="EIDOS_MAX_NODES_PER_ENTRY",
              show_default=True, metavar="N",
              help="Most node names in one NodeTopology entry; 0 for all.")  # fmt: skip
@click.option("--timeout", type=Duration(), default="30s", show_default=True, metavar="TIME",
              help="How long collecting may take, such as 10s or 2m.")  # fmt: skip
@click.option("--template", type=click.Path(path_type=Path), metavar="FILE",
              help="Render the snapshot with this Jinja template instead.")  # fmt: skip
@click.option("--kubeconfig", metavar="FILE", help="Kubeconfig for the Kubernetes collectors.")
@click.option("--context", "kube_context", metavar="NAME", help="Context within the kubeconfig.")
@click.option("--host-root", metavar="DIR", help="Where the host's / is mounted. Default: found by itself.")
@click.option("--debug", is_flag=True, help="Say on standard error how long each collector took.")
def command(
    output: str,
    output_format: str | None,
    collectors: tuple[str, ...],
    include_volatile: bool,
    require_gpu: bool,
    systemd_units: tuple[str, ...],
    max_nodes_per_entry: int,
    timeout: float,
    template: Path | None,
    kubeconfig: str | None,
    kube_context: str | None,
    host_root: str | None,
    debug: bool,
) -> None:
    """Read this node's configuration and write it as a Snapshot.

    Nothing is changed on the node. A source that cannot be read costs only its own facts: the snapshot says under
    `collection` what was read, what is absent and what failed, and why.
    """
    # Refused before anything is collected: a wrong reference or template must not cost the wait.
    from agent.collectors.base import DEFAULT_UNITS, Options
    from agent.oneshot import Request, find_host
    from common.refs import check_writable, parse_ref, write

    if template is not None and output_format is not None:
        raise click.UsageError("--template and --format exclude each other.")
    ref = parse_ref(output)
    check_writable(ref)
    renderer = _renderer(template, output_format or _format_of(output), on_terminal=output in ("-", "stdout"))
    request = Request(
        collectors=split_commas(collectors),
        options=Options(
            systemd_units=split_commas(systemd_units) or DEFAULT_UNITS,
            include_volatile=include_volatile,
            max_nodes_per_entry=max_nodes_per_entry,
            kubeconfig=kubeconfig,
            kube_context=kube_context,
        ),
        seconds=timeout,
    )
    document = _take(request, find_host(os.environ, host_root), debug)
    write(ref, renderer(document))
    _warn(document)
    if require_gpu:
        from agent.oneshot import require_gpu as check

        check(document)


def _take(request: "Request", host: "Host", debug: bool) -> Snapshot:
    from agent.collect import select
    from agent.collectors.registry import collectors
    from agent.oneshot import take

    names = [collector.name for collector in select(collectors(), request.collectors)]
    with waiting("collecting", names) as pending:

        def answered(answer: "Answer") -> None:
            pending.done(answer.collector.name)
            if debug:
                click.echo(f"{answer.collector.name}: {answer.collected.state} in {answer.seconds:.3f} s", err=True)

        return take(request, host, os.environ, answered)


def _format_of(output: str) -> str:
    return "json" if output.endswith(".json") else "yaml"


def _renderer(template: Path | None, output_format: str, on_terminal: bool) -> Callable[[Snapshot], bytes]:
    if template is not None:
        from cli.template import load_template

        return load_template(template)
    if output_format == "table":
        from cli.text import colour_wanted, snapshot_text

        colour = on_terminal and colour_wanted()
        return lambda document: ("\n".join(snapshot_text(document, colour)) + "\n").encode()
    from common.formats import Format, dump

    return lambda document: dump(document, Format(output_format))


def _warn(document: Snapshot) -> None:
    """Failures also go to standard error, where a person looks; what is absent is no failure."""
    for entry in document.collection:
        if entry.state is State.FAILED and entry.reason:
            what = f"{entry.type.value}.{entry.subtype}" if entry.subtype else f"collector {entry.collector}"
            click.echo(f"Warning: {what} failed ({entry.code}): {entry.reason}", err=True)

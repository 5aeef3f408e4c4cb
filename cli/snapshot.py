"""`eidos snapshot`: read this node, or a node of a cluster, and write what was read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import suggestions
from cli.job_options import job_options
from cli.options import Duration, refuse_empty, split_commas
from cli.progress import waiting
from cli.text import failure_lines
from common.model import Snapshot

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
  eidos snapshot --output cm://gpu-operator/eidos-snapshot
  eidos snapshot --deploy-agent --node-selector nvidia.com/gpu.present=true -o snap.yaml
  eidos snapshot --deploy-agent --context prod --context staging -o 'snap-{context}.yaml'

\b
Exit status: 0 written, 2 wrong use or the output cannot be written, 3 --require-gpu is not met, 4 trouble with the
cluster, 5 out of time, 130 interrupted.
"""


@click.command("snapshot", epilog=EXAMPLES)
@click.option("-o", "--output", metavar="REF", default="-", show_default=True, shell_complete=suggestions.a_file,
              help="Where to write: - or stdout, a file, or cm://NAMESPACE/NAME.")  # fmt: skip
@click.option("-t", "--format", "output_format", type=click.Choice(["yaml", "json", "table"]),
              help="How to write it. Default: by the file's name, else yaml.")  # fmt: skip
@click.option("--collectors", metavar="NAMES", multiple=True, shell_complete=suggestions.collectors,
              help="Only these collectors or measurement types, separated by commas.")  # fmt: skip
@click.option("--include-volatile", is_flag=True,
              help="Also facts that change by themselves: counters, temperatures, process ids.")  # fmt: skip
@click.option("--require-gpu", is_flag=True, help="Fail (exit status 3) unless GPUs could be read.")
@click.option("--systemd-units", metavar="UNITS", multiple=True,
              help="Units to read instead of containerd, docker and kubelet; shell patterns allowed.")  # fmt: skip
@click.option("--max-nodes-per-entry", type=click.IntRange(min=0), default=0, envvar="EIDOS_MAX_NODES_PER_ENTRY",
              show_default=True, metavar="N",
              help="Most node names in one NodeTopology entry; 0 for all.")  # fmt: skip
@click.option("--timeout", type=Duration(), metavar="TIME",
              help="How long it may take, such as 10s or 2m; with --deploy-agent all of it, of which collecting may "
                   "take half.  [default: 30s; 5m with --deploy-agent, and 30s of it for collecting]")  # fmt: skip
@click.option("--template", type=click.Path(path_type=Path), metavar="FILE",
              help="Render the snapshot with this Jinja template instead.")  # fmt: skip
@click.option("--kubeconfig", metavar="FILE", shell_complete=suggestions.a_file,
              help="Kubeconfig, instead of $KUBECONFIG or ~/.kube/config.")  # fmt: skip
@click.option("--context", "contexts", metavar="NAME", multiple=True, shell_complete=suggestions.contexts,
              help="Context within the kubeconfig; with --deploy-agent repeat for several clusters.")  # fmt: skip
@click.option("--host-root", metavar="DIR", help="Where the host's / is mounted. Default: found by itself.")
@click.option("--debug", is_flag=True, help="Say on standard error what is being done and how long it took.")
@job_options
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Read a node's configuration and write it as a Snapshot.

    Without --deploy-agent it reads the machine it runs on, and changes nothing there. A source that cannot be read
    costs only its own facts: the snapshot says under `collection` what was read, what is absent and what failed,
    and why.
    """
    # Refused before anything is collected: a wrong reference or template must not cost the wait.
    if flags["template"] is not None and flags["output_format"] is not None:
        raise click.UsageError("--template and --format exclude each other.")
    if flags["template"] is not None and flags["output"].startswith("cm://"):
        raise click.UsageError("--template and --output cm:// exclude each other: a ConfigMap holds snapshots.")
    refuse_empty("--collectors", flags["collectors"], "collector")
    if flags["deploy_agent"]:
        ctx.exit(_in_cluster(flags))
    _refuse_job_flags(ctx)
    if len(flags["contexts"]) > 1:
        raise click.UsageError("Several --context need --deploy-agent.")
    _here(flags)


def _refuse_job_flags(ctx: click.Context) -> None:
    from click.core import ParameterSource

    from cli.job_options import JOB_FLAGS

    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.opts[0] in JOB_FLAGS:
            off = option.secondary_opts and ctx.params[option.name or ""] is False
            name = option.secondary_opts[0] if off else option.opts[0]
            raise click.UsageError(f"{name} is about a Job in a cluster and needs --deploy-agent.")


def _here(flags: dict[str, Any]) -> None:
    from agent.collectors.base import DEFAULT_UNITS, Options
    from agent.oneshot import Request, find_host
    from common.excerpt import excerpt_of
    from common.kube.choice import ClusterChoice
    from common.refs import check_writable, parse_ref, write

    output, contexts = flags["output"], flags["contexts"]
    ref = parse_ref(output)
    cluster = ClusterChoice(flags["kubeconfig"], contexts[0] if contexts else None)
    check_writable(ref, cluster)
    renderer = _renderer(flags["template"], flags["output_format"] or _format_of(output), output in ("-", "stdout"))
    request = Request(
        collectors=split_commas(flags["collectors"]),
        options=Options(
            systemd_units=split_commas(flags["systemd_units"]) or DEFAULT_UNITS,
            include_volatile=flags["include_volatile"],
            max_nodes_per_entry=flags["max_nodes_per_entry"],
            kubeconfig=cluster.kubeconfig,
            kube_context=cluster.context,
        ),
        seconds=flags["timeout"] or 30.0,
    )
    document = _take(request, find_host(os.environ, flags["host_root"]), flags["debug"])
    write(ref, renderer(document), cluster, excerpt_of(document, renderer))
    for line in failure_lines(document):
        click.echo(f"Warning: {line}", err=True)
    if flags["require_gpu"]:
        from agent.oneshot import require_gpu

        require_gpu(document)


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


def _in_cluster(flags: dict[str, Any]) -> int:
    from agent.collect import select
    from agent.collectors.registry import collectors
    from cli.deploy import execute, plan
    from cli.job_options import job_config

    select(collectors(), split_commas(flags["collectors"]))  # a wrong name is said before there is a pod
    if flags["host_root"] is not None:
        raise click.UsageError("--host-root is about this machine and does not go with --deploy-agent.")
    output, chosen = flags["output"], flags["output_format"] or _format_of(flags["output"])
    render = None
    if flags["template"] is not None or chosen != "yaml":
        render = _renderer(flags["template"], chosen, output in ("-", "stdout"))
    config = job_config(flags, in_pod_format=chosen if output.startswith("cm://") else "yaml")
    runs = plan(flags["contexts"], flags["namespace"], flags["kubeconfig"], output, config, flags["debug"])
    return execute(runs, render, keep=flags["no_cleanup"])


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

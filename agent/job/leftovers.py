"""Names what a run may leave when its cleanup is cut short, without asking the cluster again."""

from agent.job.cleanup import command
from agent.job.config import CleanupOptions
from agent.job.names import Names
from agent.job.rbac import Wanted


def may_be_left(names: Names, wanted: list[Wanted], job: Wanted | None, options: CleanupOptions) -> str:
    """What the cleanup was removing, and the commands that remove it; empty where there was nothing.

    `wanted` is everything but the Job, the namespace first.
    """
    items = [job] if job and job.tried else []
    commands = {str(item): command(item) for item in items}
    if items and names.own_output:
        where, name = names.output_namespace, names.output_name
        commands[f"ConfigMap {where}/{name}"] = f"delete configmap {name} -n {where}"
    if options.rbac or names.own_rbac:
        commands |= {str(item): command(item) for item in wanted[1:] if item.tried or item.ours}
    commands |= {str(item): command(item) for item in wanted[:1] if options.rbac and (item.tried or item.temporary)}
    if not commands:
        return ""
    told = "; ".join(f"kubectl {line} --ignore-not-found" for line in commands.values())
    return f"perhaps left behind: {', '.join(commands)}. Remove with: {told}."

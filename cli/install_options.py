"""The flags of what installs a fleet into a cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cli import suggestions
from cli.options import Duration, refuse_empty, split_commas

if TYPE_CHECKING:
    from common.kube.target import Target
    from installer.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

_CLUSTER: Final = (
    click.option("--kubeconfig", metavar="FILE", shell_complete=suggestions.a_file,
                 help="Which kubeconfig to use.  [default: as kubectl does]"),
    click.option("--context", metavar="NAME", shell_complete=suggestions.contexts, help="Which context of it."),
)  # fmt: skip

_INSTALL: Final = (
    click.option("--namespace", metavar="NAME", help="Where it is or goes.  [default: eidos]"),
    click.option("--agent-image", metavar="REF", help="Image of the agents."),
    click.option("--aggregator-image", metavar="REF", help="Image of the aggregator."),
    click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]),
                 help="When images are pulled.  [default: IfNotPresent]"),
    click.option("--image-pull-secret", metavar="NAME", multiple=True, help="Secret for the registry; repeatable."),
    click.option("--overlay", metavar="NAME", multiple=True, shell_complete=suggestions.overlays,
                 help="cert-manager, gpu-nodes, ha, restricted, service-monitor or talos; repeatable."),
    click.option("--node-selector", metavar="KEY=VALUE", multiple=True,
                 help="Only nodes with this label are the fleet; repeatable."),
)  # fmt: skip

_TIMEOUT: Final = click.option("--timeout", type=Duration(), default="5m", show_default=True, metavar="TIME",
                               help="How long to wait until it works.")  # fmt: skip


def cluster_options(function: F) -> F:
    """Which cluster."""
    for option in reversed(_CLUSTER):
        function = option(function)
    return function


def install_options(function: F) -> F:
    """What is installed, and where."""
    return what_options(cluster_options(function))


def what_options(function: F) -> F:
    """What is installed, for commands that name the cluster themselves."""
    for option in reversed(_INSTALL):
        function = option(function)
    return function


def given(flags: dict[str, Any]) -> list[str]:
    """The flags of `what_options` that were given, as they are written."""
    names = ("namespace", "agent_image", "aggregator_image", "image_pull_policy", "image_pull_secret", "overlay",
             "node_selector")  # fmt: skip
    return [f"--{name.replace('_', '-')}" for name in names if flags[name] not in (None, ())]


timeout_option = _TIMEOUT


def settings(flags: dict[str, Any], before: "Settings | None" = None) -> "Settings":
    """What the flags say; what they do not say stays as `before`. Raises UsageError."""
    from msgspec.structs import replace

    from cli.job_options import parse_labels
    from cli.job_values import check_image, check_name, check_namespace
    from installer.settings import Settings

    for flag in ("agent_image", "aggregator_image"):
        if flags[flag] is not None:
            check_image(flags[flag], f"--{flag.replace('_', '-')}")
    if flags["namespace"] is not None:
        check_namespace(flags["namespace"], "--namespace")
    refuse_empty("--node-selector", flags["node_selector"], "label")
    refuse_empty("--overlay", flags["overlay"], "overlay", "Name one, or leave the flag out.")
    for secret in flags["image_pull_secret"]:
        check_name(secret, "--image-pull-secret")
    said = {
        "namespace": flags["namespace"],
        "agent_image": flags["agent_image"],
        "aggregator_image": flags["aggregator_image"],
        "image_pull_policy": flags["image_pull_policy"],
        "image_pull_secrets": flags["image_pull_secret"],
        "overlays": split_commas(flags["overlay"]),
        "node_selector": parse_labels(flags["node_selector"], "--node-selector"),
    }
    return replace(before or Settings(), **{name: value for name, value in said.items() if value})


def target(flags: dict[str, Any]) -> "Target":
    """The cluster the flags name. Raises UsageError when there is none, or what speaks to one is not installed."""
    from common.errors import UsageError
    from common.kube.choice import NOT_INSTALLED, installed
    from common.kube.target import load_target

    if not installed():
        raise UsageError(NOT_INSTALLED, "Install it: pip install 'eidos[kubernetes]'.")
    return load_target(flags["kubeconfig"], flags["context"])

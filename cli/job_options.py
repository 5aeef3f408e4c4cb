"""The flags of `eidos snapshot --deploy-agent`, of both documented generations, and what they mean."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from common.errors import UsageError

if TYPE_CHECKING:
    from agent.job.config import Config, Toleration

F = TypeVar("F", bound=Callable[..., Any])

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_OPTIONS: Final = (
    click.option("--deploy-agent", is_flag=True, help="Run as a Job in a cluster instead of on this machine."),
    click.option("--namespace", metavar="NAME", multiple=True,
                 help="Namespace of the Job; repeat for several.  [default: gpu-operator]"),
    click.option("--image", metavar="REF", help="Image of the Job.  [default: ghcr.io/nvidia/eidos:latest]"),
    click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]),
                 help="When the image is pulled.  [default: IfNotPresent]"),
    click.option("--image-pull-secret", metavar="NAME", multiple=True, help="Secret for the registry; repeatable."),
    click.option("--job-name", metavar="NAME", help="Name of the Job.  [default: eidos]"),
    click.option("--unique-name", is_flag=True, help="Add a random ending to the Job's name."),
    click.option("--service-account-name", metavar="NAME", help="ServiceAccount of the Job.  [default: eidos]"),
    click.option("--node-selector", metavar="KEY=VALUE", multiple=True,
                 help="Only nodes with this label; repeatable."),
    click.option("--toleration", metavar="KEY[=VALUE][:EFFECT]", multiple=True,
                 help="Tolerate only these taints; repeatable.  [default: all taints]"),
    click.option("--cleanup-rbac", is_flag=True, help="Also remove the RBAC objects Eidos made when done."),
    click.option("--no-cleanup", is_flag=True, help="Leave everything in the cluster for debugging."),
    click.option("--privileged/--no-privileged", default=None,
                 help="Root with the host's files, or fit for PSS restricted.  [default: privileged]"),
    click.option("--runtime-class", metavar="NAME", help="RuntimeClass of the pod; makes all GPUs visible in it."),
    click.option("--os", "node_os", type=click.Choice(["amazonlinux", "cos", "rhel", "talos", "ubuntu"]),
                 help="Operating system of the nodes. It is found out anyway: what one lacks, as Talos systemd, "
                      "is absent in the snapshot."),
    click.option("--requests", metavar="NAME=AMOUNT", multiple=True, help="Container requests, such as cpu=200m."),
    click.option("--limits", metavar="NAME=AMOUNT", multiple=True, help="Container limits, such as memory=1Gi."),
)  # fmt: skip


def job_options(function: F) -> F:
    """Add the flags, in the order of the list."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def parse_pairs(values: tuple[str, ...], flag: str) -> dict[str, str]:
    """`key=value` of a repeatable flag, parts separated by commas too. Raises UsageError, for two of a key too."""
    pairs: dict[str, str] = {}
    for part in (part.strip() for value in values for part in value.split(",")):
        key, equals, text = part.partition("=")
        if not key or not equals:
            raise UsageError(f"{flag} {part!r} is not KEY=VALUE")
        if pairs.setdefault(key, text) != text:
            raise UsageError(f"{flag} says {key}={pairs[key]} and {key}={text}", "Give one of them.")
    return pairs


def parse_toleration(text: str) -> "Toleration":
    """`key=value:effect`, `key:effect`, `key=value` or `key`; without a value any value is tolerated."""
    from agent.job.config import Toleration

    rest, colon, effect = text.rpartition(":")
    if not colon:
        rest, effect = text, ""
    key, equals, value = rest.partition("=")
    if not key or (colon and effect not in _EFFECTS):
        raise UsageError(
            f"--toleration {text!r} is not KEY[=VALUE][:EFFECT]", f"EFFECT is one of {', '.join(_EFFECTS)}."
        )
    return Toleration(key, "Equal" if equals else "Exists", value, effect)


JOB_FLAGS: Final = frozenset(
    (
        "--namespace",
        "--image",
        "--image-pull-policy",
        "--image-pull-secret",
        "--job-name",
        "--unique-name",
        "--service-account-name",
        "--node-selector",
        "--toleration",
        "--cleanup-rbac",
        "--no-cleanup",
        "--privileged",
        "--runtime-class",
        "--os",
        "--requests",
        "--limits",
    )
)
"""The flags that mean nothing without --deploy-agent."""


def job_config(flags: dict[str, Any], in_pod_format: str) -> "Config":
    """The Job the flags describe; what is not given keeps the documented default. Raises UsageError."""
    from agent.job.config import Config, Toleration
    from cli.job_values import check_label

    _check(flags)
    given = {
        "image": flags["image"],
        "image_pull_policy": flags["image_pull_policy"],
        "job_name": flags["job_name"],
        "service_account_name": flags["service_account_name"],
        "privileged": flags["privileged"],
        "runtime_class_name": flags["runtime_class"],
        "os": flags["node_os"],
        "seconds": flags["timeout"],
    }
    tolerations = tuple(parse_toleration(text) for text in flags["toleration"])
    for toleration in tolerations:
        check_label(toleration.key, toleration.value, "--toleration")
    requests, limits = (_amounts(flags[name], f"--{name}") for name in ("requests", "limits"))
    return Config(
        **{name: value for name, value in given.items() if value is not None},
        image_pull_secrets=flags["image_pull_secret"],
        node_selector=parse_labels(flags["node_selector"], "--node-selector"),
        tolerations=tolerations or (Toleration(),),
        unique_name=flags["unique_name"],
        cleanup_rbac=flags["cleanup_rbac"],
        debug=flags["debug"],
        require_gpu=flags["require_gpu"],
        max_nodes_per_entry=flags["max_nodes_per_entry"],
        requests=requests or None,
        limits=limits or None,
        extra_arguments=_passed_on(flags, in_pod_format),
    )


def _check(flags: dict[str, Any]) -> None:
    """What the API server would refuse, when half of it is made. Raises UsageError."""
    from cli.job_values import check_image, check_job_name, check_name, check_namespace

    if flags["no_cleanup"] and flags["cleanup_rbac"]:
        raise UsageError(
            "--no-cleanup and --cleanup-rbac contradict each other",
            "Leave everything, or remove the RBAC objects too.",
        )
    for namespace in flags["namespace"]:
        check_namespace(namespace, "--namespace")
    if flags["job_name"] is not None:
        check_job_name(flags["job_name"], "--job-name")
    for name in ("service_account_name", "runtime_class"):
        if flags[name] is not None:
            check_name(flags[name], f"--{name.replace('_', '-')}")
    for secret in flags["image_pull_secret"]:
        check_name(secret, "--image-pull-secret")
    if flags["image"] is not None:
        check_image(flags["image"], "--image")


def parse_labels(values: tuple[str, ...], flag: str) -> dict[str, str]:
    """As `parse_pairs`, each of them a label. Raises UsageError."""
    from cli.job_values import check_label

    pairs = parse_pairs(values, flag)
    for key, value in pairs.items():
        check_label(key, value, flag)
    return pairs


def _amounts(values: tuple[str, ...], flag: str) -> dict[str, str]:
    from cli.job_values import check_amounts

    pairs = parse_pairs(values, flag)
    check_amounts(pairs, flag)
    return pairs


def _passed_on(flags: dict[str, Any], in_pod_format: str) -> tuple[str, ...]:
    arguments = [f"--collectors={value}" for value in flags["collectors"]]
    arguments += [f"--systemd-units={value}" for value in flags["systemd_units"]]
    arguments += ["--include-volatile"] if flags["include_volatile"] else []
    # The rest is for the pod to start; what has not answered by then is said to be late in a snapshot that does come.
    arguments += [f"--timeout={flags['timeout'] / 2:.3f}s"] if flags["timeout"] else []
    arguments += [f"--format={in_pod_format}"] if in_pod_format != "yaml" else []
    return tuple(arguments)

"""What the shell offers where an option takes a name or a file: the functions click calls on the Tab key.

They say nothing instead of failing: an error message in the middle of a command line helps nobody.
"""

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def a_file(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Whatever the shell finds among files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def collectors(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Collectors and measurement types, for each part between commas; those named already are not offered."""
    from agent.collectors import registry

    known = {name for c in registry.collectors() for name in (c.name, c.type.value.lower())}
    return _parts(sorted(known), incomplete)


def contexts(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The contexts of the kubeconfig that the command would read."""
    from common.errors import EidosError
    from common.kube.choice import kubeconfig_paths
    from common.kube.kubeconfig import read_kubeconfig

    try:
        files = read_kubeconfig(kubeconfig_paths(ctx.params.get("kubeconfig"), os.environ))
    except EidosError:
        return []
    return sorted(name for name in files.contexts if name.startswith(incomplete))


def overlays(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """What can be added to the manifests of a fleet, for each part between commas."""
    from installer import rendering

    return _parts(rendering.overlays(), incomplete)


def _parts(known: list[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    given = set(before.split(","))
    return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in given]

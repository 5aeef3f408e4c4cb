"""`eidos explain`: what a key is, where it is read, and how it behaves."""

import re
from typing import Final

import click

from cli.text import colour_wanted, style
from common.errors import UsageError
from common.model import MeasurementType

EXAMPLES: Final = """\
\b
Examples:
  eidos explain /proc/sys/vm/swappiness                or vm.swappiness
  eidos explain GPU.smi.driver
  eidos explain SystemD.kubelet.service.MemoryMax
  eidos explain 'OS.sysctl'
"""

_UNIT: Final = re.compile(
    r"(.+?\.(?:service|socket|device|mount|automount|swap|target|path|timer|slice|scope))(?:\.(.*))?", re.DOTALL
)
_SYSCTL_TREES: Final = frozenset(("abi", "crypto", "debug", "dev", "fs", "kernel", "net", "user", "vm"))


def parse_key(text: str) -> tuple[MeasurementType, str, str]:
    """Split `Type.subtype.key`; a path below /proc/sys alone is an OS.sysctl key. Key and subtype may be empty."""
    if text.startswith("/proc/sys/"):
        return MeasurementType.OS, "sysctl", text
    name, _, rest = text.partition(".")
    if name in _SYSCTL_TREES and rest:  # as sysctl(8) writes it
        return MeasurementType.OS, "sysctl", "/proc/sys/" + text.replace(".", "/")
    kind = next((kind for kind in MeasurementType if kind.value.lower() == name.lower()), None)
    if kind is None:
        raise UsageError(
            f"{text!r} names no measurement type",
            f"Write Type.subtype.key, where Type is one of {', '.join(kind.value for kind in MeasurementType)}.",
        )
    if kind is MeasurementType.SYSTEMD and (unit := _UNIT.fullmatch(rest)):
        return kind, unit[1], unit[2] or ""
    subtype, _, key = rest.partition(".")
    return kind, subtype, key


@click.command("explain", epilog=EXAMPLES)
@click.argument("key", metavar="KEY")
@click.option(
    "-t", "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(key: str, output_format: str) -> None:
    """Say what KEY is, where it is read and how it behaves.

    KEY is Type.subtype.key as in a snapshot and in `eidos diff`; the key, or subtype and key, may be left out.
    """
    from common.keys import explain

    kind, subtype, name = parse_key(key)
    explanation = explain(kind.value, subtype, name)
    if explanation is None:
        raise UsageError(f"nothing is known of {key!r}", "See docs/snapshot-format.md for the subtypes there are.")
    if output_format == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(explanation)).decode())
        return
    colour = colour_wanted()
    click.echo(style(".".join(part for part in (kind.value, subtype, name) if part), colour, bold=True))
    click.echo(f"  what    {explanation.what}")
    click.echo(f"  source  {explanation.source}")
    click.echo(f"  class   {explanation.stability.value}: {explanation.why}")

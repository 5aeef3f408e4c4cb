"""Prints docs/cli.md from the command itself; tests/cli/test_reference.py fails when the file is stale."""

from collections.abc import Iterator

import click

from cli.main import cli

HEADER = """\
# Command reference

Generated from the commands themselves by `make docs`; do not edit.
"""


def reference() -> str:
    """The whole page."""
    return HEADER + "".join(_sections(cli, "eidos"))


def _sections(command: click.Command, path: str) -> Iterator[str]:
    ctx = click.Context(command, info_name=path, terminal_width=100, max_content_width=100, color=False,
                        help_option_names=["-h", "--help"])  # fmt: skip
    yield f"\n## {path}\n\n```\n{command.get_help(ctx).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None:
                yield from _sections(child, f"{path} {name}")


if __name__ == "__main__":
    click.echo(reference(), nl=False)

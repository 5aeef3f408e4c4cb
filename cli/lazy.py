"""A group whose commands live in modules that are imported when called: help costs click and nothing else."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class ReaderGoneError(Exception):
    """Nobody reads our output any more, as in `eidos fleet nodes | head`.

    No OSError, because click turns a broken pipe into exit status 1.
    """


class LazyGroup(click.Group):
    """`table` says by name where a command is (`module`, or `module:name` when it is not `command` there) and what
    it does, in one line for the overview.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name][0].partition(":")
        command = getattr(import_module(module), name or "command")
        assert isinstance(command, click.Command)  # noqa: S101 - a module that breaks this is a defect
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._table.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Raises ReaderGoneError: help is written from here."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def invoke(self, ctx: click.Context) -> Any:
        """Raises ReaderGoneError."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = _nearest(args[0], list(self._table))
            if not near:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near!r}?", ctx) from error


def _nearest(word: str, names: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, names, n=1)), None)

"""Option types and shapes that several commands share."""

from typing import Any

import click

from common.errors import UsageError


class Duration(click.ParamType[float]):
    """A time such as 30s, 5m, 1h30m or plain seconds; seconds as a float for the program."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from common.errors import EidosError
        from common.settings import parse_duration

        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(str(value))
        except EidosError as error:
            self.fail(str(error), param, ctx)


class Text(click.ParamType[str]):
    """What is sent to somebody else, who takes UTF-8 only. Names of files may be any bytes and are no such text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        given = str(value).encode(errors="surrogateescape")
        try:
            return given.decode()
        except UnicodeDecodeError:
            self.fail(f"{given.decode(errors='backslashreplace')} is not text: it must be UTF-8.", param, ctx)


def split_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """A repeatable option whose values may hold several parts separated by commas; empty parts are dropped."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def refuse_empty(
    flag: str, given: str | tuple[str, ...] | None, noun: str, hint: str = "Leave the flag out for all of them."
) -> None:
    """Raise UsageError for a flag that was given and names nothing.

    What fills it in, a query for one, may have found nothing, and that must not mean everything.
    """
    values = (given,) if isinstance(given, str) else given
    if values and not split_commas(values):
        raise UsageError(f"{flag} names no {noun}", hint)

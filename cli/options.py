"""Option types and shapes that several commands share."""

from typing import Any

import click


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


def split_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """A repeatable option whose values may hold several parts separated by commas; empty parts are dropped."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())

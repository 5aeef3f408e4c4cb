"""`eidos version`."""

import click

from common.version import SCHEMA, VERSION


@click.command("version")
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(output_format: str) -> None:
    """Print the version of Eidos and of what it writes."""
    from common.model import API_VERSION

    if output_format == "json":
        import json

        click.echo(json.dumps({"version": VERSION, "apiVersion": API_VERSION, "schema": SCHEMA}))
    else:
        click.echo(f"eidos {VERSION} (writes {API_VERSION}, schema {SCHEMA})")

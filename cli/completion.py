"""`eidos completion`: the completion script of a shell."""

import click

EXAMPLES = """\
\b
Examples:
  eidos completion bash > /etc/bash_completion.d/eidos
  eidos completion zsh > "${fpath[1]}/_eidos"
  eidos completion fish > ~/.config/fish/completions/eidos.fish
"""


@click.command("completion", epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL on standard output."""
    from click.shell_completion import get_completion_class

    from cli.main import cli

    completion = get_completion_class(shell)
    if completion is None:  # click knows all three; its type does not say so
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(completion(cli, {}, "eidos", "_EIDOS_COMPLETE").source())

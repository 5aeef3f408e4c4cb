"""The command: the list of commands, and how errors and interrupts end the program.

Commands are imported when they are called, so that `eidos --help` costs click and nothing else.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, Final

import click

from cli.lazy import LazyGroup, ReaderGoneError
from common.errors import EidosError, OutputError
from common.version import VERSION

_COMMANDS: Final = {
    # name: (module, one line for the overview, so that help need not import the module)
    "snapshot": ("cli.snapshot", "Read this node's configuration and write it as a Snapshot."),
    "diff": ("cli.diff", "Compare two snapshots fact by fact."),
    "explain": ("cli.explain", "Say what a key is, where it is read and how it behaves."),
    "fleet": ("cli.fleet", "Every node in one snapshot: ask an aggregator, or try a fleet on this machine."),
    "completion": ("cli.completion", "Print the completion script for a shell."),
    "version": ("cli.version", "Print the version."),
}

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_READER_GONE: Final = 141  # as a shell tells of a program that SIGPIPE ended, which is quiet too
_INTERNAL_ERROR: Final = 70  # EX_SOFTWARE of sysexits.h

EXAMPLES: Final = """\
\b
Examples:
  eidos snapshot                              this machine, as YAML on standard output
  eidos snapshot --output before.yaml         into a file, atomically
  eidos diff before.yaml after.yaml           what changed, and nothing else
  eidos explain /proc/sys/vm/swappiness       what a key is and how it behaves
  eidos fleet snapshot --server URL           every node of a fleet, folded
  eidos fleet demo                            a fleet of processes on this machine
"""


@click.group(
    cls=LazyGroup, table=_COMMANDS, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(VERSION, prog_name="eidos", message="%(prog)s %(version)s")
def cli() -> None:
    """Show how a node is configured, and what changed.

    Exit status: 0 done (for diff: no drift, or --fail-on-drift not given), 1 drift, 2 wrong use, unreadable input
    or unwritable output, 3 a requirement such as --require-gpu is not met, 4 trouble with the cluster or the fleet,
    5 out of time, 70 a defect in Eidos, 130 interrupted, 141 whoever read the output has gone.
    """


def run(arguments: list[str] | None = None, name: str = "eidos") -> int:
    """Run the command and return its exit status. Errors are a sentence on standard error, never a traceback."""
    try:
        status: Any = cli.main(args=arguments, prog_name=name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except EidosError as error:
        if isinstance(error, OutputError) and isinstance(error.__cause__, BrokenPipeError):
            return _READER_GONE
        _say(str(error))
        return error.exit_status
    except (ReaderGoneError, BrokenPipeError):
        _abandon_stdout()
        return _READER_GONE
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
            # Whatever is read or written otherwise has errors of its own: this is help or a line on its way out.
            from common.file_output import stream_error

            _abandon_stdout()
            _say(str(stream_error(error)))
            return 2
        if os.environ.get("EIDOS_DEBUG"):
            raise
        _say(f"internal error: {type(error).__name__}: {error}. Set EIDOS_DEBUG=1 for details, and please report it")
        return _INTERNAL_ERROR


def _abandon_stdout() -> None:
    """Python must not try to write the rest, and complain, at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    from cli.text import colour_wanted, style

    ending = "" if message.endswith(("?", "!", "\n")) else "."  # what ends in lines of a log is no sentence
    message = message.rstrip("\n") if message.endswith("\n") else message.rstrip(".")
    with suppress(BrokenPipeError):  # the status still says it
        click.echo(
            f"{style('Error', colour_wanted(sys.stderr), fg='red', bold=True)}: {message}{ending}",
            err=True,
        )

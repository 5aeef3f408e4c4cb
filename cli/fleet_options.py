"""The flags of the `eidos fleet` commands: which aggregator, and where results go."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cli import suggestions
from cli.options import Text
from cli.terminal import is_terminal
from common.errors import UsageError

if TYPE_CHECKING:
    from cli.fleet_transport import ClusterConnection, Connection

F = TypeVar("F", bound=Callable[..., Any])

_MOST_FILE: Final = 1 << 20

_SERVER: Final = (
    click.option("--context", metavar="NAME", shell_complete=suggestions.contexts,
                 help="The fleet of this context's cluster, asked through its API."),
    click.option("--kubeconfig", metavar="FILE", shell_complete=suggestions.a_file,
                 help="Which kubeconfig to use.  [default: as kubectl does]"),
    click.option("--server", type=Text(), metavar="URL", envvar="EIDOS_SERVER",
                 help="An aggregator by its address, instead of a cluster's.  [env: EIDOS_SERVER]"),
    click.option("--ca", metavar="FILE", envvar="EIDOS_CA_FILE", shell_complete=suggestions.a_file,
                 help="Certificates to trust it by, instead of the system's.  [env: EIDOS_CA_FILE]"),
    click.option("--token-file", metavar="FILE", envvar="EIDOS_TOKEN_FILE", shell_complete=suggestions.a_file,
                 help="The user's token.  [env: EIDOS_TOKEN_FILE]"),
)  # fmt: skip

_OUTPUT: Final = click.option("-o", "--output", metavar="REF", default="-", show_default=True,
                              shell_complete=suggestions.a_file,
                              help="Where to write: - or stdout, a file, or cm://NAMESPACE/NAME.")  # fmt: skip


def fleet_options(function: F) -> F:
    """The flags of a command that asks an aggregator and shows it; `connection` and `Target` say what they mean."""
    return _options(function, "a table")


def document_options(function: F) -> F:
    """The same for a command whose output is a document that other programs take: `Target` of `piped="yaml"`."""
    return _options(function, "a table on a terminal, YAML in a pipe")


def _options(function: F, shown: str) -> F:
    how = click.option(
        "-t", "--format", "output_format", type=click.Choice(["table", "yaml", "json"]),
        help=f"How to write it.  [default: {shown}, into a file YAML or JSON by its name]",
    )  # fmt: skip
    for option in reversed((*_SERVER, _OUTPUT, how)):
        function = option(function)
    return function


def server_options(function: F) -> F:
    """The flags that say which aggregator, for a command that writes no document."""
    for option in reversed(_SERVER):
        function = option(function)
    return function


def connection(flags: dict[str, Any]) -> "Connection | ClusterConnection":
    """What the flags say: one aggregator by its address, or that of a cluster as kubectl would choose it.

    Raises UsageError, and InputError when a file cannot be read.
    """
    from cli.fleet_transport import ClusterConnection, Connection

    if not flags["server"] or flags["kubeconfig"] or flags["context"]:
        for flag in ("ca", "token_file"):
            if is_flag(flag):
                # Passed over, it would be the kubeconfig's user who asks.
                raise UsageError(
                    f"--{flag.replace('_', '-')} is about an aggregator by its address and needs --server"
                )
    if flags["kubeconfig"] or flags["context"]:
        if flags["server"] and is_flag("server"):
            raise UsageError("--server names an aggregator, --context and --kubeconfig a cluster: give one of them")
        return ClusterConnection(flags["kubeconfig"], flags["context"])
    if not flags["server"] and _has_cluster():
        return ClusterConnection()
    return Connection(
        _url(flags["server"] or ""),
        _certificates(flags["ca"]) if flags["ca"] else "",
        _token(flags["token_file"]) if flags["token_file"] else "",
    )


def is_flag(name: str) -> bool:
    """Whether it was given on the command line, rather than by the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _has_cluster() -> bool:
    """Whether kubectl would find one here, and what speaks to it is installed."""
    from common.kube.choice import configured, installed

    return installed() and configured(None, os.environ)


def _why_no_cluster() -> str:
    from common.kube.choice import NOT_INSTALLED, configured, listed_in_vain

    if configured(None, os.environ):
        return NOT_INSTALLED
    return listed_in_vain(os.environ) or "there is no kubeconfig"


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    if not text:
        raise UsageError(
            f"no aggregator is named, and {_why_no_cluster()}",
            "Give --context, --server or EIDOS_SERVER, or start one: eidos fleet demo --keep.",
        )
    address = text.rstrip("/") if "://" in text else f"https://{text.rstrip('/')}"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises when it is no number
        (parts.hostname or "").encode("idna")  # raises where a label is empty or longer than 63 letters
    except ValueError:
        parts = None
    if parts is not None and parts.scheme == "http":
        raise UsageError(f"{text!r} is not https", "A token is sent over TLS only.")
    if parts is None or parts.scheme != "https" or not _is_host(parts.hostname) or parts.username or parts.query:
        raise UsageError(f"{text!r} is no address of an aggregator", "Write it as https://host:port.")
    return address


def _is_host(name: str | None) -> bool:
    return bool(name) and not any(letter.isspace() for letter in name or "")


def _certificates(path: str) -> str:
    text = _read(path, "ascii")
    if "-----BEGIN" not in text:  # an empty file would mean those that the system trusts
        raise UsageError(f"{path} holds no certificate in PEM")
    return text


def _token(path: str) -> str:
    token = _read(path, "ascii").strip()
    if not token or not token.isprintable() or " " in token:
        raise UsageError(f"{path} holds no token", "A token is one word.")
    return token


def _read(path: str, encoding: str) -> str:
    from common.refs import Ref, RefKind, read

    try:
        return read(Ref(RefKind.FILE, path=path), _MOST_FILE).decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text") from error


class Target:
    """Where a command's result goes and how; refuses at once what could not be written in the end."""

    def __init__(self, flags: dict[str, Any], piped: str = "table") -> None:
        """`piped` is the format on standard output that is no terminal, unless one is asked for."""
        from common.refs import RefKind, check_writable, parse_ref

        self._ref = parse_ref(flags["output"])
        on_stdout = self._ref.kind is RefKind.STREAM
        named = "json" if flags["output"].endswith(".json") else "yaml"
        shown = "table" if is_terminal(sys.stdout) else piped
        self.format: str = flags["output_format"] or (shown if on_stdout else named)
        self._on_stdout = on_stdout
        check_writable(self._ref)

    @property
    def is_table(self) -> bool:
        """Whether it is for a person."""
        return self.format == "table"

    def write(self, value: object) -> None:
        """As YAML or JSON. Raises OutputError."""
        from common.formats import Format, dump_plain
        from common.refs import write

        write(self._ref, dump_plain(value, Format(self.format)))

    def write_lines(self, lines: Callable[[bool], Iterable[str]]) -> None:
        """As text; `lines` is told whether to colour. Raises OutputError."""
        from cli.text import colour_wanted
        from common.refs import write

        write(self._ref, ("\n".join(lines(self._on_stdout and colour_wanted())) + "\n").encode())

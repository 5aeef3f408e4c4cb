"""Where documents come from and results go: `-`, a file, or `cm://namespace/name`.

A file is written whole or not at all: to a new file beside it, which then takes its place. What cannot be replaced
so (a pipe, a device, a descriptor such as /dev/stderr) is written as it is.
"""

import os
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from common.document import MOST_BYTES
from common.errors import Code, InputError, UsageError
from common.file_output import check_file, write_file, write_stream
from common.kube.choice import ClusterChoice

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAMESPACE: Final = re.compile(_LABEL)
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MOST_NAMESPACE: Final = 63  # a DNS-1123 label
_MOST_NAME: Final = 253  # a DNS-1123 subdomain


class RefKind(StrEnum):
    """What a reference points to."""

    STREAM = "stream"
    FILE = "file"
    CONFIGMAP = "configmap"


class Ref(NamedTuple):
    """A place to read from or write to; str() gives it as the user writes it."""

    kind: RefKind
    path: str = ""
    """Of a file."""
    namespace: str = ""
    """Of a ConfigMap."""
    name: str = ""
    """Of a ConfigMap."""

    def __str__(self) -> str:
        if self.kind is RefKind.CONFIGMAP:
            return f"cm://{self.namespace}/{self.name}"
        return self.path if self.kind is RefKind.FILE else "-"


def parse_ref(text: str) -> Ref:
    """The reference a user wrote. Raises UsageError on an empty one, another scheme or a name Kubernetes refuses."""
    if text in ("-", "stdout", "/dev/stdout"):
        return Ref(RefKind.STREAM)
    if text.startswith("cm://"):
        return _parse_configmap(text)
    if scheme := _SCHEME.match(text):
        raise UsageError(
            f"{text!r} has the scheme {scheme[0]!r}, which is not known",
            "Use -, a file, or cm://NAMESPACE/NAME; a file of that name is ./" + text + ".",
        )
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is not a file name", "Use -, a file, or cm://NAMESPACE/NAME.")
    return Ref(RefKind.FILE, path=text)


def _parse_configmap(text: str) -> Ref:
    namespace, slash, name = text.removeprefix("cm://").partition("/")
    if not slash or not namespace or not name:
        raise UsageError(f"{text!r} is not a reference to a ConfigMap", "Write it as cm://NAMESPACE/NAME.")
    if len(namespace) > _MOST_NAMESPACE or not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            f"{namespace!r} in {text!r} is not a namespace",
            f"It has at most {_MOST_NAMESPACE} lower case letters, digits and dashes, no dash at either end.",
        )
    if len(name) > _MOST_NAME or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} in {text!r} is not the name of a ConfigMap",
            f"It has at most {_MOST_NAME} lower case letters, digits, dashes and dots, and begins and ends with a "
            "letter or digit.",
        )
    return Ref(RefKind.CONFIGMAP, namespace=namespace, name=name)


PUBLISHED: Final = "eidos-fleet"
"""The ConfigMap in which an aggregator keeps the last snapshot of its fleet."""


def read(ref: Ref, limit: int = MOST_BYTES, cluster: ClusterChoice | None = None) -> bytes:
    """All bytes of what the reference points to; `-` is standard input.

    Raises InputError, also past the limit, and for a ConfigMap ClusterError.
    """
    if ref.kind is RefKind.CONFIGMAP:
        from common.kube.configmaps import read_document
        from common.kube.session import visit

        return visit(lambda kube: read_document(kube, ref.namespace, ref.name, limit), cluster)
    source = "standard input" if ref.kind is RefKind.STREAM else ref.path
    try:
        content = _read_stdin(limit + 1) if ref.kind is RefKind.STREAM else _read_file(ref.path, limit + 1)
    except IsADirectoryError as error:
        raise InputError(Code.INPUT_UNREADABLE, f"{source} is a directory, not a file") from error
    except FileNotFoundError as error:
        raise InputError(Code.INPUT_UNREADABLE, f"{source} does not exist") from error
    except OSError as error:
        raise InputError(Code.INPUT_UNREADABLE, f"{source} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise InputError(Code.INPUT_TOO_LARGE, f"{source} is longer than {_size(limit)}")
    return content


def _size(limit: int) -> str:
    return f"{limit >> 20} MiB" if limit >= 1 << 20 and limit % (1 << 20) == 0 else f"{limit} bytes"


def _read_stdin(count: int) -> bytes:
    if sys.stdin is None:
        raise InputError(Code.INPUT_UNREADABLE, "standard input is closed")
    return sys.stdin.buffer.read(count)


def _read_file(path: str, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def check_writable(ref: Ref, cluster: ClusterChoice | None = None) -> None:
    """Raise at once what `write` would most likely raise, before work is done whose result could not be kept."""
    if ref.kind is RefKind.CONFIGMAP:
        if ref.name == PUBLISHED:
            raise UsageError(
                f"{ref} is where the aggregator of a fleet publishes, and would overwrite this",
                "Choose another name.",
            )
        from common.kube.configmap_writer import check_document
        from common.kube.session import visit

        visit(lambda kube: check_document(kube, ref.namespace, ref.name), cluster)
    if ref.kind is RefKind.FILE:
        check_file(ref.path)


def write(
    ref: Ref,
    content: bytes,
    cluster: ClusterChoice | None = None,
    excerpt: Callable[[int], bytes] | None = None,
) -> None:
    """Write the whole content to where the reference points, or leave what is there as it was.

    A ConfigMap takes any length; `excerpt` gives what stays readable in it of a long document, in at most so many
    bytes. Raises OutputError, and for a ConfigMap ClusterError.
    """
    if ref.kind is RefKind.CONFIGMAP:
        _write_configmap(ref, content, cluster, excerpt)
    elif ref.kind is RefKind.STREAM:
        write_stream(content)
    else:
        write_file(ref.path, content)


def _write_configmap(
    ref: Ref, content: bytes, cluster: ClusterChoice | None, excerpt: Callable[[int], bytes] | None
) -> None:
    from common.excerpt import excerpt_of_bytes
    from common.kube.configmap_writer import write_document
    from common.kube.owner import job_owner
    from common.kube.session import visit

    shorten = excerpt or excerpt_of_bytes(content, str(ref))
    form, owner = _format(content), job_owner(os.environ)
    visit(
        lambda kube: write_document(kube, ref.namespace, ref.name, content, form, shorten, owner=owner),
        cluster,
    )


def _format(content: bytes) -> str:
    """The key a document goes under in a ConfigMap: what is neither JSON nor an object in YAML is plain text."""
    start = content[:64].lstrip()
    if start.startswith(b"{"):
        return "json"
    return "yaml" if start.startswith((b"kind:", b"apiVersion:")) else "txt"

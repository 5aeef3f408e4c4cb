"""What Kubernetes takes as a name, a label or an amount: checked here, before anything is made that would be left."""

import re
from collections.abc import Mapping
from typing import Final

from common.errors import UsageError

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAMESPACE: Final = re.compile(_LABEL)
_PART: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_AMOUNT: Final = re.compile(r"\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")
_HOST_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REPOSITORY: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:{_HOST}/)?{_REPOSITORY}(?:/{_REPOSITORY})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)
"""Host, path, tag and digest, as the distribution of images takes them (OCI distribution specification)."""
_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_MOST_PART: Final = 63  # a DNS-1123 label; also a label's value and the part of its key after the slash
_MOST_NAME: Final = 253  # a DNS-1123 subdomain


def check_name(text: str, flag: str, most: int = _MOST_NAME) -> None:
    """A DNS-1123 subdomain of at most `most` characters, as most objects are named. Raises UsageError."""
    if len(text) > most or not _SUBDOMAIN.fullmatch(text):
        raise UsageError(
            f"{flag} {text!r} is not a name",
            f"It has 1 to {most} lower case letters, digits, dashes and dots, and a letter or digit at either end.",
        )


def check_job_name(text: str, flag: str) -> None:
    """As `check_name`; a Job's name is also the value of a label of its pods. Raises UsageError."""
    check_name(text, flag, _MOST_PART)


def check_namespace(text: str, flag: str) -> None:
    """A DNS-1123 label. Raises UsageError."""
    if len(text) > _MOST_PART or not _NAMESPACE.fullmatch(text):
        raise UsageError(
            f"{flag} {text!r} is not a namespace",
            f"It has 1 to {_MOST_PART} lower case letters, digits and dashes, no dash at either end.",
        )


def check_label(key: str, value: str, flag: str) -> None:
    """The key and value of a label or a taint; the value may be empty. Raises UsageError."""
    _check_key(key, flag)
    if value and (len(value) > _MOST_PART or not _PART.fullmatch(value)):
        raise UsageError(
            f"{flag} {key}={value!r} has no value that a label can have",
            f"It has at most {_MOST_PART} letters, digits, and dashes, dots and underscores between them.",
        )


def check_image(text: str, flag: str) -> None:
    """The name of an image, with a tag or a digest or neither. Raises UsageError."""
    if not _IMAGE.fullmatch(text):
        raise UsageError(
            f"{flag} {text!r} is not the name of an image",
            "Write it as registry.example/path/name:tag or …/name@sha256:…; the path in lower case.",
        )


def check_amounts(amounts: Mapping[str, str], flag: str) -> None:
    """Resources of a container with quantities, such as cpu and 200m. Raises UsageError."""
    for name, amount in amounts.items():
        _check_key(name, flag)
        if "/" not in name and name not in _RESOURCES and not name.startswith("hugepages-"):
            raise UsageError(
                f"{flag} {name!r} is not a resource", f"It is {', '.join(_RESOURCES)}, or as nvidia.com/gpu."
            )
        if not _AMOUNT.fullmatch(amount):
            raise UsageError(
                f"{flag} {name}={amount!r} is not an amount", "Write it as 2, 0.5, 200m (thousandths), 64Mi or 1Gi."
            )


def _check_key(key: str, flag: str) -> None:
    prefix, slash, name = key.rpartition("/")
    good = len(name) <= _MOST_PART and _PART.fullmatch(name)
    if not good or (slash and (len(prefix) > _MOST_NAME or not _SUBDOMAIN.fullmatch(prefix))):
        raise UsageError(f"{flag} {key!r} is not a key", "It is a name such as zone, or example.com/zone.")

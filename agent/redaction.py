"""Replaces passwords, tokens and keys in settings by a mark, by what the setting is called. Pure.

What is found: variables (`NAME=value`), options (`--name=value`, `--name value`) and assignments within a text, whose
name says that the value is a secret, and the user part of URLs. A secret under an innocent name is not recognised.
"""

import re
from typing import Final

REDACTED: Final = "<redacted>"

# Words of a name, which `_`, `-` and `.` separate: REGISTRY_TOKEN, --client-secret, MYSQL_PWD, SSH_AUTH.
_SENSITIVE_NAME: Final = re.compile(
    r"""(?:^|[_.-])
        (?: [a-z0-9]* (?:token|passw|passphrase|secret|credential) [a-z0-9]* (?:$|[_.-])
          | (?:[a-z0-9]*keys?|pass) (?:$|[_.-])
          | (?:authorization|auth|(?<=[_.-])pwd) $
        )""",
    re.IGNORECASE | re.VERBOSE,
)
# The name of a file with a secret in it, or a word about secrets in general, is configuration.
_ABOUT_A_SECRET: Final = re.compile(r"[_.-](?:files?|path|dir|directory|mode|name|ttl)$", re.IGNORECASE)
_CONFIG: Final = re.compile(r"[_.-]config$", re.IGNORECASE)
_SWITCH: Final = frozenset({"true", "false", "yes", "no", "on", "off"})
_ASSIGNMENT: Final = re.compile(r"""(?<![\w.-])([\w.-]+)=("[^"]*"|'[^']*'|[^\s,;"']+)""")
_USER_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+@")


def redact_variable(assignment: str) -> str:
    """`NAME=value`, where the value is everything after the first `=`."""
    name, equals, value = assignment.partition("=")
    if equals and names_a_secret(name, value):
        return f"{name}={REDACTED}"
    return f"{name}{equals}{redact_text(value)}"


def redact_arguments(arguments: list[str]) -> list[str]:
    """A command's arguments: a secret stands in its option (`--token=x`) or in the argument after it."""
    redacted: list[str] = []
    option = ""
    for argument in arguments:
        is_value = option.startswith("-") and not argument.startswith("-") and names_a_secret(option, argument)
        redacted.append(REDACTED if is_value else redact_text(argument))
        option = "" if "=" in argument else argument
    return redacted


def redact_text(text: str) -> str:
    """Any text: assignments in it whose name says so, and what stands before `@` in URLs."""
    if "=" not in text and "://" not in text:
        return text
    return _ASSIGNMENT.sub(_redact_assignment, _USER_IN_URL.sub(f"{REDACTED}@", text))


def _redact_assignment(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={REDACTED}" if names_a_secret(name, value) else found.group()


def names_a_secret(name: str, value: str) -> bool:
    """Whether the name says that the value is a secret; a switch, a file or nothing at all is none."""
    if value in ("", REDACTED) or value.lower() in _SWITCH or _ABOUT_A_SECRET.search(name):
        return False
    if value.startswith("/") and _CONFIG.search(name):
        return False
    return _SENSITIVE_NAME.search(name) is not None

"""Replaces passwords, tokens and keys in settings by a mark, by what the setting is called. Pure.

What is found: variables (`NAME=value`), options (`--name=value`, `--name value`) and assignments within a text, whose
name says that the value is a secret, HTTP headers that authorise, and the user part of URLs. A secret under an
innocent name is not recognised.
"""

import re
from typing import Final

REDACTED: Final = "<redacted>"

# Words of a name, which `_`, `-` and `.` separate: REGISTRY_TOKEN, --client-secret, MYSQL_PWD, SSH_AUTH.
_SENSITIVE_NAME: Final = re.compile(
    r"""(?:^|[_.-])
        (?: [a-z0-9]* (?:token|passw|passphrase|secret|credential) [a-z0-9]* (?:$|[_.-])
          | (?:[a-z0-9]*keys?|pass) (?:$|[_.-])
          | (?:authorization|auth|auth_?config|psk|bearer|cookies?|sig|signature|(?<=[_.-])pwd) $
        )""",
    re.IGNORECASE | re.VERBOSE,
)
# The name of a file with a secret in it, or a word about secrets in general, is configuration.
_ABOUT_A_SECRET: Final = re.compile(r"[_.-](?:files?|path|dir|directory|mode|name|ttl)$", re.IGNORECASE)
_CONFIG: Final = re.compile(r"[_.-]config$", re.IGNORECASE)
_SWITCH: Final = frozenset({"true", "false", "yes", "no", "on", "off"})
_ASSIGNED: Final = re.compile(r"(?<![\w.-])([\w.-]+)=")
_VALUE: Final = re.compile(
    r"""(?: \{.*\}  # JSON
          | "(?:[^"\\]|\\.)*" | '[^']*' | ["']? ) [^\s,;"']*
    """,
    re.DOTALL | re.VERBOSE,
)
_OPTION: Final = re.compile(r"""(?<![\w.-])(--?[A-Za-z][\w.-]*)( +)("[^"]*"|'[^']*'|[^\s;"'-][^\s;"']*)""")
_HEADER: Final = re.compile(
    r"""(?<![\w-])((?:(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z0-9-]*(?:key|token|secret|auth)):[ ]*)"""
    r"""[^\s"'][^"'\r\n]*""",
    re.IGNORECASE,
)
_USER_IN_URL: Final = re.compile(r"""(?<=://)[^/?#\s"']+@""")
_PROXY: Final = re.compile(r"(?:^|_)proxy$", re.IGNORECASE)
_USER_IN_PROXY: Final = re.compile(r"""["']?[^/@\s:"',]{1,256}:[^/@\s"',]{0,1024}@""")
_USER_OPTIONS: Final = frozenset({"-u", "--user", "--proxy-user"})
_USER_AND_PASSWORD: Final = re.compile(r"(?!\d+:\d+$)[^:/\s]+:(?!//).+", re.DOTALL)  # not `--user 1000:1000`


def redact_variable(assignment: str) -> str:
    """`NAME=value`, where the value is everything after the first `=`."""
    name, equals, value = assignment.partition("=")
    if equals and names_a_secret(name, value):
        return f"{name}={REDACTED}"
    if _PROXY.search(name):
        value = _without_proxy_user(value)
    return f"{name}{equals}{redact_text(value)}"


def redact_arguments(arguments: list[str]) -> list[str]:
    """A command's arguments: a secret stands in its option (`--token=x`) or in the argument after it."""
    redacted: list[str] = []
    option = ""
    for argument in arguments:
        is_value = option.startswith("-") and not argument.startswith("-") and _is_secret_of_option(option, argument)
        redacted.append(REDACTED if is_value else redact_text(argument))
        option = "" if "=" in argument else argument
    return redacted


def redact_text(text: str) -> str:
    """Any text: assignments, options and headers in it whose name says so, and what stands before `@` in URLs."""
    text = _USER_IN_URL.sub(f"{REDACTED}@", text)
    text = _HEADER.sub(rf"\g<1>{REDACTED}", text)
    return _redact_assignments(_OPTION.sub(_redact_option, text))


def _redact_assignments(text: str) -> str:
    parts: list[str] = []
    done = at = 0
    while found := _ASSIGNED.search(text, at):
        at = found.end()
        name = found.group(1)
        if _PROXY.search(name) and (user := _USER_IN_PROXY.match(text, at)):
            parts += text[done:at], f"{REDACTED}@"
            done = at = user.end()
        if name not in _USER_OPTIONS and not names_a_secret(name, "?"):
            continue  # The value may hold further assignments.
        value_match = _VALUE.match(text, at)
        value = value_match.group() if value_match else ""
        at += len(value)
        if _is_secret_of_option(name, value):
            parts += text[done : at - len(value)], REDACTED
            done = at
    return "".join([*parts, text[done:]])


def _without_proxy_user(value: str) -> str:
    """A proxy may be given without a scheme: `user:password@host:3128`."""
    found = _USER_IN_PROXY.match(value)
    return f"{REDACTED}@{value[found.end() :]}" if found else value


def _redact_option(found: re.Match[str]) -> str:
    option, space, value = found.groups()
    return f"{option}{space}{REDACTED}" if _is_secret_of_option(option, value) else found.group()


def _is_secret_of_option(option: str, value: str) -> bool:
    if option in _USER_OPTIONS:
        return _USER_AND_PASSWORD.fullmatch(value.strip("\"'")) is not None
    return names_a_secret(option, value)


def names_a_secret(name: str, value: str) -> bool:
    """Whether the name says that the value is a secret; a switch, a file or nothing at all is none."""
    if value in ("", REDACTED) or value.lower() in _SWITCH or _ABOUT_A_SECRET.search(name):
        return False
    if value.startswith("/") and _CONFIG.search(name):
        return False
    return _SENSITIVE_NAME.search(name) is not None

"""Runs the credential plugin of a kubeconfig (`exec`, client.authentication.k8s.io).

Ours and not kubernetes_asyncio's, which leaves the program running when nobody waits for it any more, and reads
whatever it prints into memory.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

LONGEST_ANSWER: Final = 1 << 20
_LONGEST_COMPLAINT: Final = 1 << 14
_REAP_SECONDS: Final = 1.0


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _Variable(_Entry, frozen=True):
    name: str
    value: str = ""


class _Plugin(_Entry, frozen=True):
    command: str
    api_version: str
    args: list[str] | None = None
    env: list[_Variable] | None = None
    interactive_mode: str | None = None


class Status(_Entry, frozen=True):
    """What a plugin gives: a token, a certificate with its key, or both."""

    token: str = ""
    client_certificate_data: str = ""
    """PEM text, and so is the key."""
    client_key_data: str = ""
    expiration_timestamp: str = ""
    """RFC 3339."""


class _Answer(_Entry, frozen=True):
    api_version: str
    kind: str
    status: Status


async def run(entry: Mapping[str, Any]) -> Status:
    """Run the plugin that `entry`, the user's `exec`, describes; cancelling this kills it and what it started.

    Raises ValueError with the reason, never with what the plugin printed as its answer, and OSError when the program
    cannot be started.
    """
    try:
        plugin = msgspec.convert(entry, _Plugin)
    except msgspec.ValidationError as error:
        raise ValueError(f"its entry is malformed: {error}") from None
    interactive = plugin.interactive_mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
    answer = await _output(plugin, interactive)
    try:
        found = msgspec.json.decode(answer, type=_Answer)
    except msgspec.MsgspecError as error:  # names places and types, not values
        raise ValueError(f"its answer is no ExecCredential: {error}") from None
    if found.api_version != plugin.api_version:
        raise ValueError("the version of its answer is not the apiVersion in the kubeconfig")
    if bool(found.status.client_certificate_data) != bool(found.status.client_key_data):
        raise ValueError("it gives a certificate and no key, or a key and no certificate")
    return found.status


async def _start(plugin: _Plugin, interactive: bool) -> asyncio.subprocess.Process:
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            plugin.command,
            *(plugin.args or ()),
            env=_environment(plugin, interactive),
            stdin=None if interactive else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A session of its own, so that all of it can be killed; who is asked for a password needs the terminal.
            start_new_session=not interactive,
        )
    )
    try:
        # Cancelled while it starts, asyncio would kill the program alone and wait for all that it has started.
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(OSError):
            await _kill(await starting, alone=interactive)
        raise


async def _output(plugin: _Plugin, interactive: bool) -> bytes:
    process = await _start(plugin, interactive)
    try:
        async with asyncio.TaskGroup() as reading:
            answer = reading.create_task(_read(process.stdout, LONGEST_ANSWER))
            complaint = reading.create_task(_read(process.stderr, _LONGEST_COMPLAINT, more=True))
        status = await process.wait()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        if process.returncode is None:
            await _kill(process, alone=interactive)
    if status:
        said = complaint.result().decode("utf-8", "replace").strip()
        raise ValueError(f"it ended with status {status}" + (f": {said}" if said else ""))
    return answer.result()


def _environment(plugin: _Plugin, interactive: bool) -> dict[str, str]:
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": interactive}}
    own = {variable.name: variable.value for variable in plugin.env or ()}
    return {**os.environ, **own, "KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()}


async def _read(stream: asyncio.StreamReader | None, longest: int, more: bool = False) -> bytes:
    """All of it. Raises ValueError where that is more than `longest` bytes, unless `more` may be thrown away."""
    kept = b""
    while stream and (chunk := await stream.read(1 << 16)):
        kept += chunk
        if len(kept) > longest and not more:
            raise ValueError(f"its answer is longer than {longest} bytes")
        kept = kept[:longest]
    return kept


async def _kill(process: asyncio.subprocess.Process, alone: bool) -> None:
    with suppress(ProcessLookupError):
        if alone:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    # Pipes close once they are read to their end; what it started may hold them still, where only it was killed.
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_SECONDS):
            await asyncio.gather(*(_read(pipe, 0, more=True) for pipe in (process.stdout, process.stderr)))
            await process.wait()

"""Tokens from files and plugins, and when they are renewed."""

import asyncio
import base64
import json
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import ClusterError, Code
from common.kube.credentials import Credential, FixedCredentials, PluginCredentials, TokenFile
from common.kube.kubeconfig import User, read_kubeconfig
from common.kube.target import _plugin_document


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _plugin(tmp_path: Path, answer: str, status: int = 0, complaint: str = "") -> Path:
    """A program that counts its runs and prints `answer`, with $RUN in place."""
    script = tmp_path / "plugin"
    script.write_text(
        f"#!/bin/sh\necho x >>{tmp_path}/runs\nRUN=$(wc -l <{tmp_path}/runs)\n"
        f"echo '{complaint}' >&2\ncat <<EOF\n{answer}\nEOF\nexit {status}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def _credentials(plugin: Path | str, clock: Clock | None = None, **more: Any) -> PluginCredentials:
    version = "client.authentication.k8s.io/v1"
    user = User(exec={"apiVersion": version, "command": str(plugin), **more})
    return PluginCredentials(_plugin_document(user), "eidos", "me", clock=clock or Clock())


def _answer(status: str) -> str:
    return f'{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{{status}}}}}'


def _runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


async def test_fixed_credentials_stay() -> None:
    credentials = FixedCredentials(Credential("Bearer a"))
    assert (await credentials.current()).authorization == "Bearer a"
    assert not credentials.reject()


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", Clock()
    path.write_text("one\n")
    credentials = TokenFile(str(path), clock=clock)
    assert (await credentials.current()).authorization == "Bearer one"
    path.write_text("two")
    assert (await credentials.current()).authorization == "Bearer one"
    clock.now += 61
    assert (await credentials.current()).authorization == "Bearer two"
    assert not credentials.reject()  # the file says the same
    path.write_text("three")
    assert credentials.reject()
    assert (await credentials.current()).authorization == "Bearer three"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b" \n", "is empty"), (b"\xff\xfe", "it is not text")],
)
async def test_a_token_file_that_is_of_no_use(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClusterError, match=message) as caught:
        await TokenFile(str(path)).current()
    assert caught.value.code is Code.CLUSTER_UNAUTHORIZED


async def test_a_plugins_token_is_used_until_it_ends(tmp_path: Path) -> None:
    answer = _answer('"token": "run-$RUN", "expirationTimestamp": "2100-01-01T00:00:00Z"')
    clock = Clock()
    credentials = _credentials(_plugin(tmp_path, answer), clock)
    for _ in range(3):
        assert (await credentials.current()).authorization == "Bearer run-1"
    clock.now = 4102444800 - 5  # nearly 2100
    assert (await credentials.current()).authorization == "Bearer run-2"


async def test_a_plugins_token_without_an_end_is_renewed_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    credentials = _credentials(_plugin(tmp_path, _answer('"token": "run-$RUN"')), clock)
    await credentials.current()
    clock.now += 200
    await credentials.current()
    assert _runs(tmp_path) == 1
    clock.now += 200
    assert (await credentials.current()).authorization == "Bearer run-2"


async def test_a_token_that_was_not_taken_is_asked_for_again(tmp_path: Path) -> None:
    credentials = _credentials(_plugin(tmp_path, _answer('"token": "run-$RUN"')))
    await credentials.current()
    assert credentials.reject()
    assert (await credentials.current()).authorization == "Bearer run-2"


async def test_a_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    answer = _answer('"clientCertificateData": "CERT", "clientKeyData": "KEY"')
    credential = await _credentials(_plugin(tmp_path, answer)).current()
    assert (credential.authorization, credential.certificate) == ("", ("CERT", "KEY"))


async def test_a_plugin_gets_its_arguments_and_environment(tmp_path: Path) -> None:
    script = tmp_path / "plugin"
    answer = _answer('"token": "$1-$TEAM"')
    script.write_text(f"#!/bin/sh\ncat <<EOF\n{answer}\nEOF\n")
    script.chmod(0o755)
    credentials = _credentials(script, args=["one"], env=[{"name": "TEAM", "value": "x"}])
    assert (await credentials.current()).authorization == "Bearer one-x"


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (_answer('"token": "secret"'), 3, "it ended with status 3: session has ended"),
        ("no json: secret", 0, "its answer is no ExecCredential: JSON is malformed"),
        ('{"kind": "x"}', 0, "its answer is no ExecCredential: Object missing required field `apiVersion`"),
        (_answer('"other": "secret"'), 0, "neither a token nor a certificate"),
        (_answer('"token": "secret", "clientCertificateData": "C"'), 0, "it gives a certificate and no key"),
        (
            '{"apiVersion": "v0", "kind": "ExecCredential", "status": {}}',
            0,
            "the version of its answer is not the apiVersion",
        ),
    ],
)
async def test_a_plugin_that_fails(
    tmp_path: Path, answer: str, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = _credentials(_plugin(tmp_path, answer, status, "session has ended"))
    with caplog.at_level(logging.DEBUG), pytest.raises(ClusterError, match=message) as caught:
        await credentials.current()
    assert caught.value.code is Code.CLUSTER_UNAUTHORIZED
    assert "of user me in the kubeconfig failed" in caught.value.message
    assert "secret" not in str(caught.value) + caplog.text


async def test_a_plugin_that_nobody_waits_for_is_killed_with_what_it_started(tmp_path: Path) -> None:
    started, said = tmp_path / "started", tmp_path / "said"
    os.mkfifo(started)
    os.mkfifo(said)
    script = tmp_path / "plugin"
    # Each holds its end of `said` open while it lives.
    script.write_text(f"#!/bin/sh\nexec 3>{said}\nsleep 1000 & echo x >{started}\nwait\n")
    script.chmod(0o755)
    alive = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting = asyncio.create_task(_credentials(script).current())
        await asyncio.to_thread(started.read_bytes)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        os.set_blocking(alive, True)
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(os.read, alive, 1) == b""  # the end: nobody is left who could write
    finally:
        os.close(alive)


async def test_a_plugin_that_never_stops_talking(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="its answer is longer than 1048576 bytes"):
        await _credentials("cat", args=["/dev/zero"]).current()
    complaining = _plugin(tmp_path, _answer('"token": "t"'), complaint="x" * 100_000)
    assert (await _credentials(complaining).current()).authorization == "Bearer t"


async def test_a_plugin_whose_entry_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"its entry is malformed: Expected `str`, got `int` - at `\$\.args\[0\]`"):
        await _credentials(tmp_path, args=[1]).current()


async def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="the program /no/such-plugin is not there"):
        await _credentials("/no/such-plugin").current()
    dead = tmp_path / "dead"
    dead.write_text("")
    with pytest.raises(ClusterError, match="it cannot be started: Permission denied"):
        await _credentials(dead).current()


async def test_without_what_knows_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the agent's image, which leaves it out."""
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio.client", None)
    with pytest.raises(ClusterError, match="kubernetes_asyncio, which knows such plugins, is not installed"):
        await _oidc(_identity_token(4102444800)).current()


def test_a_plugin_named_with_a_slash_is_beside_its_file(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("users: [{name: a, user: {exec: {command: bin/x}}}, {name: b, user: {exec: {command: aws}}}]")
    users = read_kubeconfig([str(config)]).users
    assert [(user.exec or {})["command"] for user in users.values()] == [f"{tmp_path}/bin/x", "aws"]


def _identity_token(expires: int) -> str:
    parts = ({"alg": "none"}, {"sub": "me", "exp": expires})
    return ".".join([base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts] + ["x"])


def _oidc(token: str) -> PluginCredentials:
    user = User(auth_provider={"name": "oidc", "config": {"id-token": token}})
    return PluginCredentials(_plugin_document(user), "eidos", "me", clock=Clock())


async def test_an_oidc_identity_token() -> None:
    token = _identity_token(4102444800)
    assert (await _oidc(token).current()).authorization == f"Bearer {token}"


async def test_an_oidc_identity_token_that_has_ended() -> None:
    with pytest.raises(ClusterError, match="cannot refresh without refresh-token") as caught:
        await _oidc(_identity_token(1)).current()
    assert caught.value.code is Code.CLUSTER_UNAUTHORIZED

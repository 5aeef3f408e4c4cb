"""The directory of a local fleet: what is made, kept, refused and renewed in it."""

import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from multidict import CIMultiDict

from aggregator import local as local_module
from aggregator.__main__ import main
from aggregator.local import LocalFleet
from aggregator.local_files import kept_token, write_whole
from aggregator.renewal import Renewal
from aggregator.settings import Settings
from aggregator.tls import BUNDLE, Authority
from aggregator.users import Credentials, TokenUser
from common.errors import InputError, UsageError
from tests.fleet.scene import until


@pytest.fixture
def logs_put_back() -> Iterator[None]:
    """The program sends all logs to standard error."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def local(directory: Path, *nodes: str) -> LocalFleet:
    return LocalFleet(Settings(directory), nodes or ("n1",))


@pytest.mark.parametrize("left", [b"", b" \n\t\n"])
async def test_an_empty_user_token_opens_nothing_and_is_made_anew(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "user-token").write_bytes(left)
    fleet = local(tmp_path)
    assert len(fleet.user_token) > 30
    assert (tmp_path / "user-token").read_text() == fleet.user_token
    with pytest.raises(ValueError, match="empty"):
        TokenUser(left.decode())
    user = TokenUser(fleet.user_token)
    for header in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"}):
        assert await user.authenticate(Credentials(CIMultiDict(header))) is None


def test_a_kept_user_token_stays_and_garbage_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "user-token"
    file.write_text("abc\n")
    assert kept_token(file) == "abc"
    for garbage in (b"\xff\xfe", b"two words", b"a\x00b"):
        file.write_bytes(garbage)
        with pytest.raises(InputError, match="user-token holds no token"):
            kept_token(file)


RSA = rsa.generate_private_key(65537, 2048)
P384 = ec.generate_private_key(ec.SECP384R1())
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
DAMAGED = {
    "empty": b"",
    "garbage": b"\x00\xffgarbage",
    "cut off": b"-----BEGIN PRIVATE KEY-----\nMIGH",
    "rsa": RSA.private_bytes(PEM, PKCS8, serialization.NoEncryption()),
    "another curve": P384.private_bytes(PEM, PKCS8, serialization.NoEncryption()),
    "with a password": P384.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("name", ["signer.pem", "authority-1.pem"])
def test_a_damaged_key_is_named_with_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        local(tmp_path)
    assert refused.value.exit_status == 2
    assert f"{tmp_path}/private/{name}" in refused.value.message
    assert "or delete it" in refused.value.hint
    assert (tmp_path / "private" / name).read_bytes() == content, "what may still be mended is not overwritten"


def test_the_program_refuses_a_damaged_key_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], logs_put_back: None
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "signer.pem").write_bytes(b"")
    assert main(["--local", str(tmp_path), "--nodes", "n1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"eidos-aggregator: {tmp_path}/private/signer.pem cannot be used: it holds no private key")
    assert len(said.splitlines()) == 1


def files_in(directory: Path) -> dict[Path, int]:
    """Every file with its inode, which is another when it was written anew."""
    return {path: path.stat().st_ino for path in directory.rglob("*") if path.is_file()}


async def test_a_directory_is_served_once_at_a_time(tmp_path: Path) -> None:
    first = LocalFleet(Settings(tmp_path, api_address="127.0.0.1", link_address="127.0.0.1"), ["n1"])
    await first.start()
    kept_on_disk = files_in(tmp_path)
    with pytest.raises(UsageError, match="another aggregator serves") as refused:
        local(tmp_path)
    assert refused.value.exit_status == 2
    assert files_in(tmp_path) == kept_on_disk
    await first.stop()
    assert local(tmp_path).user_token == first.user_token


@pytest.mark.parametrize("nodes", [[], ["--nodes", ""]])
def test_a_fleet_of_no_nodes_is_refused(
    tmp_path: Path, nodes: list[str], capsys: pytest.CaptureFixture[str], logs_put_back: None
) -> None:
    assert main(["--local", str(tmp_path / "fleet"), *nodes]) == 2
    assert "--local needs --nodes" in capsys.readouterr().err
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize("flag", ["--link-port", "--api-port"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--local", str(tmp_path), "--nodes", "n1", flag, "99999"])
    assert f"argument {flag}: '99999' is no port" in capsys.readouterr().err


def test_an_authority_whose_key_is_another_ones_is_refused() -> None:
    first, second = Authority(), Authority()
    first.rotate()
    second.rotate()
    certificate, _, _ = _pair(first)[1].partition(b"-----END CERTIFICATE-----\n")
    name, other = _pair(second)
    mixed = certificate + b"-----END CERTIFICATE-----\n" + other.partition(b"-----END CERTIFICATE-----\n")[2]
    with pytest.raises(ValueError, match=f"{name}: its certificate and key do not belong together"):
        Authority.from_files({name: mixed})


def _pair(authority: Authority) -> tuple[str, bytes]:
    (pair,) = ((name, content) for name, content in authority.files.items() if name != BUNDLE)
    return pair


def test_what_cannot_be_written_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    write_whole(file, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


async def test_renewal_goes_on_after_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local_module, "_LOOKED_EVERY", 0.01)
    monkeypatch.setattr(local_module, "_RENEWED_EVERY", 0.0)
    fleet = LocalFleet(Settings(tmp_path, api_address="127.0.0.1", link_address="127.0.0.1"), ["n1"])
    await fleet.start()
    first = fleet.token_file("n1").read_text()
    tokens = tmp_path / "tokens"
    tokens.rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.ERROR):
        await until(lambda: "not renewed yet" in caplog.text)
    tokens.mkdir()
    await until(lambda: fleet.token_file("n1").exists() and fleet.token_file("n1").read_text() != first)
    await fleet.stop()


async def test_a_certificate_that_could_not_be_used_is_used_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = local(tmp_path)
    used: list[bytes] = []
    outcomes = [OSError(28, "No space left on device"), ssl.SSLError("no"), None, None]

    def use(pair: tuple[bytes, bytes]) -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        used.append(pair[0])

    monkeypatch.setattr(fleet.server, "use_certificate", use)
    monkeypatch.setattr(fleet._certificates, "is_due", iter([True, False, False, False]).__next__)
    assert [fleet.renew() for _ in range(4)] == [False, False, True, True]
    assert len(used) == 1


def test_renewal_is_due_in_time_when_the_clock_was_set_and_until_it_was_done() -> None:
    wall, steady = [1000.0], [5.0]
    renewal = Renewal(100.0, lambda: wall[0], lambda: steady[0])
    assert not renewal.is_due()
    for step in (3600.0, -3600.0):
        wall[0] += step
        assert renewal.is_due()
        assert renewal.is_due(), "until it was done"
        renewal.done()
        assert not renewal.is_due()
    wall[0], steady[0] = wall[0] + 99.0, steady[0] + 99.0
    assert not renewal.is_due()
    wall[0], steady[0] = wall[0] + 2.0, steady[0] + 2.0
    assert renewal.is_due()

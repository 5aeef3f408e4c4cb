"""The directory of a local fleet: what is made, kept, refused and renewed in it."""

import os
from pathlib import Path

import pytest
from multidict import CIMultiDict

from aggregator.local import LocalFleet
from aggregator.local_files import kept_token, write_whole
from aggregator.settings import Settings
from aggregator.users import Credentials, TokenUser
from common.errors import InputError


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

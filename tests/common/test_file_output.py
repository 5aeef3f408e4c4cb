"""Writing of whole results: an existing file is as it was, or it is new; never anything between."""

import errno
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import Code, OutputError
from common.refs import Ref, check_writable, parse_ref, write
from tests.common.privileges import directory_for_all, unprivileged


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A directory that everybody can reach."""
    with directory_for_all() as path:
        yield path


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Set the umask; it is put back afterwards."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def refused(path: Path | str, content: bytes = b"new") -> OutputError:
    with pytest.raises(OutputError) as caught:
        write(parse_ref(str(path)), content)
    assert caught.value.message.startswith(f"{path} cannot be written: ")
    assert caught.value.code is Code.OUTPUT_UNWRITABLE
    return caught.value


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0])
def test_a_new_file(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    write(parse_ref(str(tmp_path / "a")), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644 & ~mask
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_an_existing_file_is_replaced_and_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old and longer")
    path.chmod(mode)
    with path.open("rb") as reader:
        write(parse_ref(str(path)), b"new")
        assert reader.read() == b"old and longer"  # whoever has it open still sees all of the old one
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.getuid() != 0, reason="CANNOT RUN HERE: only root may give a file to somebody else")
def test_root_leaves_a_file_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    os.chown(path, 1234, 1235)
    path.chmod(0o4755)
    write(parse_ref(str(path)), b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 1235, 0o4755)


def test_somebody_elses_writable_file_becomes_ours(shared_path: Path) -> None:
    shared_path.chmod(0o777)
    path = shared_path / "a"
    path.touch()
    path.chmod(0o666)
    with unprivileged():
        write(parse_ref(str(path)), b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_relative_path_and_an_empty_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(parse_ref("a"), b"")
    assert (tmp_path / "a").read_bytes() == b""


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "file").write_bytes(b"old")
    (here / "link").symlink_to("../there/file")
    (here / "chain").symlink_to(here / "link")
    (here / "dangling").symlink_to(there / "none")
    write(parse_ref(str(here / "chain")), b"new")
    write(parse_ref(str(here / "dangling")), b"made")
    assert (there / "file").read_bytes() == b"new"
    assert (there / "none").read_bytes() == b"made"
    assert all((here / name).is_symlink() for name in ("link", "chain", "dangling"))
    assert sorted(os.listdir(there)) == ["file", "none"]


def test_dev_null_is_written_directly() -> None:
    write(parse_ref("/dev/null"), b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_device() -> None:
    assert "there is no space left on its file system" in refused("/dev/full").message


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = os.urandom(300_000)  # more than a pipe holds
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    write(parse_ref(str(path)), content)
    reader.join()
    assert received == [content]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_descriptor_is_written_where_it_stands(tmp_path: Path, form: str) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"before ")
    write(parse_ref(form.format(descriptor)), b"new ")
    os.write(descriptor, b"after")  # still open, and still the same file
    os.close(descriptor)
    assert path.read_bytes() == b"before new after"
    assert "Bad file descriptor" in refused(form.format(descriptor)).message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dir", "it is a directory"),
        ("dir/", "it is a directory"),
        ("none/", "it is a directory"),
        ("to-dir", "it is a directory"),
        ("none/a", "none does not exist. Make it first: mkdir -p"),
        ("dangling/a", "does not exist"),
        ("file/a", "file is not a directory"),
        ("loop", "its symbolic links run in a circle"),
        ("x" * 300, "the name is too long"),
        ("socket", "No such device or address"),
    ],
)
@pytest.mark.parametrize("call", ["write", "check"])
def test_places_that_cannot_be_written(obstacles: Path, name: str, words: str, call: str) -> None:
    if call == "check" and name in ("x" * 300, "socket"):
        return  # seen only when it is tried
    path = os.path.join(obstacles, name)
    with pytest.raises(OutputError) as caught:
        write(parse_ref(path), b"new") if call == "write" else check_writable(parse_ref(path))
    assert words in str(caught.value)
    assert not [left for left in os.listdir(obstacles) if left.startswith(".eidos")]


def test_a_directory_that_takes_no_files_is_not_called_missing() -> None:
    why = refused("/proc/eidos.yaml")
    assert str(why) in (
        "/proc/eidos.yaml cannot be written: no file can be made in /proc. Choose another place.",
        "/proc/eidos.yaml cannot be written: permission is denied. Choose a place you may write to.",  # not as root
    )


@pytest.fixture
def obstacles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all that a result cannot be written to."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "to-dir").symlink_to("dir")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the whole path may be longer than a socket's address
        listener.bind("socket")
    return tmp_path


@pytest.mark.parametrize("call", [lambda ref: write(ref, b"new"), check_writable])
def test_permissions(shared_path: Path, call: Callable[[Ref], None]) -> None:
    open_directory, closed_directory = shared_path / "open", shared_path / "closed"
    open_directory.mkdir()
    closed_directory.mkdir()
    open_directory.chmod(0o777)
    (open_directory / "read-only").write_bytes(b"old")
    (open_directory / "read-only").chmod(0o444)
    for path in (open_directory / "read-only", closed_directory / "new"):
        with unprivileged(), pytest.raises(OutputError, match="permission is denied") as caught:
            call(parse_ref(str(path)))
        assert caught.value.hint
    assert (open_directory / "read-only").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "there is no space left on its file system"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "its file system is read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EPERM, "permission is denied"),
        (errno.EBUSY, "something is mounted on it"),
        (errno.EFBIG, "longer than the file system or the limits of this process allow"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["open", "fchmod", "write", "fsync", "replace"])
def test_trouble_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        error = refused(path)
    assert words in error.message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fchmod", "write", "fsync", "replace"])
def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(parse_ref(str(path)), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_size_limit_stops_it_midway_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        error = refused(path, b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "longer than" in error.message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, whole = os.urandom(1000), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:7]))
        write(parse_ref(str(tmp_path / "a")), content)
    assert (tmp_path / "a").read_bytes() == content


def test_a_directory_that_cannot_be_flushed_does_not_spoil_a_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not here")
        whole(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        write(parse_ref(str(tmp_path / "a")), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_readers_view_while_it_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    versions = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    write(parse_ref(str(path)), versions[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for version in versions * 5:
        write(parse_ref(str(path)), version)
    done.set()
    reader.join()
    assert seen <= set(versions)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stderr", "/dev/fd/2"])
def test_check_accepts_what_can_be_written(tmp_path: Path, path: str) -> None:
    check_writable(parse_ref(path))
    check_writable(parse_ref(str(tmp_path / "new")))
    check_writable(parse_ref("-"))
    assert os.listdir(tmp_path) == []

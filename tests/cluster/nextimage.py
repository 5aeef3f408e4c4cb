"""Our images as their next version: the same with one layer more, in which constants are raised.

The protocol and the schema are one higher, and the oldest protocol is the same.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from common.version import SCHEMA, VERSION
from common.wire import PROTOCOL

NEXT: Final = f"{VERSION}+next"
_CODE: Final = "opt/eidos/code/"
# What is replaced, in which file of the code.
_CHANGES: Final[Mapping[str, Mapping[str, str]]] = {
    "common/version.py": {
        f'VERSION: Final = "{VERSION}"': f'VERSION: Final = "{NEXT}"',
        f"SCHEMA: Final = {SCHEMA}": f"SCHEMA: Final = {SCHEMA + 1}",
    },
    "common/wire.py": {f"\nPROTOCOL: Final = {PROTOCOL}\n": f"\nPROTOCOL: Final = {PROTOCOL + 1}\n"},
}


def write_next(archive: Path, tag: str, target: Path) -> None:
    """The image of a docker archive with one layer more, as an archive under another tag."""
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        (entry,) = json.loads(_read(old, "manifest.json"))
        config = json.loads(_read(old, entry["Config"]))
        layer = _layer(old, entry["Layers"])
        digest = hashlib.sha256(layer).hexdigest()
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        config["history"].append({"created_by": "the next version"})
        written = json.dumps(config).encode()
        manifest = {
            "Config": f"{hashlib.sha256(written).hexdigest()}.json",
            "RepoTags": [tag],
            "Layers": [*entry["Layers"], f"{digest}.tar"],
        }
        for name in entry["Layers"]:
            member = old.getmember(name)
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
        _add(new, f"{digest}.tar", layer)
        _add(new, str(manifest["Config"]), written)
        _add(new, "manifest.json", json.dumps([manifest]).encode())


def _layer(image: tarfile.TarFile, layers: list[str]) -> bytes:
    files: dict[str, bytes] = {}
    for name in layers:
        with tarfile.open(fileobj=image.extractfile(name)) as layer:
            wanted = [member for member in layer if member.isreg() and member.name.removeprefix(_CODE) in _CHANGES]
            files.update({member.name: _content(layer, member) for member in wanted})
    assert {name.removeprefix(_CODE) for name in files} == _CHANGES.keys()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for name, source in sorted(files.items()):
            _add(layer, name, _changed(source.decode(), _CHANGES[name.removeprefix(_CODE)]).encode())
            folder, _, file = name.rpartition("/")
            # Byte code is never looked up against the source's time: without it the source is read.
            _add(layer, f"{folder}/__pycache__/.wh.{file.removesuffix('.py')}.cpython-311.pyc", b"")
    return content.getvalue()


def _changed(source: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _read(archive: tarfile.TarFile, name: str) -> Any:
    return _content(archive, archive.getmember(name))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))

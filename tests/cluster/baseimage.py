"""Builds images from Dockerfiles with buildah, without a container engine and without a registry.

Public base images cannot be pulled where the tests run, so each Dockerfile takes `ARG BASE`, and the tests give it a
Debian made by debootstrap that stands in for debian:bookworm-slim.
"""

import os
import ssl
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.cluster.debian import base_root, build_debian
from tests.cluster.paths import cache_root
from tests.cluster.progress import step, tried_again
from tests.cluster.requirements import check_machine, install_packages

_KEPT = 3
_IN_USE_SECONDS = 3600
"""For as long another test run may still load an archive that it was given."""
_AUTHORITIES = "/etc/machine-authorities.crt"


def _buildah(*arguments: str, timeout: float = 1800) -> str:
    store = cache_root() / "buildah"
    argv = [
        # Its mounts end with it, also when it is killed.
        "unshare",
        "--mount",
        "buildah",
        f"--root={store / 'storage'}",
        f"--runroot={store / 'run'}",
        "--storage-driver=overlay",
        *arguments,
    ]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"buildah {arguments[0]} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout.strip()


def _exists(image: str) -> bool:
    return bool(_buildah("images", "--quiet", "--filter", f"reference={image}"))


def base_image() -> str:
    """The image that stands in for debian:bookworm-slim, made once; its name, for `--build-arg BASE=`."""
    check_machine()
    install_packages(to_build=True)
    build_debian()
    image = f"localhost/eidos-{base_root().name}:bookworm"
    if not _exists(image):
        with step(f"making {image}"):
            container = _buildah("from", "scratch")
            _buildah("add", "--quiet", container, str(base_root()), "/")
            _buildah("config", "--cmd", "/bin/bash", container)
            _buildah("commit", "--quiet", "--timestamp=0", "--rm", container, image)
    return image


def build_image(dockerfile: Path, tag: str, context: Path, args: Mapping[str, str] | None = None) -> Path:
    """Builds `dockerfile` in `context` as `tag` and returns a docker archive of it, for `Cluster.load_image`.

    `BASE` is given unless `args` has it. Steps that did not change are taken from buildah's store.
    """
    build_args = {"BASE": base_image(), **(args or {})}
    given = [f"--build-arg={name}={value}" for name, value in build_args.items()]
    with step(f"building {tag} from {dockerfile.name}"):
        build = (
            "bud",
            "--layers",
            "--force-rm",
            "--quiet",
            "--timestamp=0",
            "--pull-never",
            *_trust(),
            *given,
            f"--file={dockerfile}",
            f"--tag={tag}",
            str(context),
        )
        built = tried_again(lambda: _buildah(*build))
    return _archive(tag, built.splitlines()[-1])


def _trust() -> list[str]:
    """Lets pip in the steps trust the authorities this machine trusts, so that it reaches a package index as we do.

    Single files are mounted, not /etc/ssl/certs, which the package ca-certificates must be able to write.
    """
    authorities = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    if not Path(authorities).exists():
        return []
    settings = cache_root() / "pip.conf"
    text = f"[global]\ncert = {_AUTHORITIES}\ndisable-pip-version-check = true\n"
    if not settings.exists() or settings.read_text() != text:  # another build may be reading it
        settings.write_text(text)
    return [f"--volume={authorities}:{_AUTHORITIES}:ro", f"--volume={settings}:/etc/pip.conf:ro"]


def _archive(tag: str, image_id: str) -> Path:
    """Writes the image once; of archives of what the tag meant before, the newest few are kept."""
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    stem = tag.replace("/", "_").replace(":", "_")
    target = folder / f"{stem}-{image_id[:12]}.tar"
    if not target.exists():
        unfinished = folder / f".{target.name}.{os.getpid()}"
        _buildah("push", "--quiet", image_id, f"docker-archive:{unfinished}:{tag}")
        unfinished.rename(target)
    target.touch()
    # What has a dot in front was left by a run that was killed while it wrote.
    remove_old([*folder.glob(f"{stem}-*.tar")], _KEPT)
    remove_old([*folder.glob(f".{stem}-*.tar.*")], 0)
    return target


def remove_old(archives: Iterable[Path], kept: int) -> None:
    """Removes all but the newest, and what may be in use. Others may remove the same at the same time."""
    ages: list[tuple[float, Path]] = []
    for archive in archives:
        with suppress(FileNotFoundError):
            ages.append((time.time() - archive.stat().st_mtime, archive))
    for age, archive in sorted(ages)[kept:]:
        if age > _IN_USE_SECONDS:
            archive.unlink(missing_ok=True)

"""K8s.image and K8s.image-reference: what the pods of a cluster run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from common.model import Failed, FailureCode, Ok, Outcome, Scalar

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.types import PodImages


SUBTYPES: Final = ("image", "image-reference")


class Image(NamedTuple):
    """An image reference taken apart; tag and digest are empty when there is none."""

    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Without registry and path."""
        return self.repository.rpartition("/")[2]


def parse_image(reference: str) -> Image:
    """`registry:5000/path/name:tag@sha256:...`; a port is no tag."""
    rest, _, digest = reference.partition("@")
    path, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    return Image(f"{path}{slash}{name}", tag, digest)


def parse_images(references: Iterable[str]) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """Name → tags, and full name → tags and digests; several are sorted and joined by `,`."""
    tags: defaultdict[str, set[str]] = defaultdict(set)
    full: defaultdict[str, set[str]] = defaultdict(set)
    for image in map(parse_image, references):
        if not image.name:
            continue
        tags[image.name].add(image.tag or "latest")
        exact = f"{image.tag}@{image.digest}" if image.tag and image.digest else image.tag or image.digest
        full[image.repository].add(exact or "latest")
    return _joined(tags), _joined(full)


def _joined(sets: Mapping[str, set[str]]) -> dict[str, Scalar]:
    return {key: ",".join(sorted(values)) for key, values in sets.items()}


def _add_images(found: set[str], pod: "PodImages") -> None:
    spec = pod.spec
    for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers):
        found.update(container.image for container in containers)


async def read_images(kube: "Kube", most: int = 0) -> dict[str, Outcome]:
    """Both subtypes. With `most`, a cluster of more pods is not read but for their number. Raises KubeError."""
    from common.kube.call import path_of
    from common.kube.types import PodImages

    pods = path_of("v1", "pods")
    if most and await _count(kube, pods) > most:
        reason = f"the cluster has more than {most:,} pods, too many to be read for every snapshot"
        return dict.fromkeys(SUBTYPES, Failed(FailureCode.TOO_LARGE, reason))
    found, _ = await kube.fold(pods, PodImages, set[str], _add_images)
    names, references = parse_images(found)
    return {"image": Ok(names), "image-reference": Ok(references)}


async def _count(kube: "Kube", path: str) -> int:
    """How many objects a collection has. One small answer, however many they are."""
    from common.kube.client import METADATA_LIST
    from common.kube.types import Metadata, Page

    page = await kube.get(path, Page[Metadata], {"limit": 1}, accept=METADATA_LIST)
    return len(page.items or ()) + page.metadata.remaining_item_count

"""What a user may choose about an installation."""

from typing import Final

import msgspec

from common.errors import UsageError

NAMESPACE: Final = "eidos"
PART_OF: Final = "app.kubernetes.io/part-of"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
COMPONENT: Final = "app.kubernetes.io/component"
NAME: Final = "app.kubernetes.io/name"
PRODUCT: Final = "eidos"
SETTINGS_ANNOTATION: Final = "eidos.nvidia.com/install"
"""On the Deployment: the Settings it was installed with, as JSON, so that an upgrade keeps them."""
CREATED_ANNOTATION: Final = "eidos.nvidia.com/created-by"
"""On the namespace: that it was not there before, so that it goes with the installation."""

_EXCLUSIVE: Final = frozenset(("restricted", "talos"))


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Configuration of one installation; the defaults are those of the manifests."""

    namespace: str = NAMESPACE
    overlays: tuple[str, ...] = ()
    """Names of manifests/fleet/components."""
    agent_image: str = ""
    aggregator_image: str = ""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = {}
    """Of the agents; added to what an overlay selects."""

    def remembered(self) -> str:
        """As JSON, without what is as it would be anyway: equal settings give equal text."""
        said = msgspec.to_builtins(self)
        usual = msgspec.to_builtins(Settings())
        return msgspec.json.encode({name: value for name, value in said.items() if value != usual[name]}).decode()


def check_overlays(chosen: tuple[str, ...], known: list[str]) -> None:
    """Raise UsageError for an overlay that is not there, and for two that contradict each other."""
    for name in chosen:
        if name not in known:
            raise UsageError(f"there is no overlay {name!r}", f"Choose from {', '.join(known)}.")
    if set(chosen) >= _EXCLUSIVE:
        raise UsageError(
            "the overlays restricted and talos exclude each other",
            "Restricted agents mount nothing of the host, on Talos too.",
        )

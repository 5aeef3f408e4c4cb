"""Which cluster a caller means; a module of its own so that naming one costs no imports."""

from typing import NamedTuple


class ClusterChoice(NamedTuple):
    """None means what kubectl would take."""

    kubeconfig: str | None = None
    context: str | None = None

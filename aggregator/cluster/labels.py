"""The labels of what the aggregator makes."""

from typing import Final

LABELS: Final = {
    "app.kubernetes.io/name": "eidos",
    "app.kubernetes.io/component": "aggregator",
    "app.kubernetes.io/part-of": "eidos",
}

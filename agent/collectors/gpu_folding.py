"""Folding of equal GPUs: one entry per fact and value, with the indexes of the GPUs that have it. Pure."""

from common.model import Scalar
from common.nodeset import fold_indexes


class Folding:
    """Collects facts GPU by GPU and gives them back folded.

    Eight equal GPUs give `vbios-version[0-7]`, an odd one gives `vbios-version[0-2,4-7]` and `vbios-version[3]`.
    """

    def __init__(self) -> None:
        # The type is part of the key: to Python 1 and True are the same.
        self._facts: dict[str, dict[str, dict[tuple[type, Scalar], list[int]]]] = {}
        self._plain: dict[str, dict[str, Scalar]] = {}
        self._told: set[tuple[str, str, int]] = set()

    def put(self, subtype: str, fact: str, index: int | None, value: Scalar | None) -> None:
        """A fact of the GPU with this index, or of the node when it is None. A value of None is no fact.

        Where two sources tell the same fact, the first one counts: a folded key has one value.
        """
        if value is None:
            return
        if index is None:
            self._plain.setdefault(subtype, {}).setdefault(fact, value)
        elif (subtype, fact, index) not in self._told:
            self._told.add((subtype, fact, index))
            holders = self._facts.setdefault(subtype, {}).setdefault(fact, {})
            holders.setdefault((type(value), value), []).append(index)

    def folded(self) -> dict[str, dict[str, Scalar]]:
        """Subtype to data; a subtype without facts is not there."""
        data = {subtype: dict(facts) for subtype, facts in self._plain.items()}
        for subtype, facts in self._facts.items():
            into = data.setdefault(subtype, {})
            for fact, holders in facts.items():
                for (_, value), indexes in holders.items():
                    into[f"{fact}[{fold_indexes(indexes)}]"] = value
        return data

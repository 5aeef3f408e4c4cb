"""What a request for objects asks: which form, which objects, from which version. Pure."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec

from aggregator.apiservice.status import StatusError
from aggregator.selector import MOST_TERMS, LabelSelector
from aggregator.users import YES

_GROUP: Final = "meta.k8s.io"
_LARGEST: Final = 2**63 - 1
_MOST_SECONDS: Final = 24 * 3600


class Form(Enum):
    """How objects are shown."""

    PLAIN = auto()
    TABLE = auto()
    """meta.k8s.io/v1 Table: what `kubectl get` prints. With each row the object's metadata, for label columns."""
    TABLE_OF_OBJECTS = auto()
    """With each row the object, for sorting by its fields."""
    TABLE_ALONE = auto()
    METADATA = auto()
    """meta.k8s.io/v1 PartialObjectMetadata."""

    @property
    def is_table(self) -> bool:
        """Whether it has rows and columns."""
        return self in _TABLES.values()


_TABLES: Final = {
    "": Form.TABLE,
    "Metadata": Form.TABLE,
    "Object": Form.TABLE_OF_OBJECTS,
    "None": Form.TABLE_ALONE,
}
"""By the query's `includeObject`."""


def wanted_form(accept: str, include_object: str = "") -> Form:
    """The first form offered that is spoken. Raises StatusError (400, 406)."""
    form = _offered(accept)
    if form is Form.TABLE and include_object not in _TABLES:
        raise StatusError(400, f"includeObject must be one of None, Metadata, Object, not {include_object[:40]!r}")
    return _TABLES[include_object] if form is Form.TABLE else form


def _offered(accept: str) -> Form:
    for part in (accept or "*/*").split(",")[:32]:
        media, *parameters = (text.strip() for text in part.split(";"))
        asked = dict(text.partition("=")[::2] for text in parameters)
        if media not in ("application/json", "application/*", "*/*"):
            continue
        form = asked.get("as", "")
        if not form:
            return Form.PLAIN
        if asked.get("g") == _GROUP and asked.get("v") == "v1":
            if form == "Table":
                return Form.TABLE
            if form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return Form.METADATA
    raise StatusError(406, "only application/json is spoken, and Table and PartialObjectMetadata of meta.k8s.io/v1")


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a yes-or-no parameter says yes."""
    return query.get(name, "") in YES


def number(query: Mapping[str, str], name: str, most: int = _LARGEST) -> int:
    """A parameter that is a number; 0 when it is not given. Raises StatusError (400)."""
    text = query.get(name, "") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise StatusError(400, f"{name} must be a number from 0 to {most}")
    return int(text)


def watch_seconds(query: Mapping[str, str]) -> int:
    """How long a watch is asked to last; 0 leaves it to us. Raises StatusError."""
    return number(query, "timeoutSeconds", _MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects: by label as kubectl's -l, by field as its --field-selector."""

    labels: LabelSelector
    fields: tuple[tuple[str, str, bool], ...] = ()
    """Field, value, and whether it must have another one."""

    @classmethod
    def read(cls, query: Mapping[str, str], known: frozenset[str]) -> "Selection":
        """`known` are the fields there are. Raises UsageError, StatusError."""
        fields = []
        terms = query.get("fieldSelector", "").split(",")
        if len(terms) > MOST_TERMS:
            raise StatusError(400, f"the field selector has more than {MOST_TERMS} terms")
        for term in filter(None, (text.strip() for text in terms)):
            key, equals, value = term.partition("=")
            negated = key.endswith("!")
            key = key.removesuffix("!").strip()
            if not equals or key not in known:
                raise StatusError(
                    400, f"{term[:80]!r} is not a field selector here: fields are {', '.join(sorted(known))}"
                )
            fields.append((key, value.removeprefix("=").strip(), negated))
        return cls(LabelSelector.read(query.get("labelSelector", "")), tuple(fields))

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not self.labels.terms and not self.fields

    def matches(self, labels: Mapping[str, str], field: Callable[[str], str]) -> bool:
        """Whether an object is among them; `field` gives the value of a field."""
        return self.labels.matches(labels) and all(
            (field(key) == value) is not negated for key, value, negated in self.fields
        )


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended: the list's version and the last name shown."""

    version: int
    name: str

    def token(self) -> str:
        """As a client gives it back."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def read(cls, token: str) -> "Place":
        """Raises StatusError (400) for what is no token of ours."""
        try:
            return msgspec.json.decode(urlsafe_b64decode(token), type=cls)
        except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
            raise StatusError(400, "the continue parameter is not one that was given") from error

"""Reading of YAML and JSON bytes that nobody vouches for: limits first, one clear sentence on anything wrong.

YAML is read event by event (libyaml), so nothing is built that the limits forbid. Refused: anchors and aliases
(a few lines of them expand to gigabytes), merge keys, tags that ask for more than plain values, a key given twice,
a second document. A plain scalar becomes a number only if that number is written just so: `24.10`, `0o17`, `1:30`,
`1_000`, dates and `yes` stay the text they are, and nothing read is lost (cf. YAML 1.2.2, 10.3 core schema).
"""

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from common.errors import Code, InputError

if TYPE_CHECKING:
    import yaml

MOST_BYTES: Final = 64 << 20
"""Longest document read, in bytes."""
MOST_VALUES: Final = 1_000_000
"""Most keys and values in one document."""
MOST_LEVELS: Final = 32
"""Deepest nesting; a Snapshot has seven levels."""

_PLAIN_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "bool", "int", "float", "null"))
_TEXT_TAGS: Final = frozenset(("!", "tag:yaml.org,2002:str"))
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:e[-+][0-9]+)?|-?[1-9]e[-+][0-9]+")


class Document(NamedTuple):
    """What was read: mappings with text keys, lists, text, int, float (finite), bool, None."""

    value: object
    lines: dict[int, int]
    """Line (from 1) on which a mapping or list begins, by its id(); empty for JSON."""


class _DocumentError(Exception):
    """What is wrong, and the line if known. Becomes an InputError that names the source."""

    def __init__(self, problem: str, line: int = 0, code: Code = Code.INPUT_MALFORMED, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.code = code
        self.hint = hint


def load_document(data: bytes, source: str) -> object:
    """The YAML or JSON document in `data`: dict, list, str, int, float, bool or None, nested.

    `source` is what the caller calls the document in messages. Raises InputError.
    """
    return parse_document(data, source).value


def parse_document(data: bytes, source: str) -> Document:
    """As load_document, with the lines on which mappings and lists begin. Raises InputError."""
    try:
        text = _checked(data)
        if text[:64].lstrip()[:1] in ("{", "["):
            try:
                return Document(_parse_json(text), {})
            except json.JSONDecodeError:
                return _parse_yaml(data, "JSON or YAML")  # flow style looks like JSON until it does not
        return _parse_yaml(data, "YAML")
    except _DocumentError as error:
        where = f"{source_name(source)}, line {error.line}," if error.line else source_name(source)
        raise InputError(error.code, f"{where} {error.problem}", error.hint) from error


def source_name(source: str) -> str:
    """What a document's source is called in a sentence."""
    return "standard input" if source == "-" else source


def float_text(number: float) -> str:
    """A finite float as text that every YAML reader takes for a float: PyYAML wants the dot in `1.0e+16`."""
    text = repr(number)
    return text.replace("e", ".0e", 1) if "e" in text and "." not in text else text


def _checked(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise _DocumentError(f"is longer than {MOST_BYTES >> 20} MiB", code=Code.INPUT_TOO_LARGE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _DocumentError(f"is not text: byte 0x{data[error.start]:02x} is not UTF-8", line) from error
    if "\0" in text:
        raise _DocumentError("is not text: it holds zero bytes")
    if not text.strip():
        raise _DocumentError("is empty")
    return text


# ---- JSON ----


def _parse_json(text: str) -> object:
    if text.count(",") > 4 * MOST_VALUES:  # json builds all before we could count; commas inside of texts are few
        raise _DocumentError("holds too many values", code=Code.INPUT_TOO_LARGE)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_json_integer,
            parse_float=_json_float,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise _DocumentError(f"is nested deeper than {MOST_LEVELS} levels") from error
    _check_json(value, escapes="\\u" in text)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DocumentError(f"has the key {_shown(key)} twice in one mapping")
            seen.add(key)
    return mapping


def _json_integer(text: str) -> int | str:
    return _integer(text) if len(text) <= 20 else text


def _json_float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _refuse_constant(text: str) -> NoReturn:
    raise _DocumentError(f"holds {text}, which is no JSON value")


def _check_json(root: object, escapes: bool) -> None:
    """The limits YAML has while it is read. Escapes can smuggle in half a surrogate pair, which is no character."""
    level: list[object] = [root]
    values = depth = 0
    while level:
        values += len(level)
        if values > MOST_VALUES:
            raise _DocumentError("holds too many values", code=Code.INPUT_TOO_LARGE)
        if escapes and any(isinstance(item, str) and not _is_unicode(item) for item in level):
            raise _DocumentError("holds a \\u escape that is no character")
        containers = [item for item in level if isinstance(item, dict | list)]
        depth += 1
        if containers and depth > MOST_LEVELS:
            raise _DocumentError(f"is nested deeper than {MOST_LEVELS} levels")
        level = [inner for container in containers for inner in _inside(container)]


def _inside(container: dict[str, object] | list[object]) -> Iterator[object]:
    if isinstance(container, dict):
        yield from container  # keys count too, and may hold escapes
        yield from container.values()
    else:
        yield from container


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# ---- YAML ----


def _parse_yaml(data: bytes, form: str) -> Document:
    import yaml  # here, so that programs that read nothing do not load it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise _DocumentError(f"is not valid {form}: {problem}", mark.line + 1 if mark else 0) from error
    except yaml.YAMLError as error:  # the reader's: characters YAML does not allow
        reason = getattr(error, "reason", None) or "it cannot be read"
        raise _DocumentError(f"is not valid {form}: {reason}") from error
    return Document(builder.root, builder.lines)


class _Builder:
    """Puts a stream of YAML events together into plain values, without recursion."""

    def __init__(self) -> None:
        self.root: object = None
        self.lines: dict[int, int] = {}
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []  # of each open mapping: the key that waits for its value
        self._documents = 0
        self._values = 0

    def take(self, event: "yaml.Event") -> None:
        """Take the next event. Raises _DocumentError."""
        name = type(event).__name__  # comparing names spares the import of yaml.events at module level
        if name == "ScalarEvent":
            self._scalar(event)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            self._begin(event, {} if name == "MappingStartEvent" else [])
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self._open.pop()
            self._keys.pop()
        elif name == "AliasEvent":
            raise _DocumentError("uses an alias, which is not read", _line(event))
        elif name == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise _DocumentError("begins a second document; only one is read", _line(event))

    def _begin(self, event: Any, container: dict[str, object] | list[object]) -> None:
        self._check(event)
        if event.tag is not None and event.tag not in _PLAIN_TAGS and event.tag != "!":
            raise _DocumentError(f"has the tag {_shown(event.tag)}, which is not read", _line(event))
        if len(self._open) >= MOST_LEVELS:
            raise _DocumentError(f"is nested deeper than {MOST_LEVELS} levels", _line(event))
        if self._awaits_key():
            raise _DocumentError("has a key that is not text", _line(event))
        self._put(container)
        self.lines[id(container)] = _line(event)
        self._open.append(container)
        self._keys.append(None)

    def _scalar(self, event: Any) -> None:
        self._check(event)
        plain = event.tag in _PLAIN_TAGS or (event.tag is None and event.implicit[0])
        if event.tag is not None and event.tag not in _PLAIN_TAGS and event.tag not in _TEXT_TAGS:
            raise _DocumentError(f"has the tag {_shown(event.tag)}, which is not read", _line(event))
        if not self._awaits_key():
            self._put(_resolve(event.value) if plain else event.value)
            return
        # A key is the text that stands there, whatever it may look like: kernel parameters are called `on` and `1`.
        mapping: Any = self._open[-1]
        if event.value == "<<" and plain:
            raise _DocumentError("uses a merge key, which is not read", _line(event))
        if event.value in mapping:
            raise _DocumentError(f"has the key {_shown(event.value)} twice in one mapping", _line(event))
        self._keys[-1] = event.value

    def _check(self, event: Any) -> None:
        if event.anchor is not None:
            raise _DocumentError("uses an anchor, which is not read", _line(event))
        self._values += 1
        if self._values > MOST_VALUES:
            raise _DocumentError("holds too many values", _line(event), Code.INPUT_TOO_LARGE)

    def _awaits_key(self) -> bool:
        return bool(self._open) and self._keys[-1] is None and isinstance(self._open[-1], dict)

    def _put(self, value: object) -> None:
        if not self._open:
            self.root = value
        elif isinstance(container := self._open[-1], list):
            container.append(value)
        elif (key := self._keys[-1]) is not None:
            container[key] = value
            self._keys[-1] = None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _resolve(text: str) -> object:
    """A plain scalar's value; see the module's docstring."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    first = text[0]
    if first != "-" and not "0" <= first <= "9":
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if len(text) <= 32 and _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number if text in (repr(number), float_text(number)) else text
    return text


def _integer(text: str) -> int | str:
    """Integers that fit into 64 bits; what is longer stays text rather than lose a digit somewhere else."""
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 64 and text != "-0" else text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

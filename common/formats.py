"""Snapshots as YAML and JSON bytes, and back. docs/snapshot-format.md describes the document.

Writing is deterministic: keys in the order given, block style, nothing folded, and text that a reader of YAML 1.1
or 1.2 might take for something else in quotes. Reading is for bytes nobody vouches for (`common/document.py`) and
for all three generations of the document.
"""

import math
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from common.document import float_text, load_document, parse_document
from common.model import Snapshot
from common.snapshot_reader import read_snapshot

if TYPE_CHECKING:
    import yaml

__all__ = ["Format", "dump", "dump_plain", "load_document", "load_snapshot"]


class Format(StrEnum):
    """How a result is written. `table` is for people and is rendered by the command line alone."""

    YAML = "yaml"
    JSON = "json"
    TABLE = "table"


# What some reader takes for a null, boolean, number, date, merge key or default value (YAML 1.1 types; 1.2.2, 10.3).
_MISTAKABLE: Final = re.compile(
    r"""
      | ~ | null | true | false | yes | no | on | off | y | n
      | [-+]? 0 [box]? [0-9a-f_]+
      | [-+]? [0-9_,]* (?: : [0-9]+ )* \.? [0-9_]* (?: e [-+]? [0-9]+ )?
      | [-+]? \. (?: inf | nan )
      | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} (?: [t\ \t] .* )?
      | = | <<
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_WIDEST: Final = (1 << 31) - 1


def dump(snapshot: Snapshot, output_format: Format) -> bytes:
    """The document as bytes, ending in a newline. Equal snapshots give equal bytes."""
    return dump_plain(snapshot, output_format)


def dump_plain(value: object, output_format: Format) -> bytes:
    """Any msgspec structs, mappings, lists and scalars as YAML or JSON, keys in the order they have.

    Numbers that are not finite and halves of surrogate pairs, which not every reader takes, are written as text.
    """
    plain = _writable(msgspec.to_builtins(value, str_keys=True))
    if output_format is Format.JSON:
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
    if output_format is Format.YAML:
        return _yaml(plain)
    raise ValueError(f"a {output_format} is not a document")


def load_snapshot(data: bytes, source: str) -> Snapshot:
    """Read a Snapshot of any generation. `source` names it in messages. Raises InputError."""
    return read_snapshot(parse_document(data, source), source)


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _yaml(plain: object) -> bytes:
    import yaml  # here, so that programs that write none do not load it

    events: list[yaml.Event] = [yaml.StreamStartEvent(), yaml.DocumentStartEvent(explicit=False)]
    _add_events(events, plain)
    events += (yaml.DocumentEndEvent(explicit=False), yaml.StreamEndEvent())
    # Straight to libyaml's emitter: three times as fast as yaml.dump, whose tree of nodes it spares.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.emit(events, Dumper=dumper, allow_unicode=True, width=_WIDEST)
    return text.encode()


def _add_events(events: "list[yaml.Event]", value: object) -> None:
    from yaml import MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

    if isinstance(value, dict):
        events.append(MappingStartEvent(None, None, True, flow_style=not value))
        for key, inner in value.items():
            events.append(ScalarEvent(None, None, (True, True), key, style=_style(key)))
            if isinstance(inner, str):  # nearly all values are text
                events.append(ScalarEvent(None, None, (True, True), inner, style=_style(inner)))
            else:
                _add_events(events, inner)
        events.append(MappingEndEvent())
    elif isinstance(value, list):
        events.append(SequenceStartEvent(None, None, True, flow_style=not value))
        for inner in value:
            _add_events(events, inner)
        events.append(SequenceEndEvent())
    elif isinstance(value, str):
        events.append(ScalarEvent(None, None, (True, True), value, style=_style(value)))
    else:
        events.append(ScalarEvent(None, None, (True, True), _bare(value)))


def _style(text: str) -> str | None:
    """Quotes for text that could be mistaken, or that has characters best seen escaped; else the emitter decides."""
    return None if text.isprintable() and not _MISTAKABLE.fullmatch(text) else '"'


def _bare(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return float_text(value) if isinstance(value, float) else str(value)

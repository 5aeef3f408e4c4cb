"""What CEL's parser says of text that is no expression, in words for people. Pure."""

import re
from typing import Final

_SYNTAX: Final = "Syntax error: "
_EXPECTING: Final = " expecting "
_AT: Final = re.compile(
    r"(?:(?:mismatched|extraneous) input|no viable alternative at input|token recognition error at:) '(?P<found>.*)'"
)
_MISSING: Final = re.compile(r"missing (?P<missing>'.*') at '(?P<found>.*)'")
_TEXT: Final = re.compile(r"[bBrR]{0,2}[\"']")
_END: Final = "<EOF>"
_INSTEAD: Final = {
    "=": "Equal is written ==.",
    "and": "And is written &&.",
    "&": "And is written &&.",
    "or": "Or is written ||.",
    "|": "Or is written ||.",
    "“": 'Text stands between straight quotes: "…".',
    "‘": 'Text stands between straight quotes: "…".',
    "<": "Unequal is written !=.",
    ">": "Unequal is written !=.",
}


def grammar_fault(text: str, is_at_end: bool) -> tuple[str, str]:
    """What is wrong, and what to write instead or nothing; both empty when the words are not the parser's."""
    if not text.startswith(_SYNTAX):
        return "", ""
    text = text.removeprefix(_SYNTAX)
    if lacking := _MISSING.fullmatch(text):
        return f"{lacking['missing']} is missing{_where(lacking['found'])}", ""
    words, expecting, expected = text.rpartition(_EXPECTING)
    match = _AT.fullmatch(words if expecting else text)
    if match is None:
        return text, ""
    found = match["found"].strip()
    if found == _END or (is_at_end and not expecting):
        is_one = expecting and len(expected) <= len("':'")
        return f"{expected if is_one else 'something'} is missing at the end", ""
    if _TEXT.match(found) and not expecting:
        return "the text that begins here has no closing quote, or a backslash before what needs none", ""
    return f"'{found}' cannot stand here", _INSTEAD.get(found, "")


def _where(found: str) -> str:
    return " at the end" if found == _END else f" before '{found}'"

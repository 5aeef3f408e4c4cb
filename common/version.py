"""The version of Eidos and of what it writes. Constants only, so that `eidos --help` may import it cheaply."""

from typing import Final

VERSION: Final = "0.1.0"

SCHEMA: Final = 1
"""Version of what goes into a digest. It is mixed into every digest, so raising it never looks like a change."""

"""Names and texts from files, as they may stand in a table or on a terminal."""

from __future__ import annotations

import unicodedata


def is_printable(text: str) -> bool:
    """Say whether a text has neither control characters nor halves of characters, which no table can keep."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def printable(text: str) -> str:
    r"""Write what is not printable as Python does, so that no name or path can steer a terminal.

    >>> printable("a\x1b[31m b")
    'a\\x1b[31m b'
    """
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Do as :func:`printable`, but keep the ends of lines."""
    return "\n".join(map(printable, text.split("\n")))

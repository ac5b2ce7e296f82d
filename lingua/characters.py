"""Characters of a text as numbers, and classes of characters as tables: what regular expressions say, all at once."""

from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import regex

Bools = npt.NDArray[np.bool_]


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character [n]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@lru_cache(maxsize=16)
def members(character: str) -> Bools:
    """Whether each code point is matched by the expression, which stands for one character: a table of 1.1 MB."""
    found = np.zeros(sys.maxunicode + 1, bool)
    for run in regex.finditer(rf"(?:{character})+", _all_characters(), regex.V1):
        found[run.start() : run.end()] = True
    return found


def _all_characters() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


def are(character: str, text: str) -> Bools:
    """Whether each character of `text` [n] is matched by the expression."""
    return members(character)[code_points(text)]

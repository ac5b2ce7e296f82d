"""Words as matching needs them: where they stand in a text, punctuation apart, in every script."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import regex

from lingua.prompt import Span

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_CHARACTER = rf"[{_UNSPACED}]\p{{M}}*"
_LETTERS = rf"[\w--[{_UNSPACED}]]+"
_WORD = regex.compile(rf"{_CHARACTER}|{_LETTERS}", regex.V1)
_GRAM = regex.compile(rf"{_CHARACTER}(?=({_CHARACTER}))|(?<!{_CHARACTER}){_CHARACTER}|{_LETTERS}", regex.V1)
"""A character and the next one, one alone, or a word."""
_MARK = regex.compile(r"[^\w\s]")
_WORD_OR_MARK = regex.compile(rf"{_WORD.pattern}|{_MARK.pattern}", regex.V1)
_RUN = regex.compile(rf"{_WORD_OR_MARK.pattern}|\s+", regex.V1)
_SPACE = regex.compile(r"\s+")


class Run(NamedTuple):
    """A word, a mark or white space as it is written.

    key       case folded; empty for white space
    size      characters
    small, capital, capitals     whether a word begins with a small or a capital letter, and how many capitals it has
    """

    key: str
    size: int
    word: bool
    small: bool
    capital: bool
    capitals: int


@lru_cache(maxsize=1 << 16)
def _run(written: str) -> Run:
    if _SPACE.fullmatch(written):
        return Run("", len(written), False, False, False, 0)
    word, first = written.isalnum() or is_word(written), written[0]
    capital = first.isupper() or first.istitle()
    return Run(written.casefold(), len(written), word, first.islower(), capital, sum(map(str.isupper, written)))


def runs(text: str) -> list[Run]:
    """Words, single marks and the white space between them, in order; they add up to `text`."""
    return list(map(_run, _RUN.findall(text)))


def keys(text: str) -> set[str]:
    """The distinct words and marks of `text`, case folded."""
    return {_run(written).key for written in set(_RUN.findall(text))} - {""}


def terms(text: str) -> list[str]:
    """The words of `text`, case folded; where a script writes no spaces, its characters."""
    return [found.group().casefold() for found in _WORD.finditer(text)]


def grams(text: str) -> list[str]:
    """What two texts about the same have in common: words; where a script writes no spaces, pairs of its characters."""
    return [(found.group() + (found.group(1) or "")).casefold() for found in _GRAM.finditer(text)]


def word_spans(text: str) -> list[Span]:
    """Where words and single punctuation marks stand in `text`, ascending."""
    return [found.span() for found in _WORD_OR_MARK.finditer(text)]


def is_word(text: str) -> bool:
    """Whether what `word_spans` found is a word and no mark."""
    return _MARK.fullmatch(text) is None

"""Words as matching needs them: where they stand in a text, punctuation apart, in every script."""

from __future__ import annotations

import regex

from lingua.prompt import Span

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+", regex.V1)
_MARK = regex.compile(r"[^\w\s]")
_WORD_OR_MARK = regex.compile(rf"{_WORD.pattern}|{_MARK.pattern}", regex.V1)


def terms(text: str) -> list[str]:
    """The words of `text`, case folded; where a script writes no spaces, its characters."""
    return [found.group().casefold() for found in _WORD.finditer(text)]


def word_spans(text: str) -> list[Span]:
    """Where words and single punctuation marks stand in `text`, ascending."""
    return [found.span() for found in _WORD_OR_MARK.finditer(text)]


def is_word(text: str) -> bool:
    """Whether what `word_spans` found is a word and no mark."""
    return _MARK.fullmatch(text) is None

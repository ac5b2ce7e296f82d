"""Who says what: speeches of conversations, with the label of each, and parts of a text that a word labels."""

from __future__ import annotations

from itertools import pairwise

import regex

from lingua.text.lines import BEFORE, CLOCK, PARAGRAPH, STAMPED, opening, plain
from lingua.text.phrases import either, phrases
from lingua.text.words import remembered

_NAMED = (
    r"(?:\p{Lu}|(?<=\d[^\w\n]{0,3})\p{Ll})[\p{L}\p{N}.'’-]{0,20}(?:[^\S\n][\p{Lu}\p{N}][\p{L}\p{N}.'’-]{0,15}){0,2}"
    r"|\p{Han}{1,6}"
)
_SPEAKER = either(
    rf"^[^\S\n]*(?:{CLOCK}|[*_]{{1,2}})?"
    rf"(?:(?P<role>(?i:{phrases('speaks', '')})(?:[^\S\n]\w{{1,2}})?)(?:[^\S\n]\([^()\n]{{1,30}}\))?|{_NAMED})"
    rf"(?:{CLOCK})?(?:[*_]{{1,2}})?\s?(?:[:：](?:[*_]{{1,2}})?(?=\s)|：)",
    rf"^(?P<role>{STAMPED.pattern})",
    r"^(?P<role>[\p{L} ]{0,20}\[\d{1,3}\]:?[^\S\n]?(?:\((?:[^()\n]|\([^()\n]*\)){1,150}\)|[^\n:.!?]{1,60}:)(?=\s))",
    flags=regex.MULTILINE,
)
_SAID = regex.compile(rf"{PARAGRAPH.pattern}|\n(?=\p{{Lu}}[^\n:!?]{{1,30}}:\s)")
_SECTION = regex.compile(r"(?<=[.!?][\"”’)\]]?[^\S\n])\p{Lu}[\p{L}’-]*(?:[^\S\n][\p{L}&’-]+){0,2}:(?=[^\S\n])")
_TITLE = regex.compile(r"(?:[^\S\n]+[^\s.!?]+){1,12}[^\S\n]*(?=\n[^\n]{50})")
"""Who speaks, in a line by itself or before a colon; what a paragraph, its part, a passage is; and its title."""


@remembered
def speeches(text: str) -> list[tuple[int, int, int]]:
    """Where each speech begins, the label ends that says whose it is, and the speech.

    What no role labels, such as a name, or *Abstract*, is a paragraph, or ends at a line or sentence with another.
    """
    text = plain(text)
    labels = list(opening(_SPEAKER, text) if ":" in text or "：" in text else ())
    begins = [BEFORE.match(text, 0, found.start()).start() for found in labels]
    found = list[tuple[int, int, int]]()
    for label, (begin, end) in zip(labels, pairwise([*begins, len(text)]), strict=True):
        title = (_TITLE.match(text, label.end(), end) or label).end()
        last = end if label["role"] or not (gap := _SAID.search(text, label.end(), end)) else gap.start()
        parts = [] if label["role"] else [one.span() for one in _SECTION.finditer(text, title, last)]
        starts = [begin, *(BEFORE.match(text, 0, at).start() for at, _ in parts)]
        found += zip(starts, [title, *(closed for _, closed in parts)], [*starts[1:], last], strict=True)
    return found

"""Where sentences, clauses and phrases begin, in every script: `sentencex` for sentences, rules for the others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import regex
import sentencex

from lingua.prompt import Span
from lingua.text.words import Ints, are, uncut, word_edges

Bools = npt.NDArray[np.bool_]

LANGUAGE = "en"
"""Whose abbreviations `sentencex` knows; the marks that end a sentence are those of all scripts."""
PHRASE_WORDS = 8
CLAUSE_WORDS = 3
"""Words of a clause at least: what a comma parts off in fewer stays with what stands before."""
_SHORT_WORD = 3
_LOWER = r"\p{Ll}"
_ENDS_PHRASE = r"[\p{P}--['’\-\p{Ps}\p{Pi}]]"
_SEPARATES = r"[,:;،؛၊、，；–—]"
_ENDS_SENTENCE = r"[.!?…؟।。．！？]"
_PAIRS = (("(", ")"), ("[", "]"), ("“", "”"), ("（", "）"), ("「", "」"), ("«", "»"))
_ENCLOSED = regex.compile(
    "|".join([*(rf"\{a}[^\{a}\{b}]{{1,300}}\{b}" for a, b in _PAIRS), r"(?<!\w)\"[^\"\n]{1,300}\""])
)
_ENDED_LINE = regex.compile(rf"(?<={_ENDS_SENTENCE})[^\S\n]*\n(?=\s*\S)")
_SPACE = r"\s"
_PARAGRAPH = regex.compile(r"\n\r*\n")
SEEN_AT_ONCE = 2_000
"""Characters of a paragraph that `sentencex` is shown: its work grows with their square."""


def sentence_edges(text: str) -> Ints:
    """Characters at which sentences begin, ascending; white space between two belongs to the later one.

    A line that ends with the mark of a sentence ends one.
    """
    sizes = [len(sentence) for sentence in _sentences(text)]
    edges = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if sizes else np.zeros(1, np.int64)
    behind_space = [at for at, edge in enumerate(edges.tolist()) if text[edge - 1 : edge].isspace()]
    edges[behind_space] = [_before_white_space(text, edge) for edge in edges[behind_space].tolist()]
    return np.union1d(edges, [found.start() for found in _ENDED_LINE.finditer(text)]).astype(np.int64)


def _sentences(text: str) -> Iterator[str]:
    """What `sentencex` finds. It reads paragraphs by themselves, so a long one can be shown to it in windows."""
    begin = last = 0
    for end, following in [*(found.span() for found in _PARAGRAPH.finditer(text)), (len(text), len(text))]:
        if end - last > SEEN_AT_ONCE:
            yield from _segment(text[begin:last])
            yield from _in_windows(text, (last, end))
            begin = end
        last = following
    yield from _segment(text[begin:])


def _in_windows(text: str, paragraph: Span) -> Iterator[str]:
    """The last sentence of a window may go on behind it, and is read again. One that fills a window is cut.

    Code, tables and data have such ones: they are cut at a line break, else behind a space.
    """
    begin, end = paragraph
    while end - begin > SEEN_AT_ONCE:
        window = text[begin : begin + SEEN_AT_ONCE]
        whole = _segment(window)[:-1]
        half = SEEN_AT_ONCE // 2
        found = whole or [window[: window.rfind("\n", half) + 1 or window.rfind(" ", half) + 1 or SEEN_AT_ONCE]]
        yield from found
        begin += sum(map(len, found))
    yield from _segment(text[begin:end])


def _segment(text: str) -> list[str]:
    """What `sentencex` finds. Where it fails, which marks of several bytes make it do, the lines stand in."""
    try:
        found: list[str] = sentencex.segment(LANGUAGE, text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust: no Exception, and named by no module
            raise
        found = []
    return found if sum(map(len, found)) == len(text) else text.splitlines(keepends=True)


def _before_white_space(text: str, edge: int) -> int:
    return len(text[max(0, edge - 200) : edge].rstrip()) + max(0, edge - 200)


def clause_edges(text: str, sentences: Ints) -> Ints:
    """Characters at which clauses begin, ascending, `sentences` among them.

    A clause ends at a comma, a semicolon, a dash, a line break, and a colon if no capital follows. None is cut within
    brackets or quotation marks, or has fewer than `CLAUSE_WORDS` words unless its sentence has.
    """
    words = word_edges(text)
    ended = are(r"[\r\n]", text)[words[1:]] | are(_SEPARATES, text)[words[1:] - 1]
    ended &= ~(are(":", text)[words[1:] - 1] & are(r"\p{Lu}", text + " ")[words[1:] + 1])
    wanted = uncut(words[1:][ended], (found.span() for found in _ENCLOSED.finditer(text)))
    begun = np.append(np.searchsorted(words, sentences), len(words))
    place = np.searchsorted(words, wanted)
    own = np.searchsorted(begun, place, side="right") - 1
    edges, last = sentences.tolist(), 0
    for at, begin, end in zip(place.tolist(), begun[own].tolist(), begun[own + 1].tolist(), strict=True):
        if at - max(last, begin) >= CLAUSE_WORDS <= end - at:
            edges.append(int(words[at]))
            last = at
    return np.unique(np.asarray(edges, np.int64))


def closing_marks(text: str, clauses: Ints, sentences: Ints) -> tuple[Ints, Ints]:
    """The characters at which the marks begin that close clauses [c] and sentences [s]; -1: there is none."""
    return _last(text, clauses, _SEPARATES), _last(text, sentences, _ENDS_SENTENCE)


def _last(text: str, begins: Ints, mark: str) -> Ints:
    """The mark with the white space before it."""
    bodies = [text[begin:end].rstrip() for begin, end in pairwise([*begins.tolist(), len(text)])]
    last = begins + np.asarray(list(map(len, bodies)), np.int64) - 1
    before = begins + np.asarray([len(body[:-1].rstrip()) for body in bodies], np.int64)
    return np.where((before > begins) & are(mark, text + " ")[last], before, -1)


def phrase_edges(text: str) -> Ints:
    """Characters at which phrases begin, ascending. A rule for every language, not a parser for one."""
    words = word_edges(text)
    starts = words[1:]
    ended = are(r"[\r\n]", text)[starts] | are(_ENDS_PHRASE, text)[starts - 1]
    edges, size, opened = words[:1].tolist(), 0, True
    for start, ends, opens in zip(starts.tolist(), ended.tolist(), _are_short(text, starts).tolist(), strict=True):
        size += 1
        if ends or size == PHRASE_WORDS or (opens and not opened):
            edges.append(start)
            size = 0
        opened = opens
    return np.asarray(edges, np.int64)


def _are_short(text: str, starts: Ints) -> Bools:
    """Whether a short lower-case word, up to white space, is the first thing at or behind each start."""
    space = np.append(are(_SPACE, text), True)
    begins = _next(~space, starts)
    sizes = _next(space, begins) - begins
    lower = np.concatenate([[0], np.cumsum(are(_LOWER, text))])
    short: Bools = (sizes > 0) & (sizes <= _SHORT_WORD) & (lower[begins + sizes] - lower[begins] == sizes)
    return short


def _next(flags: Bools, places: Ints) -> Ints:
    """The first flagged place at or behind each place; the last one where there is none."""
    flagged = np.append(np.flatnonzero(flags), len(flags) - 1)
    return flagged[np.searchsorted(flagged[:-1], places)]

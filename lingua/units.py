"""Token ids → selection units: what stands or falls together. One code path for token, word, phrase and sentence.

A unit is a run of whole atoms (see `tokens`). A *word* is a run without white space together with the white space
before it, so that kept words never run together; where a script writes no spaces, or a run is long, it is cut at the
word boundaries of Unicode (UAX #29: ideographs one by one). A *phrase* is a run of words up to punctuation or a line
break, of at most eight; where words are spaced, a short lower-case one (*of*, *und*, *que*) opens the next. A
*sentence* is what `sentencex` finds, for some 240 languages. What must be kept (`force_tokens`, digits, line breaks,
`protect`) is cut out as units of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import regex
import sentencex

from lingua.characters import are
from lingua.config import Aggregate, CompressionConfig, Unit
from lingua.errors import PromptError
from lingua.prompt import Span
from lingua.structure.markdown import code_blocks, structure_marks
from lingua.tokens import Encoding, Ints

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

LONG_RUN = 100
"""Characters without white space (a URL, a path) up to which a run is one word; minified JSON is longer."""
PHRASE_WORDS = 8
_SHORT_WORD = 3
_LOWER = r"\p{Ll}"
_ENDS_PHRASE = r"[\p{P}--['’\-\p{Ps}\p{Pi}]]"
_SPACE = r"\s"
_UAX29 = regex.compile(r"(?w)\b")
_PIECE = 1_024
"""Characters of a run that are cut at once: in a row of flags, each boundary looks back to the row's beginning."""
_IDEOGRAPHIC = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_LINE_BREAKS = regex.compile(r"[\r\n]+")
_DIGIT = regex.compile(r"\d")
_PATTERN_SECONDS = 10.0


def word_edges(text: str) -> Ints:
    """Characters at which words begin, ascending."""
    if not text:
        return np.zeros(0, np.int64)
    space = are(_SPACE, text)
    begins = np.concatenate([[0], 1 + np.flatnonzero(space[1:] & ~space[:-1])])
    unspaced = np.diff(begins, append=len(text)) > LONG_RUN
    if not text.isascii():
        unspaced |= np.logical_or.reduceat(are(_IDEOGRAPHIC, text), begins)
    ends = [*begins[1:].tolist(), len(text)]
    runs = ((int(begins[at]), ends[at]) for at in np.flatnonzero(unspaced).tolist())
    inner = [edge for start, end in runs for edge in _inner_edges(text[start:end], start)]
    return np.sort(np.concatenate([begins, np.asarray(inner, np.int64)])) if inner else begins


def _inner_edges(body: str, start: int) -> Iterable[int]:
    """Where the words within a run begin that is long or written without spaces, and begins at `start`."""
    first = len(body) - len(body.lstrip())
    if len(body) - first <= LONG_RUN and (body.isascii() or not are(_IDEOGRAPHIC, body).any()):
        return ()
    pieces = ((at, body[at : at + _PIECE]) for at in range(first, len(body), _PIECE))
    inner = (at + found.start() for at, piece in pieces for found in _UAX29.finditer(piece))
    return (start + edge for edge in inner if first < edge < len(body))


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


def sentence_edges(text: str, language: str) -> Ints:
    """Characters at which sentences begin, ascending; white space between two belongs to the later one."""
    sizes = [len(sentence) for sentence in sentencex.segment(language, text)]
    edges = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if sizes else np.zeros(1, np.int64)
    behind_space = [at for at, edge in enumerate(edges.tolist()) if text[edge - 1 : edge].isspace()]
    edges[behind_space] = [_before_white_space(text, edge) for edge in edges[behind_space].tolist()]
    return edges


def _before_white_space(text: str, edge: int) -> int:
    return len(text[max(0, edge - 200) : edge].rstrip()) + max(0, edge - 200)


def forced_spans(text: str, config: CompressionConfig) -> list[Span]:
    """Character ranges of `text` that must be kept. Raises PromptError when a `protect` pattern takes too long."""
    spans = [found.span() for pattern in _literals(config) for found in pattern.finditer(text)]
    spans += protected_spans(text, config)
    spans += structure_marks(text) if config.keep_structure else []
    if config.force_reserve_digit and _DIGIT.search(text):
        edges = [*word_edges(text).tolist(), len(text)]
        spans += [(a, b) for a, b in pairwise(edges) if _DIGIT.search(text, a, b)]
    return [span for span in spans if span[0] < span[1]]


def literals(text: str, bounds: Ints, known: Sequence[str]) -> Ints:
    """Which of the `known` strings each unit is, white space around it aside [u]; -1: none of them."""
    index = {literal: number for number, literal in enumerate(known)}
    units = (text[start:end] for start, end in pairwise(bounds.tolist()))
    return np.asarray([index.get(unit, index.get(unit.strip(), -1)) for unit in units], np.int64)


def protected_spans(text: str, config: CompressionConfig) -> list[Span]:
    """What the `protect` patterns match in `text`, and code blocks if these are to be kept."""
    spans = code_blocks(text) if config.keep_code_blocks else []
    try:
        found = [one for p in config.protect for one in _pattern(p).finditer(text, timeout=_PATTERN_SECONDS)]
        return spans + [one.span() for one in found]
    except TimeoutError:
        raise PromptError(
            "protect_timeout", f"a protect pattern took over {_PATTERN_SECONDS:.0f} s; simplify it"
        ) from None


def _literals(config: CompressionConfig) -> list[Any]:
    literals = [_pattern(regex.escape(text)) for text in config.force_tokens]
    return [*literals, _LINE_BREAKS] if config.keep_split else literals


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    return regex.compile(pattern)


def unit_edges(text: str, unit: Unit, language: str) -> Ints | None:
    """Characters at which units begin; None: at every atom."""
    if unit == "token":
        return None
    if unit == "phrase":
        return phrase_edges(text)
    return word_edges(text) if unit == "word" else sentence_edges(text, language)


def cut(encoding: Encoding, edges: Ints | None, forced: list[Span]) -> tuple[Ints, Bools]:
    """Cut `encoding` into units at those characters of `edges` and `forced` at which an atom begins.

    Returns the atom at which each unit begins, closed by the number of atoms [u + 1], and which units must be kept [u].
    """
    atoms = len(encoding.bounds) - 1
    if edges is None or atoms == 0:
        starts = np.arange(atoms + 1)
    else:
        wanted = np.concatenate([edges, _atom_edges(encoding.bounds, forced)])
        starts = np.flatnonzero(np.isin(encoding.bounds, wanted))
        starts = np.unique(np.concatenate([[0], starts, [atoms]]))
    return starts.astype(np.int64), _covered(encoding.bounds[starts], forced)


def _atom_edges(bounds: Ints, forced: list[Span]) -> Ints:
    """The edges of the atoms that hold the forced characters: a forced span widens to whole atoms."""
    if not forced:
        return np.zeros(0, np.int64)
    spans = np.asarray(forced, np.int64)
    left = bounds[np.searchsorted(bounds, spans[:, 0], side="right") - 1]
    right = bounds[np.searchsorted(bounds, spans[:, 1], side="left")]
    return np.concatenate([left, right])


def _covered(bounds: Ints, forced: list[Span]) -> Bools:
    """Which of the ranges between consecutive `bounds` overlap a forced span."""
    spans = np.asarray(forced, np.int64).reshape(-1, 2)
    opened = np.searchsorted(bounds, spans[:, 0], side="right") - 1
    closed = np.searchsorted(bounds, spans[:, 1], side="left")
    depth = np.bincount(opened, minlength=len(bounds)) - np.bincount(closed, minlength=len(bounds))
    return np.asarray(np.cumsum(depth)[:-1] > 0)


def unit_scores(surprisal: Floats, starts: Ints, aggregate: Aggregate) -> Floats:
    """Score of each unit from its tokens' surprisal in nats: `starts` [u + 1] are token positions.

    ``sum``: the information of the unit; ``mean``: per token; ``max``: of its most surprising token; ``first``: of the
    token that opens it, when all later ones were still unknown.
    """
    if len(starts) < 2 or not len(surprisal):
        return np.zeros(len(starts) - 1, np.float32)
    if aggregate == "first":
        return surprisal[starts[:-1]]
    if aggregate == "max":
        return np.maximum.reduceat(surprisal, starts[:-1])
    total = np.add.reduceat(surprisal, starts[:-1])
    return total if aggregate == "sum" else (total / np.diff(starts)).astype(np.float32)

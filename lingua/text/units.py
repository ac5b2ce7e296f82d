"""Token ids → selection units, the smallest spans that are kept or dropped: tokens, words, phrases or sentences.

A unit is a run of whole atoms (see `tokens`). A *word* is what `words` finds: a run without white space together with
the white space before it. A *phrase* is a run of words up to punctuation or a line break, of at most eight; where words
are spaced, a short lower-case one (*of*, *und*, *que*) opens the next. A *sentence* is what `sentences` finds. What
must be kept (`force_tokens`, digits, line breaks, `protect`, code and marks of Markdown) is cut out as units of its
own. No unit but the token ends within a word or a number, and no two that are kept run together to one (`kept_apart`).
Where a clause ends within a token (`),`), as sentences need their marks, the unit of the mark holds none (`split`).

Markdown follows CommonMark line by line, without building a tree: fences (`lines`); ATX and setext headings with their
text; bullets, numbers and task boxes of list items; quotation marks. A range takes the line breaks around it along, so
that the line stays a line. Code by indentation, tables and HTML are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

from lingua.errors import PromptError
from lingua.prompt import Bools, Floats, Ints, Span
from lingua.shared import Aggregate, SharedSettings, Unit
from lingua.text.lines import CONTAINERS, TextLine, fences, lines_of
from lingua.text.sentences import ACTS, CLAUSE_WORDS, HANGS, LOOSE, RESTRICTS, SEPARATES, sentence_edges
from lingua.text.tokens import Encoding
from lingua.text.words import JOINS, NUMERAL, SPELLING, among, are, classes, code_points, uncut, whole_spans, word_edges

Kinds = npt.NDArray[np.uint8]

_JOIN, _COMMA, _SPELT, _FIGURE, _THOUSAND = 1, 2, 3, 4, 5
"""Kinds of characters that can run together, from the third on as a word; the last opens a group of three digits."""
_DIGIT = regex.compile(r"\d")
PHRASE_WORDS = 8
"""Words of a phrase at most."""
_SECONDS = 10.0
_OPENS_PHRASE = regex.compile(r"\s*\p{Ll}{1,3}(?=\s|\Z)")
_UNFINISHED = regex.compile(rf"{HANGS.pattern}|(?:{SEPARATES}|\b{RESTRICTS})\s*\Z", regex.DOTALL)
_UNIT = regex.compile(r"(?<=\p{N})(?<!\b(?:1\d|20)\d\d)\s*\p{L}")
"""How a beginning ends that needs the next word; and what a number counts."""
_PARTS = rf"(?:[,;:]|\b(?:and|or|und|oder|et|y)\b)\s*(?!\s|{RESTRICTS})"
_LOSES = regex.compile(rf"(?:(?!{_PARTS}).)*?\b(?:{RESTRICTS}|zwar)\b|.*?\b(?:WHERE|JOIN)\b", regex.DOTALL)
_PREDICATE = regex.compile(rf"(?:(?!{_PARTS}).)*?(?:{ACTS.pattern})", regex.DOTALL)
_UNTOLD = regex.compile(rf"\bthat (?:(?:the|an?|its|he|she|it|they)\b|\p{{Lu}})(?!.*{ACTS.pattern})", regex.DOTALL)
"""What a beginning loses before another part begins: its restriction, its verb; and *that* without what it tells."""
_CODED = regex.compile(r"[{\[]\s*[\"{\[]|`{3}|[{(\[:;]\s*\n")
_PHRASE = regex.compile(
    r"(?<!\b(?:one|some|many|most|all|part|kind))\s*+"
    rf"(?:[\p{{P}}--[-'’_]]|(?:(?!(?:one|two|six|ten|new|old|own)\b)\p{{Ll}}{{1,3}}|that|than|then|{LOOSE.pattern})\b)",
    regex.V1,
)
"""What is code, of which a beginning may lose anything; and what opens a phrase, or a longer one that may go, too."""
_ENDS_PHRASE = r"[\p{P}--['’\-\p{Ps}\p{Pi}]]"


def forced_spans(text: str, config: SharedSettings) -> list[Span]:
    """Character ranges of `text` that must be kept. Raises PromptError when a `protect` pattern takes too long."""
    spans = [found.span() for one in config.force_tokens for found in _pattern(regex.escape(one)).finditer(text)]
    spans += protected_spans(text, config)
    spans += structure_marks(text) if "structure" in config.keep_markdown else []
    if config.force_reserve_digit and _DIGIT.search(text):
        edges = [*word_edges(text).tolist(), len(text)]
        spans += [(a, b) for a, b in pairwise(edges) if _DIGIT.search(text, a, b)]
    return [span for span in spans if span[0] < span[1]]


def beginning(text: str, bounds: Ints, units: Ints, most: int) -> int:
    """How many of the `units` of a clause, `most` at most, may stand without the rest of it; none that hold no word.

    As many as end before a mark or a word that opens a phrase, if these are half at least; else as do not end with a
    word that needs the next one. None without its verb, the unit of a number or, of a part of the text, what limits it.
    """
    if not most:
        return 0
    ends = bounds[units[:most] + 1].tolist()
    begin = int(bounds[units[0]])
    depths = accumulate(text.count("(", a, b) - text.count(")", a, b) for a, b in pairwise([begin, *ends]))
    last = int(bounds[units[-1] + 1])
    free = last - begin == len(text) or _CODED.search(text, begin, last) is not None
    closed = [
        count
        for count, (end, depth) in enumerate(zip(ends, depths, strict=True), 1)
        if not (depth or _UNFINISHED.search(text, max(0, end - 20), end) or _UNIT.match(text, end))
        and (free or not _LOSES.match(text, end, last))
    ]
    phrases = [count for count in closed if 2 * count >= len(ends) and _PHRASE.match(text, ends[count - 1])]
    found = max(phrases or closed, default=0)
    kept = text[begin : ends[found - 1]] if found else ""
    told = max(free * len(units), found, len(kept.split())) >= CLAUSE_WORDS
    acts = ACTS.search(kept) or not _PREDICATE.match(text, begin + len(kept), last)
    says = free or (acts and not _UNTOLD.search(kept))
    return found if told and says and re.search(r"\w", kept) else 0


def literals(text: str, bounds: Ints, known: Sequence[str]) -> Ints:
    """Which of the `known` strings each unit is, white space around it aside [u]; -1: none of them."""
    index = {literal: number for number, literal in enumerate(known)}
    units = (text[start:end] for start, end in pairwise(bounds.tolist()))
    return np.asarray([index.get(unit, index.get(unit.strip(), -1)) for unit in units], np.int64)


def protected_spans(text: str, config: SharedSettings) -> list[Span]:
    """What the `protect` patterns match in `text`, and code blocks if these are to be kept."""
    spans = code_blocks(text) if "code" in config.keep_markdown else []
    try:
        found = [one for p in config.protect for one in _pattern(p).finditer(text, timeout=_SECONDS)]
        return spans + [one.span() for one in found]
    except TimeoutError:
        raise PromptError("protect_timeout", f"a protect pattern took over {_SECONDS:.0f} s; simplify it") from None


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    return regex.compile(pattern)


def unit_edges(text: str, unit: Unit) -> Ints | None:
    """Characters at which units begin; None: at every atom."""
    cutters = {"phrase": phrase_edges, "word": word_edges, "sentence": sentence_edges}
    return cutters[unit](text) if unit in cutters else None


def phrase_edges(text: str) -> Ints:
    """Characters at which phrases begin, ascending. A rule for every language, not a parser for one."""
    words = word_edges(text)
    starts = words[1:]
    ended = are(r"[\r\n]", text)[starts] | are(_ENDS_PHRASE, text)[starts - 1]
    edges, size, opened = words[:1].tolist(), 0, True
    for start, ends in zip(starts.tolist(), ended.tolist(), strict=True):
        opens = _OPENS_PHRASE.match(text, start) is not None
        size += 1
        if ends or size == PHRASE_WORDS or (opens and not opened):
            edges.append(start)
            size = 0
        opened = opens
    return np.asarray(edges, np.int64)


def within_words(text: str, edges: Ints, forced: list[Span]) -> tuple[Ints, list[Span]]:
    """Edges and forced spans without those ends that lie within a word or number: such a span holds all of it."""
    spans = np.asarray(forced, np.int64).reshape(-1, 2)
    whole = whole_spans(text, np.append(edges, spans))
    if not forced:
        return uncut(edges, whole), []
    known = np.asarray([(-1, -1), *whole], np.int64)
    first, last = (known[known[:, 0].searchsorted(at, "right") - 1] for at in (spans[:, 0], spans[:, 1] - 1))
    left = np.where(spans[:, 0] < first[:, 1], first[:, 0], spans[:, 0])
    right = np.where(spans[:, 1] < last[:, 1], last[:, 1], spans[:, 1])
    return uncut(edges, whole), list(zip(left.tolist(), right.tolist(), strict=True))


def cut(encoding: Encoding, edges: Ints | None, forced: list[Span]) -> tuple[Ints, Bools]:
    """Cut `encoding` into units at those characters of `edges` and `forced` at which an atom begins.

    Returns the atom at which each unit begins, closed by the number of atoms [u + 1], and which units must be kept [u].
    """
    atoms = len(encoding.bounds) - 1
    if edges is None or atoms == 0:
        starts = np.arange(atoms + 1)
    else:
        edges = np.append(edges, _atom_edges(encoding.bounds, forced)) if forced else edges
        begins = among(encoding.bounds, edges)
        begins[0] = begins[atoms] = True
        starts = begins.nonzero()[0]
    must = _covered(encoding.bounds[starts], forced) if forced else np.zeros(len(starts) - 1, bool)
    return starts.astype(np.int64), must


def _atom_edges(bounds: Ints, forced: list[Span]) -> Ints:
    """The edges of the atoms that hold the forced characters: a forced span widens to whole atoms."""
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
    return np.asarray(depth.cumsum()[:-1] > 0)


def spelt(text: str, bounds: Ints) -> Kinds | None:
    """The kind of each character [n], for `kept_apart`; None where white space or a mark opens every unit."""
    kinds = classes(JOINS, ",", SPELLING, NUMERAL)[code_points(text)]
    if not kinds[bounds[1:-1]].any():
        return None
    digit = np.zeros(len(kinds) + 2, bool)
    digit[1:-1] = kinds == _FIGURE
    group = (digit[1:] != digit[:-1]).nonzero()[0]
    begins, ends = group[::2], group[1::2]
    kinds[begins[ends - begins == 3]] = _THOUSAND
    return kinds


def kept_apart(kinds: Kinds, bounds: Ints, keep: Bools) -> Bools:
    """The mask `keep` [u] with more units: where two kept ones would spell a word or number together, one that parts
    them, else all between them."""
    kept, sizes = keep.nonzero()[0], bounds[1:] - bounds[:-1]
    gaps = (kept[1:] - kept[:-1] > 1).nonzero()[0]
    shown = np.zeros(int(sizes @ keep) + 4, np.uint8)
    shown[2:-2] = kinds[keep.repeat(sizes)]
    places = 2 + sizes[kept].cumsum()[gaps]
    meeting = (shown[places - 1] > 0) & (shown[places] > 0)
    if not meeting.any():  # nearly always there is white space between
        return keep
    glued = gaps[meeting][_runs_together(shown, places[meeting])]
    if not len(glued):
        return keep
    left, right = kept[glued], kept[glued + 1]
    first, last = kinds[bounds[:-1]], kinds[bounds[1:] - 1]
    ends, begins = last[left + 1], first[right - 1]
    parting = np.append(np.flatnonzero((first == 0) & (last == 0)), len(keep))
    third = parting[np.searchsorted(parting, left + 1)]
    chosen = np.where((ends == 0) | (ends == _COMMA) & (first[right] != _THOUSAND), left + 1, third)
    chosen = np.where((chosen >= right) & (begins == 0), right - 1, chosen)
    keep = keep.copy()
    keep[chosen[chosen < right]] = True
    for begin, end in zip(left[chosen >= right].tolist(), right[chosen >= right].tolist(), strict=True):
        keep[begin:end] = True
    return keep


def _runs_together(kinds: Kinds, places: Ints) -> Bools:
    """Whether what stands before and behind each place spells one word, or one number with the mark between."""
    before, left, right, behind = (kinds[places + step] for step in (-2, -1, 0, 1))
    words = (left >= _SPELT) & (right >= _SPELT)
    joined = (right >= _FIGURE) & (before >= _FIGURE) & ((left == _JOIN) | (left == _COMMA) & (right == _THOUSAND))
    joins = (left >= _FIGURE) & (behind >= _FIGURE) & ((right == _JOIN) | (right == _COMMA) & (behind == _THOUSAND))
    return np.asarray(words | joined | joins)


PRIOR_TOKENS = 10_000
"""How many tokens of general text the prior weighs as much as."""


def self_information(ids: Ints) -> Floats:
    """−ln p of each token [n] by its frequency: how often the *other* tokens of the prompt are the same, over a prior.

    A tokenizer numbers its tokens about in the order of their frequency in the text that it was trained on (merges are
    learned that way, unigrams are sorted that way), so by Zipf's law p ∝ 1 / id: a list of word frequencies for every
    language that the tokenizer knows, at no cost. The prior weighs as much as `PRIOR_TOKENS` tokens of text.
    """
    order, new = ids.argsort(), np.ones(len(ids) + 1, bool)
    new[1:-1] = ids[order[1:]] != ids[order[:-1]]
    edges, counts = new.nonzero()[0], np.zeros(len(ids), np.int64)
    sizes = edges[1:] - edges[:-1]
    counts[order] = sizes.repeat(sizes)
    prior = 1 / ((ids + 2) * np.log(max(3, ids.max(initial=0))))
    frequency = (counts - 1 + PRIOR_TOKENS * prior) / (len(ids) + PRIOR_TOKENS)
    return np.asarray(-np.log(frequency), np.float32)


def unit_scores(scores: Floats, starts: Ints, aggregate: Aggregate) -> Floats:
    """Score of each unit from its tokens' scores, as surprisal in nats: `starts` [u + 1] are token positions.

    ``sum``: the information of the unit; ``mean``: per token; ``max``: of its most surprising token; ``first``: of the
    token that opens it, when all later ones were still unknown.
    """
    if len(starts) < 2 or not len(scores):
        return np.zeros(len(starts) - 1, np.float32)
    if aggregate == "first":
        return scores[starts[:-1]]
    if aggregate == "max":
        return np.maximum.reduceat(scores, starts[:-1])
    total = np.add.reduceat(scores, starts[:-1])
    return total if aggregate == "sum" else (total / (starts[1:] - starts[:-1])).astype(np.float32)


def rounded(scores: Floats) -> Floats:
    """Scores to eight binary digits, the upper half of a float32: so they are chosen by, and so they are stored."""
    bits = np.ascontiguousarray(scores).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


_HEADING = re.compile(CONTAINERS + r"#{1,6}(?:[ \t]|\Z)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*")
_MARKS = re.compile(r"[ \t]*(?:>[ \t]*)*(?:(?:[-*+]|\d{1,9}[.)])(?=[ \t]|\Z)(?:[ \t]+\[[ xX]\])?[ \t]*)*")


def code_blocks(text: str) -> list[Span]:
    """The fenced code blocks, from the line break before the opening fence to the end of the closing one's line."""
    return [span for span, _ in fences(lines_of(text))] if "```" in text or "~~~" in text else []


def structure_marks(text: str) -> list[Span]:
    """Headings with their text, and the marks of list items and quotations; none within code blocks."""
    lines = lines_of(text)
    in_code = {line.begin for _, block in fences(lines) for line in block}
    outside = [line for line in lines if line.begin not in in_code]
    before = [None, *outside[:-1]]
    return [span for line, previous in zip(outside, before, strict=False) for span in _marks(line, previous)]


def _marks(line: TextLine, previous: TextLine | None) -> Iterator[Span]:
    if _HEADING.match(line.text):
        yield line.start, line.end
    elif previous and previous.text.strip() and previous.end == line.begin and _UNDERLINE.fullmatch(line.text):
        yield previous.start, line.end
    elif (marks := _MARKS.match(line.text)) and (mark := marks.group().rstrip()):
        yield line.start, line.begin + len(mark)

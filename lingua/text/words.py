"""Words in every script: where they begin, as units of a text, and which ones a text has, as matching needs them.

A word as a unit is a run without white space, together with the white space before it. Where a script writes no spaces,
or a run is long (minified JSON), it is cut further: ideographs one by one, Thai, Lao, Khmer and Burmese at the words of
ICU's dictionaries, all else at punctuation. A number, a URL, an address or an identifier is never cut, also where a
number holds spaces (*10 000*, *+1 555 255 4488*). Matching takes single ideographs and letters of those scripts.

Classes of characters are tables over all code points (`are`): what a regular expression says, for a whole text at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, wraps
from itertools import chain, pairwise
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import regex

from lingua.prompt import Bools, Ints, Span


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character [n]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@lru_cache(maxsize=32)
def members(character: str) -> Bools:
    """Whether each code point is matched by the expression, which stands for one character: a table of 1.1 MB."""
    found = np.zeros(sys.maxunicode + 1, bool)
    every = np.arange(len(found), dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for run in regex.finditer(rf"(?:{character})+", every, regex.V1):
        found[run.start() : run.end()] = True
    return found


@lru_cache(maxsize=4)
def classes(*characters: str) -> npt.NDArray[np.uint8]:
    """Which of the expressions, counted from 1, matches each code point, the last one of several; 0: none."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for number, character in enumerate(characters, 1):
        table[members(character)] = number
    return table


def are(character: str, text: str) -> Bools:
    """Whether each character of `text` [n] is matched by the expression."""
    return members(character)[code_points(text)]


_Read = TypeVar("_Read", bound=Callable[..., Any])
_ASKED_AGAIN, _SHORT_ENOUGH, _LONGEST = 32, 1 << 18, 1 << 21
"""Texts that are remembered, and characters of one; of longer ones two: many would fill a worker's memory."""
LONG_RUN = 100
"""Characters without white space (a URL, a path) up to which a run is one word; minified JSON is longer."""
_SPACE = r"\s"
_DICTIONARY = r"\p{LB=SA}"
"""Scripts without spaces whose words only a dictionary knows (UAX #14, complex context)."""
_NEEDS_CUTTING = rf"[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}{_DICTIONARY}]"
SPELLING = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{_NEEDS_CUTTING}\p{{WB=Katakana}}]]"
"""What words of spaced scripts and numbers are spelt with."""
NUMERAL = r"\p{N}"
JOINS = r"[.:/\-–−'’·٫٬]"
"""What may stand within a number; a comma does before three digits."""
_GROUPS = r"[ \u00a0\u2007\u2009\u202f]"
_SPACED_NUMBER = regex.compile(
    rf"(?<!\p{{N}}[{_GROUPS}.,:/\-]?)(?<!{SPELLING}|\))"
    rf"(?:\+\p{{Nd}}{{1,3}}{_GROUPS}?(?:\(\p{{Nd}}{{1,5}}\))?|\(\p{{Nd}}{{2,5}}\)|[A-Z]{{0,2}}\p{{Nd}}{{1,4}})(?:{_GROUPS}\p{{Nd}}{{2,4}}(?:-\p{{Nd}}{{2,4}}){{0,4}}){{1,6}}(?!{_GROUPS}?\p{{N}})",
    regex.V1,
)
_MAY_BE_ONE = re.compile(rf"\d\d(?<=[\d){_GROUPS[1:-1]}]{_GROUPS}\d\d)")
"""What a number with spaces holds, found far faster."""
_THOUSANDS = regex.compile(r"\p{Nd}{1,3}(?:\s\p{Nd}{3})+")
_ENDS_URL = rf"\s\"<>\\^`{{|}}\u3000-\u303f\uff00-\uffef{_NEEDS_CUTTING}\p{{Po}}--[!#%&*,./:;?@]"
_URL = rf"(?:[A-Za-z][A-Za-z0-9+.\-]{{0,15}}://|www\.)[^{_ENDS_URL}]{{1,2048}}"
_SPELT = rf"(?:{SPELLING}|[.+\-])"
_ADDRESS = rf"{_SPELT}{{1,64}}+@(?:{SPELLING}|[.\-]){{1,255}}"
_UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
_JOINED = (
    rf"(?:(?<!{SPELLING}|\.)[+\-−±]?\p{{Sc}}?\.?(?=\p{{Nd}}))?{SPELLING}++"
    rf"(?:(?:[.'’@]|-|(?<=\p{{N}})(?:[:/–٫٬]|,(?=\p{{Nd}}{{3}}(?!\p{{Nd}})))(?=\p{{N}})){SPELLING}++){{0,7}}+[%‰°℃℉]?"
)
WHOLE = regex.compile(rf"(?<!{SPELLING})(?:{_URL}|{_ADDRESS}|{_UUID}(?!{SPELLING}))|{_JOINED}", regex.V1)
"""A number, a URL, an address, an identifier: nothing within is ever a unit of its own."""
_CUT = regex.compile(
    rf"{WHOLE.pattern}|(?P<dictionary>{_DICTIONARY}[{_DICTIONARY}\p{{M}}\u200c\u200d]*+)|\p{{WB=Katakana}}++"
    rf"|[〇零一二三四五六七八九十百千万萬亿億兆两兩]{{2,}}+|(?s:.)\p{{M}}*+",
    regex.V1,
)

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_CHARACTER = rf"[{_UNSPACED}]\p{{M}}*"
_LETTERS = rf"[\w--[{_UNSPACED}]]+"
_KINDS = (r"\S", r"\w", rf"[{_UNSPACED}]")
"""Classes of characters: marks, letters, those of scripts without spaces; white space is of none."""
_WORD = regex.compile(rf"{_CHARACTER}|{_LETTERS}", regex.V1)
_GRAM = regex.compile(rf"{_CHARACTER}(?=({_CHARACTER}))|(?<!{_CHARACTER}){_CHARACTER}|{_LETTERS}", regex.V1)
"""A character and the next one, one alone, or a word."""
_MARK = regex.compile(r"[^\w\s]")
_WORD_OR_MARK = regex.compile(rf"{_WORD.pattern}|{_MARK.pattern}", regex.V1)
_MOST_RUNS, _MOST_CHARACTERS = 1 << 16, 1 << 21
"""Runs that are remembered, and characters of them, before all are forgotten."""


def remembered(read: _Read) -> _Read:
    """Remember what `read` says of the last texts: the strings of a prompt are asked for the same step by step."""
    known, long = (lru_cache(maxsize=most)(read) for most in (_ASKED_AGAIN, 2))

    @wraps(read)
    def recall(text: str, *more: Any) -> Any:
        size = len(text)
        return (known if size <= _SHORT_ENOUGH else long if size <= _LONGEST else read)(text, *more)

    return cast(_Read, recall)


@remembered
def word_edges(text: str) -> Ints:
    """Characters at which words begin, ascending; not to be written to."""
    if not text:
        return np.zeros(0, np.int64)
    space = are(_SPACE, text)
    closed = np.concatenate([[0], 1 + (space[1:] & ~space[:-1]).nonzero()[0], [len(text)]])
    begins, ends = closed[:-1], closed[1:]
    unspaced = ends - begins > LONG_RUN
    if not text.isascii():
        unspaced |= np.logical_or.reduceat(are(_NEEDS_CUTTING, text), begins)
    runs = zip(begins[unspaced].tolist(), ends[unspaced].tolist(), strict=True) if unspaced.any() else ()
    inner = _inner_edges(text, runs)
    edges = np.sort(np.concatenate([begins, np.asarray(inner, np.int64)])) if inner else begins
    return uncut(edges, _spaced_numbers(text))


def whole_spans(text: str, edges: Ints) -> list[Span]:
    """Numbers, URLs, addresses and words of spaced scripts, ascending and apart: no unit ends within one.

    Only spaced numbers, and what stands in a run without white space that one of the `edges` cuts.
    """
    gaps = np.concatenate([[-1], are(_SPACE, text).nonzero()[0], [len(text)]])
    behind = gaps.searchsorted(edges)
    behind = np.unique(behind[(gaps[behind - 1] < edges - 1) & (edges < gaps[behind])])
    runs = zip((1 + gaps[behind - 1]).tolist(), gaps[behind].tolist(), strict=True)
    found = (one.span() for start, end in runs for one in WHOLE.finditer(text, start, end))
    spans = list[Span]()
    for start, end in sorted([*found, *_spaced_numbers(text)]):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def uncut(edges: Ints, spans: Iterable[Span]) -> Ints:
    """The edges without those that lie inside one of the spans, which are ascending and apart."""
    known = np.asarray([(-1, -1), *spans], np.int64)
    if len(known) == 1:
        return edges
    last = known[known[:, 0].searchsorted(edges, side="right") - 1]
    return edges[(edges <= last[:, 0]) | (edges >= last[:, 1])]


def ascending(*edges: Ints) -> Ints:
    """All of these characters, each once."""
    found = np.sort(np.concatenate(edges))
    new = np.ones(len(found), bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return found[new]


def among(bounds: Ints, edges: Ints) -> Bools:
    """Which of the ascending `bounds` [n] are among the edges, none of which lies behind the last."""
    place, found = bounds.searchsorted(edges), np.zeros(len(bounds), bool)
    found[place[bounds[place] == edges]] = True
    return found


def unmarked(text: str, spans: list[Span]) -> str:
    """The same with spans in which nothing ends a sentence, or makes `sentencex` take a whole line for one."""
    parts = [text[start:end] for start, end in pairwise([0, *chain.from_iterable(spans), len(text)])]
    parts[1::2] = ["".join([mark if mark.isalnum() or mark.isspace() else "_" for mark in one]) for one in parts[1::2]]
    return "".join(parts)


def slices(text: str, begins: Ints) -> list[str]:
    """The text cut at where its parts begin, ascending from 0 on: the slices add up to it."""
    return [text[begin:end] for begin, end in pairwise([*begins.tolist(), len(text)])]


def _spaced_numbers(text: str) -> list[Span]:
    """Numbers that are written with spaces: groups of thousands, numbers of telephones, cards and accounts."""
    if _MAY_BE_ONE.search(text) is None:
        return []
    return [match.span() for match in _SPACED_NUMBER.finditer(text) if _is_one_number(match.group())]


def _is_one_number(written: str) -> bool:
    digits = sum(map(str.isdecimal, written))
    return _THOUSANDS.fullmatch(written) is not None or 7 <= digits <= (30 if written[0].isalpha() else 19)


def _inner_edges(text: str, runs: Iterable[Span]) -> list[int]:
    """Where the words begin within runs that are long or written without spaces."""
    inner, unknown = list[int](), list[Span]()
    for start, end in runs:
        first = end - len(text[start:end].lstrip())
        if end - first <= LONG_RUN and (text.isascii() or not are(_NEEDS_CUTTING, text[first:end]).any()):
            continue
        for found in _CUT.finditer(text, first, end):
            if found.start() > first:
                inner.append(found.start())
            if found["dictionary"] is not None:
                unknown.append(found.span())
    return [*inner, *_dictionary_edges(text, unknown)]


def _dictionary_edges(text: str, runs: list[Span]) -> Iterable[int]:
    """Where the second word and those after it begin within runs of Thai, Lao, Khmer and Burmese; ICU is asked once."""
    if not runs:
        return ()
    from icu4py.breakers import WordBreaker

    starts, ends = np.asarray(runs, np.int64).T
    places = np.cumsum([0, *(ends - starts + 1)[:-1]])
    breaks = np.asarray([at for at, _ in WordBreaker("\n".join(text[a:b] for a, b in runs), "th").segments()], np.int64)
    run = np.searchsorted(places, breaks, side="right") - 1
    inside = (breaks > places[run]) & (breaks - places[run] < (ends - starts)[run])
    return (breaks - places[run] + starts[run])[inside].tolist()  # type: ignore[no-any-return]


WORD, SMALL, CAPITAL, CAPITALS = 1, 2, 4, 8
"""What is told of a run: whether it is a word, begins with a small or a capital letter, has more than one capital."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Words and single marks in order [n]."""

    begin: Ints  # characters
    end: Ints
    key: Ints  # the number of its case-folded form in the lexicon's `folded`
    traits: Ints  # WORD, SMALL, CAPITAL, CAPITALS


class Lexicon(dict[str, int]):
    """Runs as they are written, numbered as they are met: a corpus writes the same ones over and over.

    folded   the case-folded forms by their numbers
    """

    def __init__(self) -> None:
        self.folded: list[str] = []
        self._numbers: dict[str, int] = {}
        self._told = np.zeros((1_024, 2), np.int64)
        self._characters = 0
        self._lock = Lock()

    def read(self, text: str) -> Runs:
        begin, end = _run_edges(text)
        written = map(text.__getitem__, map(slice, begin.tolist(), end.tolist()))
        found = np.fromiter(map(self.__getitem__, written), np.int64, len(begin))
        told = self._told[found]  # which a new one may have made longer
        return Runs(begin, end, told[:, 0], told[:, 1])

    @property
    def full(self) -> bool:
        return self._characters > _MOST_CHARACTERS or len(self) > _MOST_RUNS

    def __missing__(self, written: str) -> int:
        with self._lock:
            if (number := self.get(written)) is not None:
                return number
            number = len(self)
            if number == len(self._told):
                self._told = np.concatenate([self._told, np.zeros_like(self._told)])
            key = self._numbers.setdefault(written.casefold(), len(self.folded))
            if key == len(self.folded):
                self.folded.append(written.casefold())
            self._told[number] = key, _traits(written)
            self._characters += len(written)
            self[written] = number
            return number


def _traits(written: str) -> int:
    word, first = written.isalnum() or is_word(written), written[0]
    capital = first.isupper() or first.istitle()
    several = not written.islower() and sum(map(str.isupper, written)) > 1
    return WORD * word + SMALL * first.islower() + CAPITAL * capital + CAPITALS * several


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    return Lexicon()


def lexicon() -> Lexicon:
    """That of this process; a full one is let go, and lives on where it is in use."""
    if _lexicon().full:
        _lexicon.cache_clear()
    return _lexicon()


def _run_edges(text: str) -> tuple[Ints, Ints]:
    """Where words and single marks begin and end [n]."""
    kinds = classes(*_KINDS)[code_points(text)]
    if (kinds == 3).any() and are(r"\p{M}", text).any():
        begins, ends = np.asarray(word_spans(text), np.int64).reshape(-1, 2).T
        return begins, ends
    parted = np.ones(len(text) + 1, bool)
    parted[1:-1] = (kinds[1:] != kinds[:-1]) | (kinds[1:] & 1)
    edges = parted.nonzero()[0]
    said = kinds[edges[:-1]] > 0
    return edges[:-1][said], edges[1:][said]


def keys(text: str) -> set[str]:
    """The distinct words and marks of `text`, case folded."""
    known = lexicon()
    return {known.folded[number] for number in set(known.read(text).key.tolist())}


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

"""How likely each word is to be what someone will ask for, judged by its kind, rarity and place: no language model.

A logistic regression on what a reader sees before reading: names, numbers, rare words, their neighbours, where in the
text and in which sentence. Its weights were fitted on which words of encyclopaedia paragraphs are answers to questions
that people wrote about them; `docs/evaluation.md` has the measurements, and what surprisal added (nothing). Nothing
here is of one language: a name is a capital letter inside a sentence, rarity is the tokenizer's own knowledge of word
frequency. Where a script has no capitals, numbers, rarity and place remain.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import regex

from lingua.prompt import Floats, Ints
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding
from lingua.text.units import self_information
from lingua.text.words import LONG_RUN, remembered, slices, word_edges

WEIGHTS = {
    "bias": -3.85,
    "name": 1.22,
    "number": 1.57,
    "short": -0.11,
    "rarity": 0.58,
    "tokens": -0.23,
    "name before": 0.35,
    "name after": 0.55,
    "number before": 0.69,
    "number after": 0.43,
    "beginning": 0.16,
    "first sentence": 0.43,
    "length of sentence": -0.39,
    "names in sentence": -1.86,
    "numbers in sentence": -2.87,
    "repeated": -0.09,
    "after a comma": -0.70,
}
"""Logarithm of the odds that each property of a word adds; `_properties` gives them in this order."""

BEGINNING_WORDS = 40
"""Words over which the advantage of a text's beginning fades."""
_MOST_NATS, _MOST_TOKENS, _LONG_SENTENCE = 40.0, 10, 60
_NAME = regex.compile(r"\P{L}*\p{Lu}")
_NUMBER = regex.compile(r".*\p{Nd}", regex.DOTALL)
_SHORT = regex.compile(r"\P{L}*\p{Ll}{1,3}\P{L}*")
_OUTER = regex.compile(r"^[\s\p{P}\p{S}]+|(?:['’]s)?[\s\p{P}\p{S}]+$|['’]s$")
_EDGE = regex.compile(r"^\P{L}+|\P{L}+$")

Table = npt.NDArray[np.float64]
_Kind = tuple[int, str, str]
"""Whether a word looks like a name (`_BIG`), holds a number (`_DIGITS`), is short, ends with a comma: bits 0 to 3. Its
letters. And all of it without the marks around it."""
_BIG, _DIGITS = 1, 2


def token_evidence(encoding: Encoding) -> Floats:
    """For each token [n] the probability that its word is asked for, in (0, 1)."""
    words = word_edges(encoding.text)
    if not len(words) or not len(encoding):
        return np.zeros(len(encoding), np.float32)
    evidence = 1 / (1 + np.exp(-word_odds(encoding, words)))
    return evidence[np.maximum(0, encoding.within(words))].astype(np.float32)


def word_odds(encoding: Encoding, words: Ints) -> Table:
    """The logarithm of the odds of each word [w], which begin at the characters `words`."""
    odds: Table = np.asarray(list(WEIGHTS.values())) @ _properties(encoding, words)
    return odds


def token_facts(encoding: Encoding, known: dict[str, int]) -> Ints:
    """Which name or number each token [n] belongs to, -1 for none; those that are not `known` yet are numbered there.

    A name has a capital letter and does not open a sentence, unless it stands within one elsewhere.
    """
    text, words = encoding.text, word_edges(encoding.text)
    if not len(words) or not len(encoding):
        return np.full(len(encoding), -1)
    kinds, opening = word_kinds(text), set(sentence_edges(text).tolist())
    starts = zip(kinds, words.tolist(), strict=True)
    named = {name for (flags, _, name), start in starts if flags & _BIG and start not in opening}
    found = [
        known.setdefault(name, len(known)) if flags & _DIGITS or (flags & _BIG and name in named) else -1
        for flags, _, name in kinds
    ]
    place = encoding.within(words)
    return np.asarray(found, np.int64)[np.maximum(0, place)]


def _properties(encoding: Encoding, words: Ints) -> Table:
    """What `WEIGHTS` weighs [17, w]."""
    text, count = encoding.text, len(words)
    kinds = word_kinds(text)
    flags = np.asarray([flag for flag, _, _ in kinds])[:, None] >> np.arange(4) & 1
    sentence = sentence_edges(text).searchsorted(words, side="right") - 1
    name, number, short, comma = flags.T.astype(float)
    name[1:] *= sentence[1:] == sentence[:-1]
    name[0] = 0
    tokens, rarity = _per_word(encoding, words)
    length, first = np.bincount(sentence)[sentence], dict[str, int]()
    rows = [
        np.ones(count),
        name,
        number,
        short,
        np.sqrt(np.minimum(rarity, _MOST_NATS)),
        np.minimum(tokens, _MOST_TOKENS),
        *_neighbours(name),
        *_neighbours(number),
        np.maximum(0, 1 - np.arange(count) / BEGINNING_WORDS),
        sentence == 0,
        np.minimum(length, _LONG_SENTENCE) / 30,
        np.bincount(sentence, name)[sentence] / length,
        np.bincount(sentence, number)[sentence] / length,
        np.asarray([first.setdefault(letters, place) != place for place, (_, letters, _) in enumerate(kinds)]),
        _neighbours(comma)[0],
    ]
    return np.array(rows, np.float64)


@remembered
def word_kinds(text: str) -> list[_Kind]:
    """What each word [w] looks like."""
    bare = map(str.strip, slices(text, word_edges(text)))
    return [(_short_kind if len(word) <= LONG_RUN else _read_kind)(word) for word in bare]


@lru_cache(maxsize=1 << 16)
def _short_kind(word: str) -> _Kind:
    """Of what is short: a cache of words of any length would have no bound."""
    return _read_kind(word)


def _read_kind(word: str) -> _Kind:
    flags = _BIG * bool(_NAME.match(word)) + _DIGITS * bool(_NUMBER.match(word))
    flags += 4 * bool(_SHORT.fullmatch(word)) + 8 * word.endswith((",", ";"))
    return flags, _EDGE.sub("", word).casefold(), _OUTER.sub("", word).casefold()


def _per_word(encoding: Encoding, words: Ints) -> tuple[Table, Table]:
    """Tokens and self-information of each word."""
    edges = np.append(encoding.token_starts.searchsorted(words), len(encoding))
    total = np.zeros(len(encoding) + 1)
    self_information(encoding.ids).cumsum(dtype=np.float64, out=total[1:])
    before = total[edges]
    return (edges[1:] - edges[:-1]).astype(float), before[1:] - before[:-1]


def _neighbours(flag: Table) -> tuple[Table, Table]:
    """The property of the word before and of the word after."""
    return np.concatenate([[0.0], flag[:-1]]), np.concatenate([flag[1:], [0.0]])

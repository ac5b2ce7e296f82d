"""How much each sentence of a prompt is about its question: by the words they share, and by an encoder of sentences.

A second look follows, as some questions need two strings, of which the second shares little with the question: *where
was the director of that film born?* It asks what the best string leaves open, and where the names in it lead
(`second_look`). The idea of going on from what the first passages say is that of multi-hop retrieval (MDR, arXiv
2009.12756; Baleen, arXiv 2101.00436); here three weights are trained, and a judge of the question alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import regex

from lingua.budget.draft import Drafter, Importance
from lingua.engine.score import Context, Program, Score
from lingua.prompt import Ints
from lingua.text.tokens import Encoding, SourceTokenizer
from lingua.text.words import grams, is_word, word_spans

FOCUS = 4.0
"""Natural logarithm of the advantage of a sentence that holds all of the question over one that holds nothing of it."""
SHARED, NEAR = 2.8, 1.0
"""The same where an encoder reads the sentences, and the advantage for each standard deviation that one is nearer."""
BESIDE = -9.0
"""Log-odds that a string is needed beside the best one, without a reason. These three were fitted on rows of MuSiQue,
HotpotQA and 2WikiMultihopQA that no table of docs/evaluation.md shows."""
LINK = 6.3
"""What is added for the names that lead to it."""
OPEN = 81.0
"""What is added for what it covers of the question and the best does not."""
HOPS, CERTAIN = 3.0, 6.0
"""What the judge's log-odds that the question needs several strings weigh among these, and the most they are."""
AMONG = 4
"""Of more strings than these and the best, the likeliest alone is raised by all of these odds: few are needed."""
FOREMOST = 1.0
"""Natural logarithm of the advantage of the best sentence of a string that is needed over its others."""
_LINKING = 2
"""Sentences of the best string whose names lead on."""
_WRITTEN = regex.compile(r"\w+")
_ASKS = "who|whom|whose|what|when|where|which|why|how"
_ANOTHER = regex.compile(
    rf"\?(?=\s+(?:and\s+)?(?:{_ASKS}|is|are|was|were|does?|did|can|will|has|have)\b)|\b(?:and|or)(?=\s+(?:{_ASKS})\b)",
    regex.IGNORECASE,
)
"""What stands in a question before another thing that it asks."""


def advantages(drafter: Drafter, question: str, strings: Sequence[Sequence[str]]) -> Program[list[Importance]]:
    """Natural logarithm of the advantage that the question gives each string's sentences [s]."""
    shared = focus(question, strings)
    if drafter.reader is None or not reads(drafter.reader, question):
        return [FOCUS * one for one in shared]
    look = yield from first_look(question, strings, drafter.reader, drafter.window, drafter.judged)
    first = [SHARED * one + NEAR * other for one, other in zip(shared, look.near, strict=True)]
    second = second_look(question, strings, first, look.covered, look.hops)
    return [one + more for one, more in zip(second, look.told, strict=True)]


def second_look(
    question: str,
    strings: Sequence[Sequence[str]],
    first: Sequence[Importance],
    covered: Sequence[Importance],
    hops: float = 0.0,
) -> list[Importance]:
    """The advantages `first` of each string's sentences, more for strings that are needed beside the best one.

    covered   of each of the question's tokens [t], how near each string comes to it, over t
    hops      log-odds that the question needs several strings, by the judge

    Where the best string is far ahead of the next one, another is less likely to be needed. A string that is surely
    needed comes level with the best, and what is best of each comes before more of one.
    """
    best = np.asarray([one.max(initial=-np.inf) for one in first])
    if np.isfinite(best).sum() < 2:
        return list(first)
    at, behind = int(best.argmax()), best - best.max()
    lead = float(np.partition(best, -2)[-1] - np.partition(best, -2)[-2])
    top = np.argsort(-first[at], kind="stable")[:_LINKING]
    links = _links(question, strings, at, top.tolist())
    opened = np.asarray([np.maximum(0, one - covered[at]).sum() for one in covered])
    odds = BESIDE + LINK * links + OPEN * opened - lead
    odds[at] = -np.inf
    asked = float(np.clip(HOPS * hops, -CERTAIN, CERTAIN))
    raised = np.full(len(best), min(1.0, AMONG / (len(best) - 1)) if asked > 0 else 1.0)
    raised[odds.argmax()] = 1
    needed = -np.logaddexp(0, -odds - asked * raised)  # the log of how likely it is
    more = np.logaddexp(behind, needed) - behind
    needed[at] = 0
    told = zip(first, best, more, FOREMOST * np.exp(needed), strict=True)
    return [one + np.float32(extra) + np.float32(ahead) * (one == top) for one, top, extra, ahead in told]


def _links(question: str, strings: Sequence[Sequence[str]], best: int, top: Sequence[int]) -> Importance:
    """How many of the names in the sentences `top` of the best string each string [n] holds.

    The square root of the sum of their inverse frequencies; names in the question do not count, it was asked already.
    """
    names = _names(strings)
    holders = Counter(name for each in names for name in each)
    asked = {word.casefold() for word in _WRITTEN.findall(question)}
    found = names[best] & {word.casefold() for one in top for word in _WRITTEN.findall(strings[best][one])} - asked
    rarity = {name: _inverse_frequency(holders[name], len(strings)) for name in found}
    return np.sqrt([_sum(each, rarity) for each in names])


def _names(strings: Sequence[Sequence[str]]) -> list[set[str]]:
    """The words of each string that are written with a capital or a digit, case folded.

    Not those that are written with a small letter somewhere, or never stand inside a sentence.
    """
    written = [[_WRITTEN.findall(sentence) for sentence in sentences] for sentences in strings]
    inside = {word for sentences in written for words in sentences for word in words[1:]}
    small = {word for word in inside if word[0].islower()}
    names = {word.casefold() for word in inside if len(word) > 1 and (word[0].isupper() or word[0].isdigit())} - small
    return [names & {word.casefold() for words in sentences for word in words} for sentences in written]


States = npt.NDArray[np.float32]
Array = TypeVar("Array", States, Ints)
MEANING = 0.5
"""What a standard deviation of a sentence's own meaning weighs; one of its words', and of its string's, weighs 1."""
ASKED = 1_024
"""Tokens of a question, of its beginning and its end, that are looked for one by one: a longer one is a document."""
STEM = 5
"""Letters of a word that are compared: languages inflect at its end."""
READABLE = 0.75
"""Share of a question's words that an encoder's tokenizer must know for the encoder to be asked."""


def focus(question: str, strings: Sequence[Sequence[str]]) -> list[Importance]:
    """For each string's sentences [s] the share of the question's information in them and their string, in [0, 1]."""
    words = [[_stems(sentence) for sentence in sentences] for sentences in strings]
    question_words, everywhere = _stems(question), [sentence for sentences in words for sentence in sentences]
    holders = Counter(word for sentence in everywhere for word in sentence & question_words)
    # words that are found nowhere count too
    asked = {word: _inverse_frequency(holders[word], len(everywhere)) for word in question_words}
    total = math.fsum(asked.values()) or 1.0
    return [_of_string(sentences, asked) / np.float32(total) for sentences in words]


def _stems(text: str) -> set[str]:
    """Its words, each by its first letters; numbers whole."""
    return {one[:STEM] if one.isalpha() else one for one in grams(text)}


def _inverse_frequency(holders: int, texts: int) -> float:
    return math.log(1 + (texts - holders + 0.5) / (holders + 0.5))


def _of_string(sentences: list[set[str]], asked: dict[str, float]) -> Importance:
    found = [_sum(sentence, asked) for sentence in sentences]
    together = _sum(set().union(*sentences), asked)
    return np.asarray([(one + together) / 2 for one in found], np.float32)


def _sum(words: set[str], asked: dict[str, float]) -> float:
    return math.fsum(asked[word] for word in words & asked.keys())  # exact, so in any order


def reads(reader: SourceTokenizer, question: str) -> bool:
    """Whether the tokenizer of an encoder knows the words of `question`.

    Of a script that it never saw it knows nothing, or single letters only: what its encoder makes of them is noise.
    """
    (read,) = reader.encode([question])
    words = [(start, end) for start, end in word_spans(question) if is_word(question[start:end])]
    return sum(_known(read, start, end, reader.unknown) for start, end in words) >= READABLE * len(words)


def _known(read: Encoding, start: int, end: int, unknown: int | None) -> bool:
    """Whether the tokens of the word at these characters are known ones, and fewer than its letters (of one: one)."""
    begins = read.token_starts
    if not len(begins):
        return False
    own = begins[max(0, int(np.searchsorted(begins, start, side="right")) - 1)]
    first, behind = np.searchsorted(begins, [own, end]).tolist()
    tokens = read.ids[first:behind].tolist()
    return unknown not in tokens and len(tokens) < max(2, end - start)


class FirstLook(NamedTuple):
    """What an encoder and its judge say of a question and strings.

    near      of each string's sentences [s] how near they are to the question, in standard deviations over all of them:
              how near the question's tokens each have one in the sentence, the cosine of the mean states, and the
              greatest of these in the sentence's string, added up
    told      of each string's sentences [s] how well they tell one of the things that the question asks, by the judge:
              the log of the likelihoods for each thing (`told`), added up; without one all are the same
    covered   of each string, of each of the question's tokens [t], the cosine with the nearest of its own, over t
    hops      log-odds that the question needs several strings, by the judge; 0 without one
    """

    near: list[Importance]
    told: list[Importance]
    covered: list[Importance]
    hops: float


class Judged(NamedTuple):
    """What the judge says of each token of a text; without a judge, and without tokens, nothing."""

    word: States  # log-odds [t, 1] that it is in an answer
    sentence: States  # log-odds [t, 1] that its sentence holds one
    hops: States  # log-odds [t, 1] that the question needs several strings, if the text is one
    asks: States  # what it asks [t, d], if the text is a question
    tells: States  # what it tells [t, d]


def split_answer(answer: States, columns: int) -> tuple[States, Judged]:
    """An encoder's states of tokens, and what its judge says of them in the last `columns`."""
    states, said = np.split(answer, [max(0, answer.shape[1] - columns)], axis=1)
    return states, Judged(*np.split(said, [1, 2, 3, (3 + columns) // 2], axis=1))


def first_look(
    question: str, strings: Sequence[Sequence[str]], reader: SourceTokenizer, window: int, judged: int = 0
) -> Program[FirstLook]:
    """Read the strings whole, in windows of `window` tokens, so that a sentence is understood where it stands.

    `reader` and `window` are the encoder's; its answers have `judged` columns behind the states.
    """
    read = reader.encode([question, *map("".join, strings)])
    answers = yield from token_answers(read, window)
    (asked, of_question), *others = (split_answer(answer, judged) for answer in answers)
    states, of_strings = zip(*others, strict=True)
    counts = list(map(len, strings))
    begins = [list(accumulate(map(len, string), initial=0))[:-1] for string in strings]
    places = [one.within(edges) for one, edges in zip(read[1:], begins, strict=True)]
    near, covered = _near(asked, states, places, counts)
    hops = float(of_question.hops.mean()) if of_question.hops.size else 0.0
    return FirstLook(near, _told(of_question, _things(question, read[0]), of_strings, places, counts), covered, hops)


def _near(
    asked: States, states: Sequence[States], places: Sequence[Ints], counts: Sequence[int]
) -> tuple[list[Importance], list[Importance]]:
    """`near` and `covered` of a FirstLook."""
    found = [_compare(asked, *string) for string in zip(states, places, counts, strict=True)]
    meaning, words = (np.concatenate(each) for each in list(zip(*found, strict=True))[:2])
    ends = list(accumulate(counts, initial=0))
    best = [np.full(end - start, meaning[start:end].max()) for start, end in pairwise(ends) if end > start]
    near = MEANING * _spread(meaning) + _spread(words) + _spread(np.concatenate(best))
    return np.split(near, ends[1:-1]), [covered for _, _, covered in found]


def _told(
    question: Judged, thing: Ints, strings: Sequence[Judged], places: Sequence[Ints], counts: Sequence[int]
) -> list[Importance]:
    """`told` of a FirstLook."""
    texts = zip(strings, places, counts, strict=True)
    tell = np.concatenate([told(question.asks, thing, said.tells, place, count) for said, place, count in texts])
    likely = np.logaddexp.reduce(tell - np.logaddexp.reduce(tell, axis=0), axis=1)
    return np.split(likely, list(accumulate(counts))[:-1])


def _things(question: str, read: Encoding) -> Ints:
    """Which of the things that the question asks, numbered from 0 as they follow, each of its tokens [t] asks."""
    return read.within([0, *(found.end() for found in _ANOTHER.finditer(question))])


def told(asks: States, thing: Ints, tells: States, sentence: Ints, count: int) -> Importance:
    """How well, by the judge, each sentence of a text tells each thing that the question asks [s, things].

    asks    by the question's tokens [q, d], which ask each the `thing` [q]
    tells   by the text's [t, d], which stand each in the `sentence` [t] of `count`

    On average over the tokens that ask it, of each the best of the sentence; 0 without tokens.
    """
    thing = np.unique(_ends(thing), return_inverse=True)[1]  # those with tokens there
    found = np.zeros((count, thing.max(initial=0) + 1), np.float32)
    if asks.size and tells.size:
        first = np.flatnonzero(np.diff(sentence, prepend=-1))
        pairs = np.stack([(part @ _ends(asks).T).max(axis=0) for part in np.split(tells, first[1:])])
        for one in range(found.shape[1]):
            found[sentence[first], one] = pairs[:, thing == one].mean(axis=1)
    return found


def token_answers(read: Sequence[Encoding], window: int) -> Program[list[States]]:
    """What the encoder says of each token [t, d] of each text: its state; [0, 0] of one without tokens."""
    windows = [[one.ids[at : at + window].tolist() for at in range(0, len(one), window)] for one in read]
    answers = iter((yield [Score(Context(reserved=len(ids)), ids) for each in windows for ids in each]))
    return [np.concatenate([*islice(answers, len(each))]) if each else np.zeros((0, 0), np.float32) for each in windows]


def _compare(asked: States, states: States, sentence: Ints, count: int) -> tuple[Importance, Importance, Importance]:
    """Of each sentence [s]: cosine of its mean state with the question's; mean cosine of what is nearest to its tokens.

    Both are 0 of a sentence without tokens. And of each token [t] of the question that cosine in all of them, over t.
    """
    some = _ends(asked)
    meaning, words = np.zeros(count, np.float32), np.zeros(count, np.float32)
    if not len(asked) or not len(states):
        return meaning, words, np.zeros(len(some), np.float32)
    first = np.flatnonzero(np.diff(sentence, prepend=-1))
    owner = sentence[first]
    meaning[owner] = _unit(np.add.reduceat(states, first)) @ _unit(asked.sum(axis=0))
    nearest = np.stack([(part @ some.T).max(axis=0) for part in np.split(states, first[1:])])
    words[owner] = nearest.mean(axis=1)
    return meaning, words, nearest.max(axis=0) / np.float32(len(some))


def _ends(asked: Array) -> Array:
    """The beginning and the end of what is known of a question's tokens [t, …], where it is long."""
    return asked if len(asked) <= ASKED else np.concatenate([asked[: ASKED // 2], asked[-ASKED // 2 :]])


def _unit(vectors: States) -> States:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-6))


def _spread(values: Importance) -> Importance:
    """In standard deviations from the mean; all 0 where nothing differs."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 1e-6 else np.zeros_like(values)

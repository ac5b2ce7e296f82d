"""Evidence: keep what someone is likely to ask for, in pieces that can still be read. One step, no language model.

Our own recipe and the default: it kept more than surprisal where there is a question, and as much where there is none
(docs/evaluation.md). Three things decide, from coarse to fine:

demonstrations   strings of the same form as the question are examples: they are kept whole, or not at all; those that
                 share most with the question for their length, the best one last
coherence        of documents, whole sentences get most of the budget, then whole phrases, then words (`keep_within`)
evidence         of a word: how likely its kind and place are to be asked for (`salience`), times how much its
                 sentence is about the question, if there is one (`focus`): an encoder of sentences decides, if allowed
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import regex
from pydantic import Field, model_validator

from lingua.budget.draft import Draft, Drafter, Importance
from lingua.budget.selection import coarse_choice, keep_best, shares
from lingua.engine.score import Context, Needs, Program, Score
from lingua.methods.llmlingua import required
from lingua.methods.ranking import bm25
from lingua.shared import Aggregate, ContextBudget, Numbers, OnePassSettings, refuse_without
from lingua.text.salience import token_evidence
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding, Ints, SourceTokenizer
from lingua.text.words import grams, is_word, word_spans

FOCUS = 4.0
"""Natural logarithm of the advantage of a sentence that holds all of the question over one that holds nothing of it."""
SHARED, NEAR = 2.8, 1.0
"""The same where an encoder reads the sentences, and the advantage for each standard deviation that one is nearer."""
LEAD = 1.0
"""Natural logarithm of the advantage of a text's beginning over its end: authors put first what matters."""
_WHOLE = 100.0
"""What is added to the evidence of demonstrations that are kept whole: more than any other can have."""
_FULL = 0.98
"""Share of the budget that whole demonstrations must fill for none to be cut."""
_TRACE = 1e-3
"""Relevance of a string that shares nothing with the question: enough for short ones to come before long ones."""
_LABEL = regex.compile(r"^[^\S\n]*(\p{L}[^\n:：]{0,30})[:：]", regex.MULTILINE)


class EvidenceSettings(OnePassSettings):
    """What evidence reads."""

    focus_model: str = Field(
        "all-minilm-l6-v2",
        min_length=1,
        description="the sentence-transformers model that says how near a sentence is to the question; 'none': only "
        "the words they share do; 'ignore': the question does not count, so that one result serves all questions",
    )
    demonstrations: Literal["auto", "whole", "cut"] = Field(
        "auto",
        description="whether context strings are kept 'whole' or not at all, or 'cut'; auto: whole if all have a label "
        "like 'Q:' in common with the question",
    )
    coherence: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the budget that goes to whole sentences, before phrases and units "
        "(default: 0.7 for evidence, else 0)",
    )
    force_context_ids: Numbers = Field((), description="indices of context strings that are always kept")

    @model_validator(mode="after")
    def _strings_are_dropped(self) -> Self:
        if self.force_context_ids and self.demonstrations == "cut":
            refuse_without("force_context_ids", "demonstrations=auto or demonstrations=whole")
        return self

    @property
    def needs(self) -> Needs:
        return "nothing" if self.second_model is None else "sentences"

    @property
    def second_model(self) -> str | None:
        return None if self.focus_model in ("none", "ignore") else self.focus_model

    @property
    def unit_score(self) -> Aggregate:
        return "mean"


def evidence(draft: Draft, own: EvidenceSettings) -> Program[None]:
    """Decide what `draft` keeps."""
    question = "" if own.focus_model == "ignore" else draft.prompt.question
    whole = set(choose_demonstrations(draft, own, question) if _are_demonstrations(draft, own) else ())
    yield from gather_evidence(draft, question, [index for index in draft.chosen if index not in whole])
    for index in whole:
        draft.context[index].surprisal += _WHOLE
    keep_best(draft)


def _are_demonstrations(draft: Draft, own: EvidenceSettings) -> bool:
    """Whether the strings are examples: as set, or if all and the question have a label in common (`Q:`)."""
    if len(draft.context) < 2 or draft.prompt.context_rates:
        return False
    if own.demonstrations != "auto":
        return own.demonstrations == "whole"
    labels = (set(_LABEL.findall(part.text)) for part in [draft.question, *draft.context])
    return bool(set.intersection(*labels))


def choose_demonstrations(draft: Draft, own: EvidenceSettings, question: str) -> list[int]:
    """Keep those that share most with the question for their length, until the budget is full; all but one stay whole.

    The best one comes last, next to the question. Without a question short ones are taken, in their order.
    Returns those that stay whole.
    """
    costs = [part.cost for part in draft.context]
    relevance = bm25(question, draft.prompt.context)
    order = np.argsort(-(relevance + _TRACE) / np.maximum(1, costs), kind="stable").tolist()
    budget, forced = shares(draft).demonstrations, required(draft, own.force_context_ids)
    chosen = set(coarse_choice(costs, order, forced, (budget, ContextBudget("*", 1.0))))
    taken = [index for index in order if index in chosen]
    whole, last = taken[:-1], taken[-1:]
    if forced.isdisjoint(last) and sum(costs[index] for index in whole) >= _FULL * budget:
        taken = whole
    draft.chosen = taken[::-1] if relevance.any() else sorted(taken)
    return whole


def gather_evidence(draft: Draft, question: str, cut: Sequence[int]) -> Program[None]:
    """Fill in the evidence of every token that may be dropped; those of the strings `cut` by the question, too."""
    for part in draft.flexible:
        place = np.linspace(0, 1, len(part.ids), endpoint=False, dtype=np.float32)
        part.surprisal = token_evidence(part.encoding) * np.exp(-LEAD * place)
    parts = [draft.context[index] for index in cut if draft.context[index].text]
    if not parts or not question.strip():
        return
    edges = [sentence_edges(part.text) for part in parts]
    strings = [_pieces(part.text, one) for part, one in zip(parts, edges, strict=True)]
    advantages = yield from _advantages(draft.drafter, question, strings)
    for part, begins, values in zip(parts, edges, advantages, strict=True):
        sentence = np.searchsorted(begins, part.encoding.token_starts, side="right") - 1
        part.surprisal = part.surprisal * np.exp(values[sentence])


def _advantages(drafter: Drafter, question: str, strings: Sequence[Sequence[str]]) -> Program[list[Importance]]:
    """Natural logarithm of the advantage that the question gives each string's sentences [s]."""
    shared = focus(question, strings)
    if drafter.reader is None or not reads(drafter.reader, question):
        return [FOCUS * one for one in shared]
    near = yield from nearness(question, strings, drafter.reader, drafter.window)
    return [SHARED * one + NEAR * other for one, other in zip(shared, near, strict=True)]


def _pieces(text: str, begins: Ints) -> list[str]:
    return [text[start:end] for start, end in pairwise([*begins.tolist(), len(text)])]


States = npt.NDArray[np.float32]
MEANING = 0.5
"""What a standard deviation of a sentence's own meaning weighs; one of its words', and of its string's, weighs 1."""

ASKED = 1_024
"""Tokens of a question, of its beginning and its end, that are looked for one by one: a longer one is a document."""

READABLE = 0.75
"""Share of a question's words that an encoder's tokenizer must know for the encoder to be asked."""


def focus(question: str, strings: Sequence[Sequence[str]]) -> list[Importance]:
    """For each string's sentences [s] the share of the question's information in them and their string, in [0, 1]."""
    words = [[set(grams(sentence)) for sentence in sentences] for sentences in strings]
    asked = _question_information(set(grams(question)), [sentence for sentences in words for sentence in sentences])
    total = math.fsum(asked.values()) or 1.0
    return [_of_string(sentences, asked) / np.float32(total) for sentences in words]


def _question_information(question: set[str], sentences: list[set[str]]) -> dict[str, float]:
    """The question's words with their inverse frequency among the sentences; those found nowhere count too."""
    holders = Counter(word for sentence in sentences for word in sentence & question)
    found = {word: holders[word] for word in question}
    return {word: math.log(1 + (len(sentences) - n + 0.5) / (n + 0.5)) for word, n in found.items()}


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


def nearness(
    question: str, strings: Sequence[Sequence[str]], reader: SourceTokenizer, window: int
) -> Program[list[Importance]]:
    """For each string's sentences [s] how near they are to the question, in standard deviations over all sentences.

    Three things are added up: how near the question's tokens each have one in the sentence; the cosine of the mean
    states; the greatest of these in the sentence's string. Strings are read whole, in windows of `window` tokens, so
    that a sentence is understood where it stands. `reader` and `window` are the encoder's.
    """
    read = reader.encode([question, *map("".join, strings)])
    asked, *states = yield from _token_states(read, window)
    places = [_sentence_of_token(one, string) for one, string in zip(read[1:], strings, strict=True)]
    found = [
        _compare(asked, state, place, len(string)) for state, place, string in zip(states, places, strings, strict=True)
    ]
    meaning, words = (np.concatenate(each) for each in zip(*found, strict=True))
    ends = list(accumulate(map(len, strings), initial=0))
    best = [np.full(end - start, meaning[start:end].max()) for start, end in pairwise(ends) if end > start]
    near = MEANING * _spread(meaning) + _spread(words) + _spread(np.concatenate(best))
    return np.split(near, ends[1:-1])


def _token_states(read: Sequence[Encoding], window: int) -> Program[list[States]]:
    """The state of each token [t, d] of each text; [0, 0] of one without tokens."""
    windows = [[one.ids[at : at + window].tolist() for at in range(0, len(one), window)] for one in read]
    answers = iter((yield [Score(Context(room=len(ids)), ids) for each in windows for ids in each]))
    return [np.concatenate([*islice(answers, len(each))]) if each else np.zeros((0, 0), np.float32) for each in windows]


def _sentence_of_token(read: Encoding, sentences: Sequence[str]) -> Ints:
    """Which of its text's sentences each token [t] begins in."""
    begins = list(accumulate(map(len, sentences), initial=0))[:-1]
    return np.searchsorted(begins, read.token_starts, side="right") - 1


def _compare(asked: States, states: States, sentence: Ints, count: int) -> tuple[Importance, Importance]:
    """Of each sentence [s]: cosine of its mean state with the question's; mean cosine of what is nearest to its tokens.

    Both are 0 of a sentence without tokens.
    """
    meaning, words = np.zeros(count, np.float32), np.zeros(count, np.float32)
    if len(asked) and len(states):
        first = np.flatnonzero(np.diff(sentence, prepend=-1))
        owner = sentence[first]
        meaning[owner] = _unit(np.add.reduceat(states, first)) @ _unit(asked.sum(axis=0))
        some = asked if len(asked) <= ASKED else np.concatenate([asked[: ASKED // 2], asked[-ASKED // 2 :]])
        ends = pairwise([*first.tolist(), len(states)])
        words[owner] = [(states[begin:end] @ some.T).max(axis=0).mean() for begin, end in ends]
    return meaning, words


def _unit(vectors: States) -> States:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: States = vectors / np.maximum(length, 1e-6)
    return unit


def _spread(values: Importance) -> Importance:
    """In standard deviations from the mean; all 0 where nothing differs."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 1e-6 else np.zeros_like(values)

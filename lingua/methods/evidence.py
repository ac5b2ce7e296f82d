"""Evidence: keep what someone is likely to ask for, in pieces that can still be read. One step, no language model.

Our own recipe and the default: it kept more than surprisal where there is a question, and as much where there is none
(docs/evaluation.md). Four things decide, from coarse to fine:

demonstrations   strings of the same form as the question are examples: they are kept whole, or not at all; those that
                 share most with the question for their length, the best one last
coherence        of documents, whole sentences get most of the budget, then whole clauses (`keep_within`)
coverage         without a question, a name or number that is kept already counts little, a new one more
evidence         of a word: how likely its kind and place are to be asked for (`salience`); without a question, what an
                 encoder expects to be asked (`judge`); with one, times how much its sentence is about the question
                 (`focus`), or is needed beside the best that is
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Literal, Self

import numpy as np
import regex
from pydantic import Field, model_validator

from lingua.budget.draft import Draft, Drafter, PromptPart
from lingua.budget.selection import keep_best, shares
from lingua.engine.score import Needs, Program
from lingua.methods.focus import Judged, advantages, split_answer, token_answers
from lingua.methods.llmlingua import required
from lingua.methods.ranking import bm25
from lingua.models.source import EMBEDDER
from lingua.prompt import Bools, Floats, Ints, Prompt
from lingua.shared import Aggregate, Coherence, Numbers, OnePassSettings, refuse_without
from lingua.text.folds import WRAPPERS
from lingua.text.lines import CLOCK, CUE
from lingua.text.needs import needed_sentences
from lingua.text.phrases import phrases
from lingua.text.salience import Table, token_evidence, word_odds
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding
from lingua.text.words import slices, word_edges

LEAD = 1.0
"""Natural logarithm of the advantage of a text's beginning over its end: authors put first what matters."""
WORD, SENTENCE = 0.7, 0.5
"""What the judge's log-odds of a word weigh, kind and place having the rest of 1; and those of its sentence, beside."""
LEGIBLE, UNKNOWN = 2.0, 0.2
"""Characters per token at least, and share of unknown tokens at most, of a text that the encoder can read."""

_SAYS_NOTHING = (
    rf"webvtt|(?:\d{{1,5}}\n)?{CUE.pattern}",
    rf"\A\s*(?:{CLOCK})?\p{{L}}[^\n:：]{{0,30}}+(?:(?<=\d):\d\d(?::\d\d)?[^\w\n]{{0,3}})?[:：]",  # who speaks
    r"[—–-]\s?\d{1,4}\s?[—–-]",  # the number of a page
    r"\p{L}{1,20}:?\s?_{3,}",  # what a form leaves to be filled in
    r"\[[^\[\]\n]{1,80}\]\(#[^()\n]{0,80}\)",  # a link within a page
    r"[{\[<(][^\d{}\[\]<>()]{1,30}[}\]>)]",  # what a transcriber noted
    rf"</?(?:{'|'.join(WRAPPERS)}|link|meta charset)\b[^<>]*>",
    rf"(?:{phrases('greets')})(?: [\p{{L}}’'-]+){{1,3}}(?=[,!])|(?:dear|sehr geehrte)[^.!?\n]{{1,50}}\b",
    rf"(?:{phrases('courtesies')})[^\d.!?\n]{{0,150}}\b",
    phrases("fills"),
    rf"(?:{phrases('regards')}|sincerely,)[^.!?]{{0,80}}\b",
    r"[^\p{L}\p{N}]",
)
_NOISE = regex.compile(rf"(?:{'|'.join(_SAYS_NOTHING)})*+", regex.IGNORECASE)
"""A sentence that says nothing."""
_CORRECTS = regex.compile(
    r"\s*+(?:[^:\n.]{1,40}+:\s)?\W*+(?i:(?:(?:no|oh|oops|wait|sorry|actually|nein|pardon|perdón)\b\W*+)++(?:i mean"
    r"|ich mein|make (?:that|it)\b|(?:it|that|this)(?:['’]s| is| should)\b|je veux dire|quise decir)|i meant\b"
    r"|correction\s?:)"
)
_CONCLUDES = regex.compile(rf"\W*(?:\w+\W+){{0,2}}?(?i:{phrases('concludes')})")
_QUESTION = regex.compile(r"(?r)[?？][\"'”’»」)\]*_]*\s*\Z")
WEIGHTY = 5.0
"""What a sentence counts that takes back an earlier one, or says what follows from all others."""
_SIGNATURE = regex.compile(
    rf"(?im)^[>\t ]*(?:-- ?|(?:{phrases('regards')}|{phrases('signs')})[,.!]?)$(?:\n[^\S\n]*(?=\n))?"
    r"(?:\n(?!PS|P\.S)[^\n]{0,79}[^\n.!?:](?=\n|\Z))*+"
)
_CITED = regex.compile(rf"(?im)^[#*\d.\s]*(?:{phrases('cites')})(?:\[edit\])?[:*]*$(?:\n(?!#|Appendix)[^\n]*)+")
_HIDDEN = regex.compile(r"(?is)\s*+<(?:(script|style|noscript|svg)\b.*?(?:</\1>|\Z)|!--.*?(?:-->|\Z))")
"""What a browser shows nobody."""
_ENDED = regex.compile(r"(?r)[\p{P}\p{S}--,;:–—]\s*\Z", regex.V1)
_RUNS_ON = regex.compile(r"[^\p{L}\p{N}]*+\p{Ll}")
BROKEN, SIGNED, SCRAP = 0.25, 0.1, 60
"""What counts of a sentence within which a text begins or breaks off, as passages of a fixed length do; of signatures
and references, where no question is known; and of a broken sentence of fewer characters than a `SCRAP` nothing."""
_TWIN = 20
"""Characters of a sentence at least that is kept once, however often it stands there."""
_TRACE = 1e-3
"""What is nearly nothing, but orders: relevance of a string that shares nothing with the question (short ones come
first), and the share of what a sentence counts where it stands again: it fills what nothing else does."""
_ASKS = regex.compile(
    rf"\s*(?:(?:{phrases('asks', '')})\s?\d{{0,3}}[:：]|<(?:example|input|question)\b)", regex.IGNORECASE
)
_LABEL = regex.compile(
    r"^[^\S\n]*(?:(\p{L}[^\n:：]{0,30})[:：]|<(\w{1,30})>)|\A\s*\{\s*\"(\w{1,30})\":", regex.MULTILINE
)


class EvidenceSettings(OnePassSettings):
    """What evidence reads."""

    focus_model: str = Field(
        "all-minilm-l6-v2",
        min_length=1,
        description="the sentence-transformers model that says how near a sentence is to the question or, the default "
        "one, what is likely to be asked; 'none': only words shared with the question, kind and place do; 'ignore': "
        "the question does not count, so that one result serves all questions",
    )
    demonstrations: Literal["auto", "whole", "cut"] = Field(
        "auto",
        description="whether context strings are kept 'whole' or not at all (where nothing would be left, the best one "
        "is cut), or 'cut'; auto: whole if all have a label like 'Q:' in common with the question, or begin so without "
        "one",
    )
    coherence: Coherence = 0.7
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
        return {"none": None, "ignore": EMBEDDER}.get(self.focus_model, self.focus_model)

    @property
    def unit_score(self) -> Aggregate:
        return "mean"

    def covers(self, question: str) -> bool:
        return self.focus_model == "ignore" or not question.strip()

    def keeps_whole(self, prompt: Prompt) -> bool:
        """Whether the strings are examples: as set, or if all and the question have a label in common (`Q:`).

        Without a question, if all strings begin with the label of one.
        """
        if len(prompt.context) < 2 or prompt.context_rates:
            return False
        if self.demonstrations != "auto":
            return self.demonstrations == "whole"
        if not prompt.question.strip():
            return all(_ASKS.match(text) for text in prompt.context)
        labels = (set(_LABEL.findall(text)) for text in [prompt.question, *prompt.context])
        return bool(set.intersection(*labels))

    @property
    def budget_dependent(self) -> str | None:
        whole = self.demonstrations == "whole"
        return "drops whole strings (demonstrations), which depends on the budget" if whole else None


def evidence(draft: Draft, own: EvidenceSettings) -> Program[None]:
    """Decide what `draft` keeps."""
    question = "" if own.focus_model == "ignore" else draft.prompt.question
    whole = choose_demonstrations(draft, own, question) if own.keeps_whole(draft.prompt) else set()
    yield from gather_evidence(draft, question, [index for index in draft.chosen if index not in whole])
    keep_best(draft)


def choose_demonstrations(draft: Draft, own: EvidenceSettings, question: str) -> set[int]:
    """Keep those that share most with the question for their length and fit into the budget; all of them stay whole.

    One that does not fit is passed over for later ones that do. The best one comes last, next to the question. Without
    a question short ones are taken, in their order. Where not one fits and nothing else would be left, the best is cut.
    Returns those that stay whole.
    """
    costs = [part.cost for part in draft.context]
    relevance = bm25(question, draft.prompt.context)
    order = np.argsort(-(relevance + _TRACE) / np.maximum(1, costs), kind="stable").tolist()
    whole = required(draft, own.force_context_ids)
    left = shares(draft).demonstrations - sum(costs[index] for index in whole)
    for index in order:
        if index not in whole and costs[index] <= left:
            whole.add(index)
            left -= costs[index]
    for index in whole:
        draft.context[index].must = np.ones_like(draft.context[index].must)
    alone = not whole and not (draft.instruction.text + draft.question.text).strip()
    taken = order[:1] if alone else [index for index in order if index in whole]
    if alone:
        draft.context[order[0]] = draft.drafter.finer(draft.context[order[0]], draft.config.unit)
    draft.chosen = taken[::-1] if relevance.any() else sorted(taken)
    return whole


def gather_evidence(draft: Draft, question: str, cut: Sequence[int]) -> Program[None]:
    """Fill in the evidence of every token that may be dropped; those of the strings `cut` by the question, too."""
    parts = [draft.context[index] for index in cut if draft.context[index].text]
    told = set() if question.strip() else (yield from judge(draft.drafter, parts))
    for part in draft.flexible:
        if part not in told and part.must.tolist() != [True]:  # one that stays whole is a single unit
            place = (np.arange(len(part.ids)) / max(1, len(part.ids))).astype(np.float32)
            part.token_scores = token_evidence(part.encoding) * np.exp(-LEAD * place)
    if parts and question.strip():
        yield from _weigh_by_question(draft, question, parts)
    else:
        for part in parts:  # a question may ask for the number of who signed, or for a source
            _weaken(part, _SIGNATURE, SIGNED)
            _weaken(part, _CITED, SIGNED)
    for page in (part for part in parts if part.text.lstrip().startswith("<")):
        _weaken(page, _HIDDEN, 0)
    discount(parts, bool(draft.prompt.context_rates))


def _weigh_by_question(draft: Draft, question: str, parts: Sequence[PromptPart]) -> Program[None]:
    edges = [sentence_edges(part.text) for part in parts]
    strings = [slices(part.text, one) for part, one in zip(parts, edges, strict=True)]
    found = yield from advantages(draft.drafter, question, strings)
    for part, begins, values in zip(parts, edges, found, strict=True):
        sentence = part.encoding.within(begins)
        part.token_scores = part.token_scores * np.exp(values[sentence])


def discount(parts: Sequence[PromptPart], apart: bool) -> None:
    """Weigh sentences by what they do, and count equal ones once: all but one count next to nothing.

    That is the one that most others need, or that has most evidence. Those of parts that stand `apart`, in a structure,
    are not equal.
    """
    equal = defaultdict[tuple[int, str], list[tuple[int, float, Floats]]](list)
    for number, part in enumerate(parts):
        edges, (needs, heads) = sentence_edges(part.text), needed_sentences(part.text)
        sentences = slices(part.text, edges)
        evidence = np.split(part.token_scores, np.searchsorted(part.encoding.token_starts, edges[1:]))
        _weigh_by_form(sentences, needs, heads, evidence)
        guests = np.bincount(needs, minlength=len(needs)).tolist()
        for text, own, others in zip(sentences, evidence, guests, strict=True):
            if len(key := " ".join(text.split())) >= _TWIN:
                equal[number * apart, key].append((-others, -float(own.sum()), own))
    for each in (several for several in equal.values() if len(several) > 1):
        for _, _, own in sorted(each, key=itemgetter(0, 1))[1:]:
            own[:] *= _TRACE


def _weigh_by_form(sentences: Sequence[str], needs: Ints, heads: Bools, evidence: Sequence[Floats]) -> None:
    """Count nothing of sentences that say nothing or only head others, and little of those in which a text breaks off.

    What answers a question counts as much as that, which stands with it; a correction and a conclusion count more.
    """
    noise = np.asarray([_NOISE.fullmatch(text) is not None for text in sentences], bool)
    for at in _broken(sentences, heads):
        evidence[at][:] *= BROKEN if len(sentences[at].strip()) >= SCRAP else 0
    for asked, told in _answers(sentences, needs, heads):
        if not noise[told] and len(evidence[asked]):
            evidence[told][:] = np.maximum(evidence[told], evidence[asked].mean())
            evidence[asked][:] = 0
    for text, own, idle in zip(sentences, evidence, heads | noise, strict=True):
        if idle:
            own[:] = 0
        elif _CORRECTS.match(text) or _CONCLUDES.match(text):
            own[:] *= WEIGHTY


def _weaken(part: PromptPart, pattern: regex.Pattern[str], share: float) -> None:
    """Count no more than a share of what the pattern finds."""
    for found in pattern.finditer(part.text):
        first, last = part.encoding.token_starts.searchsorted(found.span())
        part.token_scores[first:last] *= share


def _answers(sentences: Sequence[str], needs: Ints, heads: Bools) -> Iterator[tuple[int, int]]:
    """Each question that what stands behind it needs, and what does, which often says nothing by itself (*No.*)."""
    for at in np.flatnonzero(needs[1:] == np.arange(len(needs) - 1)).tolist():
        if _QUESTION.search(sentences[at]):
            yield at, at + 1 + int(heads[at + 1] and at + 2 < len(needs))


def _broken(sentences: Sequence[str], heads: Bools) -> Iterator[int]:
    """The first and the last sentence of a running text that begins or ends within them."""
    told = np.flatnonzero(~heads)[:2].tolist()
    if [_RUNS_ON.match(sentences[at]) is not None for at in told] == [True, False] and "\n" not in sentences[told[1]]:
        yield told[0]
    if [_ENDED.search(text) is not None for text in sentences[-2:]] == [True, False] and "\n" not in sentences[-1]:
        yield -1


def judge(drafter: Drafter, parts: Sequence[PromptPart]) -> Program[set[PromptPart]]:
    """Fill in the evidence of the parts that the encoder can read, if it has a judge; returns these.

    The judge is a head over the encoder's states (`lingua.models.encoders.Judge`), trained on which words of paragraphs
    answer the questions that people wrote about them. It understands a word where it stands, which the word's kind and
    place cannot; these know numbers and names for certain. Both are added up.
    """
    if drafter.reader is None or not drafter.judged:
        return set()
    read = drafter.reader.encode([part.text for part in parts])
    legible = [(part, one) for part, one in zip(parts, read, strict=True) if _is_legible(one, drafter.reader.unknown)]
    answers = yield from token_answers([one for _, one in legible], drafter.window)
    for (part, one), answer in zip(legible, answers, strict=True):
        _, said = split_answer(answer, drafter.judged)
        part.token_scores = _evidence(part.encoding, one, said)
    return {part for part, _ in legible}


def _is_legible(read: Encoding, unknown: int | None) -> bool:
    known = len(read) > 0 and np.count_nonzero(read.ids == unknown) <= UNKNOWN * len(read)
    return bool(known) and len(read.text.strip()) >= LEGIBLE * len(read)


def _evidence(encoding: Encoding, read: Encoding, said: Judged) -> Floats:
    """Of each token [n], from what the judge says of those that the encoder `read`."""
    text = encoding.text
    words, sentences = word_edges(text), sentence_edges(text)
    word, sentence = _means(said.word[:, 0], read, words), _means(said.sentence[:, 0], read, sentences)
    odds = WORD * word + (1 - WORD) * word_odds(encoding, words)
    evidence = np.exp(SENTENCE * sentence[sentences.searchsorted(words, "right") - 1]) / (1 + np.exp(-odds))
    found: Floats = evidence[np.maximum(0, encoding.within(words))].astype(np.float32)
    return found


def _means(values: Floats, read: Encoding, edges: Ints) -> Table:
    """The mean of the tokens' values in each stretch that begins at one of the characters `edges`."""
    place = np.maximum(0, read.within(edges))
    count = np.bincount(place, minlength=len(edges))
    return np.bincount(place, values, len(edges)) / np.maximum(1, count)

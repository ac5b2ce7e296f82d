"""Metrics of what a generating target says, each a number from 0 (wrong) to 1 (right), and which of them a row is for.

Numbers and choices follow their benchmarks (`replies`); sub-span match is that of "Lost in the Middle", F1 that of
SQuAD; ROUGE is `rouge-score`'s F-measure over words of every script, BLEU `sacrebleu`'s for single sentences (a mean of
these is no corpus BLEU); `similarity` is explained in its own file. Of several right answers the best counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from jobs.evaluation.replies import final_answer, final_number, normalized, plain, words
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError
from lingua.words import terms

Metric = Callable[[str, Sequence[str]], float]
"""(reply, right answers) → a number from 0 to 1."""


def exact_number(reply: str, answers: Sequence[str]) -> float:
    """Whether the reply's final number is the right one."""
    said = final_number(reply)
    return float(said is not None and any(said == final_number(answer) for answer in answers))


def final_match(reply: str, answers: Sequence[str]) -> float:
    """Whether the reply's final answer is the right one, word by word."""
    return float(any(plain(final_answer(reply, answer)) == plain(answer) for answer in answers))


def subspan_em(reply: str, answers: Sequence[str]) -> float:
    """Whether a right answer stands anywhere in the reply, in normal form."""
    said = normalized(reply)
    return float(any(_within(answer, reply, said) for answer in answers))


def f1(reply: str, answers: Sequence[str]) -> float:
    """Overlap of the words of the reply with those of the nearest answer."""
    return max((_f1(words(reply), words(answer)) for answer in answers), default=0.0)


def rouge1(reply: str, answers: Sequence[str]) -> float:
    """ROUGE-1: overlap of words."""
    return _rouge(reply, answers, "rouge1")


def rouge2(reply: str, answers: Sequence[str]) -> float:
    """ROUGE-2: overlap of pairs of words."""
    return _rouge(reply, answers, "rouge2")


def rouge_l(reply: str, answers: Sequence[str]) -> float:
    """ROUGE-L: the longest common subsequence."""
    return _rouge(reply, answers, "rougeL")


def bleu(reply: str, answers: Sequence[str]) -> float:
    """Sentence BLEU with effective order, against all answers."""
    if not reply.strip() or not answers:
        return 0.0
    score = _bleu(bleu_tokenizer("".join(answers))).sentence_score(reply, list(answers)).score
    return min(1.0, float(score) / 100)


def edit_similarity(reply: str, answers: Sequence[str]) -> float:
    """How much of the reply's first line of code is the right one's (LongBench's code completion)."""
    lines = [line for line in reply.lstrip("\n").split("\n") if not line.startswith(("#", "//", "```"))] or [""]
    ratios = (SequenceMatcher(None, lines[0], answer, autojunk=False).ratio() for answer in answers)
    return max(ratios, default=0.0)


def similarity(reply: str, answers: Sequence[str]) -> float:
    """Nearness in meaning, token by token (`similarity.TokenSimilarity`)."""
    from jobs.evaluation.similarity import default_similarity

    return default_similarity()(reply, answers)


METRICS: Mapping[str, Metric] = {
    "exact_number": exact_number,
    "final_match": final_match,
    "subspan_em": subspan_em,
    "f1": f1,
    "rouge1": rouge1,
    "rouge2": rouge2,
    "rouge_l": rouge_l,
    "bleu": bleu,
    "similarity": similarity,
    "edit_similarity": edit_similarity,
}
NUMBER = ("exact_number",)
CHOICE = ("final_match",)
QUESTION = ("subspan_em", "f1")
REPLY = ("rouge1", "rouge2", "rouge_l", "bleu", "similarity")
CODE = ("edit_similarity",)
BY_SET: Mapping[str, Sequence[str]] = {
    "gsm8k": NUMBER,
    "bbh": CHOICE,
    **dict.fromkeys(("kv-retrieval", "trec", "lsht", "passage_count", "passage_retrieval"), ("subspan_em",)),
    **dict.fromkeys(("lcc", "repobench-p"), CODE),
    **dict.fromkeys(("sharegpt", "arxiv", "qmsum", "gov_report", "multi_news", "vcsum", "samsum"), REPLY),
    "meetingbank-qa": QUESTION,
    "meetingbank": REPLY,
}
"""Metrics by the beginning of a set's name, longest first; others are sets of questions."""


def metrics_of(row: EvalRow) -> Sequence[str]:
    """Which metrics a row is for: those that its ``meta["metrics"]`` names, else those of its set.

    ConfigError for a name that there is none of.
    """
    named = row.meta.get("metrics")
    if named is None:
        stems = sorted((stem for stem in BY_SET if row.set.startswith(stem)), key=len)
        return BY_SET[stems[-1]] if stems else QUESTION
    unknown = [name for name in named if name not in METRICS]
    if unknown:
        raise ConfigError(f"row {row.id}: meta.metrics names {unknown[0]!r}; there are {', '.join(METRICS)}")
    return tuple(named)


def textual(row: EvalRow, reply: str, metrics: Sequence[str] | None = None) -> dict[str, float]:
    """Each metric of a reply; nothing for a row without a right answer."""
    if not row.answers:
        return {}
    return {name: METRICS[name](reply, row.answers) for name in metrics or metrics_of(row)}


def bleu_tokenizer(text: str) -> str:
    """sacrebleu's tokenizer for the script of a text: words, Chinese, or characters where words are not parted."""
    if any("\u4e00" <= sign <= "\u9fff" for sign in text) and not any("\u3040" <= sign <= "\u30ff" for sign in text):
        return "zh"
    unparted = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u30ff"))
    return "char" if any(low <= sign <= high for sign in text for low, high in unparted) else "13a"


def _within(answer: str, reply: str, said: str) -> bool:
    wanted = normalized(answer)
    return wanted in said if wanted else bool(answer.strip()) and answer.strip().casefold() in reply.casefold()


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right))


class _Words:
    """Tokenizer for `rouge-score`: as its own on ASCII, and the words of other scripts instead of none."""

    def tokenize(self, text: str) -> list[str]:
        return terms(text.replace("_", " "))


@cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


def _rouge(reply: str, answers: Sequence[str], kind: str) -> float:
    scores = (_rouge_scorer(kind).score(answer, reply)[kind].fmeasure for answer in answers)
    return max((float(score) for score in scores), default=0.0)


@cache
def _bleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, tokenize=tokenizer)

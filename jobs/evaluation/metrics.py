"""What a reply says: its final number, its final answer, its words, as the benchmarks of the field take them.

Follows the scripts of GSM8K (what stands after ``####`` or "the answer is", else the last number), BIG-Bench Hard (what
stands after "the answer is") and SQuAD (lower case, no punctuation, no English articles), and extends the last to other
scripts: punctuation of all kinds goes, and where a script writes no spaces, each character is a word.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

from jobs.evaluation.rows import EvalRow, template_of
from lingua.engine.score import BatchRow, Context
from lingua.errors import ConfigError
from lingua.models.encoders import StateScorer
from lingua.models.load import Loader, choose_device
from lingua.models.source import EMBEDDER, resolve
from lingua.text.words import terms

_MARK = regex.compile(r"####|\banswer\s*(?:is|:)\s*:?|答案(?:是|为)?[:：]?", regex.IGNORECASE)
_NUMBER = regex.compile(r"(?<![\w.)])[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<![\w.)])[-−]?\.\d+")
_CHOICE = regex.compile(r"\(([A-Z])\)")
_LETTER = regex.compile(r"([A-Z])\b")
_ARTICLES = regex.compile(r"\b(a|an|the)\b")
_MARKS = frozenset(string.punctuation)
_AROUND = " \t.\"'*`“”$"
States = npt.NDArray[np.float32]


def after_mark(reply: str) -> str | None:
    """What stands after the last announcement of an answer; None without one."""
    end = max((found.end() for found in _MARK.finditer(reply)), default=None)
    return None if end is None else reply[end:]


def final_number(reply: str) -> Decimal | None:
    """The first number after the last announcement, else the last number; None without one."""
    reply = unicodedata.normalize("NFKC", reply)
    announced = after_mark(reply)
    if announced is not None and (found := _NUMBER.search(announced)):
        return _decimal(found.group())
    numbers = _NUMBER.findall(reply)
    return _decimal(numbers[-1]) if numbers else None


def final_answer(reply: str, right: str) -> str:
    """The reply's answer in the form of the right one: a choice such as ``(B)``, or the words of a line."""
    announced = after_mark(reply)
    lines = (reply if announced is None else announced).strip().splitlines() or [""]
    if not _CHOICE.fullmatch(right):
        return lines[0] if announced is not None else lines[-1]
    if choices := _CHOICE.findall("\n".join(lines)):
        return f"({choices[0 if announced is not None else -1]})"
    letter = _LETTER.match(lines[0].strip(_AROUND)) if announced is not None else None
    return f"({letter[1]})" if letter else lines[0]


def plain(answer: str) -> str:
    """An answer without what does not matter: case, white space, quotes, emphasis and a full stop around it."""
    return " ".join(answer.strip(_AROUND).casefold().split())


def normalized(text: str) -> str:
    """SQuAD's normal form, for every script."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(sign for sign in text if sign not in _MARKS and unicodedata.category(sign)[0] != "P")
    return " ".join(_ARTICLES.sub(" ", text).split())


def words(text: str) -> list[str]:
    """The words of the normal form; a character each in scripts without spaces."""
    return terms(normalized(text))


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace("−", "-").replace("$", "").replace(",", ""))


Metric = Callable[[str, Sequence[str]], float]
"""(reply, right answers) → a number from 0 to 1."""


def exact_number(reply: str, answers: Sequence[str]) -> float:
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


def rouge(kind: str, reply: str, answers: Sequence[str]) -> float:
    """ROUGE's F-measure against the nearest answer: rouge1 of words, rouge2 of pairs, rougeL of the common order."""
    scores = (_rouge_scorer(kind).score(answer, reply)[kind].fmeasure for answer in answers)
    return max((float(score) for score in scores), default=0.0)


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
    """Nearness in meaning, token by token."""
    return default_similarity()(reply, answers)


METRICS: Mapping[str, Metric] = {
    "exact_number": exact_number,
    "final_match": final_match,
    "subspan_em": subspan_em,
    "f1": f1,
    "rouge1": partial(rouge, "rouge1"),
    "rouge2": partial(rouge, "rouge2"),
    "rouge_l": partial(rouge, "rougeL"),
    "bleu": bleu,
    "similarity": similarity,
    "edit_similarity": edit_similarity,
}


def metrics_of(row: EvalRow) -> Sequence[str]:
    """Which metrics a row is for: those that its ``meta["metrics"]`` names, else those of its set.

    ConfigError for a name that there is none of.
    """
    if (named := row.meta.get("metrics")) is None:
        return template_of(row).metrics
    if unknown := [name for name in named if name not in METRICS]:
        raise ConfigError(f"row {row.id}: meta.metrics names {unknown[0]!r}; there are {', '.join(METRICS)}")
    return tuple(named)


def textual(row: EvalRow, reply: str) -> dict[str, float]:
    """Each metric of a reply; nothing for a row without a right answer."""
    return {name: METRICS[name](reply, row.answers) for name in metrics_of(row)} if row.answers else {}


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


@cache
def _bleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, tokenize=tokenizer)


class TokenSimilarity:
    """Similarity by the states of tokens that `scorer` gives. References are read once for many replies."""

    def __init__(self, scorer: StateScorer) -> None:
        self.scorer = scorer
        self._known = lru_cache(256)(self._states)

    def __call__(self, reply: str, answers: Sequence[str]) -> float:
        """F1 against the nearest answer, from 0 to 1 (1: the same tokens); 0 when either is empty."""
        said = self._states(reply)
        return max((_matched_f1(said, self._known(answer)) for answer in answers), default=0.0)

    def _states(self, text: str) -> States:
        """Unit vectors of the tokens [tokens, size]; [0, 0] of a text without any."""
        ids = self.scorer.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        size = self.scorer.probe_tokens
        windows = [BatchRow(Context(), ids[begin : begin + size]) for begin in range(0, len(ids), size)]
        return np.concatenate(self.scorer.score(windows)) if windows else np.zeros((0, 0), np.float32)


@cache
def default_similarity() -> TokenSimilarity:
    """Loaded once a process. ModelError when the model is not there."""
    loader = Loader(resolve(EMBEDDER), dtype="float32")
    return TokenSimilarity(StateScorer(loader.base, loader.tokenizer(), choose_device("auto")))


def _matched_f1(said: States, right: States) -> float:
    if not len(said) or not len(right):
        return 0.0
    cosine = said @ right.T
    precision, recall = float(cosine.max(1).mean()), float(cosine.max(0).mean())
    return max(0.0, min(1.0, 2 * precision * recall / (precision + recall))) if precision + recall > 0 else 0.0

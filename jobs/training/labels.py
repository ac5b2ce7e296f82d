"""Words with scores: the form in which labels are made, stored and given; and who says them of a text.

The words add up to the text (white space stands before its word), so nothing has to be matched again when another
tokenizer cuts it. What a score means is the teacher's business: surprisal in nats, a probability, or 0 and 1.

`label_compression` is the annotation of LLMLingua-2 (arXiv 2403.12968, section 3.2 f.). A model that is asked to leave
words out still changes some: it inflects, reorders, invents. So each word of the compression is looked for near the one
found before it, ahead first, as it is and then by its stem; a word of the original is labelled once. Two rates say how
far the result can be trusted, and `best` filters by them. The paper's lemmatizer is replaced by a rule that needs no
language.

Of teachers `compressor` is any method of this package that scores words by itself; `endpoint` asks a language model to
leave words out; ``module:function`` is anybody's own: texts → for each of them one score for each of its words
(`words_of`), in [0, 1] or, with ``--targets rank``, anywhere. Where rows bring compressions, labels or answers, these
are the teacher.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import accumulate, pairwise
from typing import Any, cast

import numpy as np
import regex

from cluster.errors import RowError
from jobs.generation import Writer
from jobs.training.settings import AlignConfig, DistillConfig, TrainingConfig
from lingua.compressor import Compressor
from lingua.errors import ConfigError, ModelError
from lingua.methods import models_digest
from lingua.models.source import resolve
from lingua.prompt import Prompt, Rejected, Span
from lingua.text.words import slices, terms, word_edges

WINDOW = 150
"""Words ahead in which a word of the compression is looked for; half as many behind."""
STEM = 4
ENDING = 3
LONGEST_ANSWER = 60
"""Characters; longer answers say little about single words."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and what its words are worth.

    words, scores   the words and their scores, as many of the one as of the other
    origin          file and row that the text is from: chunks of one origin are trained on or held out together
    variation       of a compression: the share of its words that the original does not have
    gap             of a compression: how many more of them the original has than were found where they should stand
    """

    words: tuple[str, ...]
    scores: tuple[float, ...]
    origin: str = ""
    variation: float = 0.0
    gap: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.words)

    def to_line(self) -> str:
        """As a line of JSON, which `labels_of_row` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, or a chunk of one; `origin` says which file and row it is from."""

    origin: str
    text: str
    given: Any = None  # what the row says of the text: its compression, or its labels


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text as `unit: word` cuts them; they add up to it."""
    return tuple(slices(text, word_edges(text)))


def labels_of_row(row: Mapping[str, Any], origin: str = "") -> Labelled:
    """The labels in a row with `words` and `labels` (or `scores`). RowError when they do not belong together."""
    words, scores = row.get("words"), row.get("labels", row.get("scores"))
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RowError("no_words", "a labelled row needs 'words', a list of strings that add up to its text")
    require_whole("".join(words), "words")
    if not isinstance(scores, list) or not all(_is_number(score) for score in scores):
        raise RowError("no_labels", "a labelled row needs 'labels' (or 'scores'), a list of numbers")
    if len(words) != len(scores):
        raise RowError("wrong_labels", f"{len(words)} words but {len(scores)} labels: give one label for each word")
    rates = {name: float(row[name]) for name in ("variation", "gap") if _is_number(row.get(name))}
    return Labelled(tuple(words), tuple(map(float, scores)), str(row.get("origin", origin)), **rates)


def require_whole(text: str, name: str) -> None:
    """RowError when a text holds a lone surrogate, which no file in UTF-8 can."""
    if not text.isascii() and any(0xD800 <= ord(sign) < 0xE000 for sign in text):
        raise RowError("invalid_unicode", f"{name} holds a lone surrogate: not valid text; mend the row")


# ---- a text and its compression


def label_compression(text: str, compressed: str, origin: str = "") -> Labelled:
    """The words of `text` with 1 for those that `compressed` kept and 0 for the others, and both rates."""
    words = words_of(text)
    known = [(term, number) for number, word in enumerate(words) for term in terms(word)]
    original, shorter = [term for term, _ in known], terms(compressed)
    found, vocabulary = list(matches(original, shorter)), set(original)
    kept = {known[place][1] for place in found}
    hits = sum(term in vocabulary for term in shorter)
    variation = 1 - hits / len(shorter) if shorter else 0.0
    gap = (hits - len(found)) / len(original) if original else 0.0
    return Labelled(words, tuple(float(number in kept) for number in range(len(words))), origin, variation, gap)


def matches(original: Sequence[str], shorter: Iterable[str], window: int = WINDOW) -> Iterator[int]:
    """Places in `original` of the words of `shorter`, in their order; words that are nowhere near are left out."""
    free = [True] * len(original)
    last = -1
    for term in shorter:
        ahead = range(last + 1, min(len(original), last + 1 + window))
        behind = range(last - 1, max(-1, last - 1 - window // 2), -1)
        places = [place for place in (*ahead, *behind) if free[place]]
        place = next((one for one in places if original[one] == term), None)
        if place is None:
            place = next((one for one in places if same_stem(original[one], term)), None)
        if place is not None:
            free[place] = False
            last = place
            yield place


def same_stem(one: str, other: str) -> bool:
    """Whether two words differ by their endings alone (*open*, *opened*); never true of numbers."""
    alike = [left == right for left, right in zip(one, other, strict=False)]
    stem = [*alike, False].index(False)
    rest = max(len(one), len(other)) - stem
    return stem >= STEM and rest <= ENDING and not any(sign.isdigit() for sign in one[stem:] + other[stem:])


def best(records: Sequence[Labelled], variation: float, gap: float) -> list[Labelled]:
    """What the paper's filters leave: without the share `variation` of highest variation rate, and then without the
    share `gap` of what is left with the widest alignment gap. Where all are equally good, none goes."""
    chosen = _without_worst(records, [record.variation for record in records], variation)
    return _without_worst(chosen, [record.gap for record in chosen], gap)


def _without_worst(records: Sequence[Labelled], faults: Sequence[float], share: float) -> list[Labelled]:
    if not records:
        return []
    limit = np.quantile(np.asarray(faults), 1 - share, method="lower")
    return [record for record, fault in zip(records, faults, strict=True) if fault <= limit]


# ---- a text and answers that stand in it


def label_answers(text: str, answers: Any, origin: str = "") -> Labelled:
    """The words of `text` with 1 for those that answered a question and 0 for the others.

    An answer is a string, looked for as whole words, or an object with `text` and `answer_start`, the character at
    which it begins. RowError for anything else.
    """
    if not isinstance(answers, list):
        raise RowError("no_answers", "the answers must be a list of strings, or of objects with text and answer_start")
    spans = [span for answer in answers for span in _places(text, *_answer(answer))]
    words = words_of(text)
    edges = pairwise([0, *accumulate(map(len, words))])
    return Labelled(words, tuple(float(any(a < end and start < b for a, b in spans)) for start, end in edges), origin)


def _answer(answer: Any) -> tuple[str, int | None]:
    wanted, begin = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, Mapping) else (answer, None)
    if not isinstance(wanted, str) or not (begin is None or isinstance(begin, int)):
        raise RowError("no_answers", f"an answer is a string, or an object with text and answer_start; not {answer!r}")
    return wanted.strip(), begin


def _places(text: str, answer: str, begin: int | None) -> Iterator[Span]:
    """Where an answer stands: as told, else its first occurrence as whole words; nowhere if it is empty or long."""
    if not 0 < len(answer) <= LONGEST_ANSWER:
        return
    if begin is not None:
        yield begin, begin + len(answer)
    elif found := regex.search(rf"(?<!\w){regex.escape(answer)}(?!\w)", text, regex.IGNORECASE):
        yield found.span()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


# ---- teachers, functions from passages to labels; a target is known as they are

Teacher = Callable[[Sequence[Passage]], Iterable[Labelled]]
WordScores = Callable[[Sequence[str]], Sequence[Sequence[float]]]

INSTRUCTION = """\
Shorten the text below by leaving words out, for a reader who has to answer questions about it.
Rules:
- Leave out only words that the meaning does not need.
- Write the words that stay exactly as they are: no other form, no synonym, no abbreviation.
- Keep their order, and add nothing.
- Keep all names, numbers and dates.
Leave out as many words as these rules allow, and reply with the shortened text alone.

Text:
{text}

Shortened text:
"""


def load_teacher(config: DistillConfig, device: str) -> Teacher:
    """The teacher that the settings name. Raises ConfigError or ModelError when it cannot be had."""
    match config.teacher:
        case "labels" | "answers":
            return lambda passages: [passage.given for passage in passages]
        case "pairs":
            return lambda passages: [label_compression(one.text, one.given, one.origin) for one in passages]
        case "compressor":
            return from_compressor(Compressor(config.teacher_model, config.compression, device=device))
        case "endpoint":
            return from_writer(open_endpoint(config, config.teacher_model), config.chunk_tokens)
    return from_function(find_function(config.teacher))


def teacher_digest(config: TrainingConfig) -> str:
    """Who makes the labels or responses: the digest of a model's files, or an endpoint and a model's name there.

    "" where they come with the rows. Raises ConfigError or ModelError when it cannot be found.
    """
    if isinstance(config, AlignConfig):
        if config.target is None or config.endpoint is None:
            return "" if config.target is None else resolve(config.target).digest
        return f"{config.endpoint_mode}:{config.endpoint}:{config.target}"
    assert isinstance(config, DistillConfig)
    if ":" in config.teacher:
        find_function(config.teacher)
    return models_digest(resolve(config.teacher_model), config.compression) if config.teacher == "compressor" else ""


def from_compressor(compressor: Compressor) -> Teacher:
    """A teacher whose scores are those of the compressor's method, each text read by itself."""

    def label(passages: Sequence[Passage]) -> Iterator[Labelled]:
        found = compressor.word_labels([Prompt(context=[passage.text]) for passage in passages])
        for passage, labels in zip(passages, found, strict=True):
            if isinstance(labels, Rejected):
                raise ModelError(f"{passage.origin}: the teacher cannot label it: {labels.detail}")
            (words,) = labels
            yield Labelled(tuple(word.text for word in words), tuple(word.score for word in words), passage.origin)

    return label


def from_writer(writer: Writer, chunk_tokens: int) -> Teacher:
    """A teacher that asks a language model to leave words out; those found again in its reply score 1."""

    def label(passages: Sequence[Passage]) -> list[Labelled]:
        replies = writer.generate([INSTRUCTION.format(text=passage.text) for passage in passages], 2 * chunk_tokens, ())
        return [label_compression(one.text, reply, one.origin) for one, reply in zip(passages, replies, strict=True)]

    return label


def from_function(scores: WordScores) -> Teacher:
    """A teacher made of a function of texts. ModelError when it does not give one score for each word."""

    def label(passages: Sequence[Passage]) -> Iterator[Labelled]:
        found = scores([passage.text for passage in passages])
        try:
            given = [tuple(map(float, one)) for one in found]
        except (TypeError, ValueError) as error:
            raise ModelError(f"the teacher gave no list of numbers for each text: {error}") from None
        if len(given) != len(passages):
            raise ModelError(f"the teacher gave scores for {len(given)} texts, not {len(passages)}")
        for passage, values in zip(passages, given, strict=True):
            if len(words := words_of(passage.text)) != len(values):
                raise ModelError(f"{passage.origin}: the teacher gave {len(values)} scores for {len(words)} words")
            if not all(map(math.isfinite, values)):
                raise ModelError(f"{passage.origin}: the teacher gave a score that is no finite number")
            yield Labelled(words, values, passage.origin)

    return label


def find_function(name: str) -> WordScores:
    """The function called ``module:function``. ConfigError when there is none."""
    module, _, attribute = name.partition(":")
    try:
        return cast(WordScores, getattr(import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"teacher = {name}: cannot be imported ({error}); write module:function") from None


def open_endpoint(config: TrainingConfig, model: str) -> Writer:
    """A model behind an OpenAI-compatible endpoint. Its answers are kept in the output: nothing is paid for twice."""
    from jobs.endpoint import Endpoint, EndpointSettings  # needs openai

    settings = {"url": config.endpoint, "model": model, "mode": config.endpoint_mode}
    cache = f"{config.output}/answers"
    return Endpoint(EndpointSettings(**settings, cache=cache, storage_options=config.storage_options))

"""Who says what is to be learnt: teachers label the words of texts, targets continue prompts.

A teacher is a function from passages to labels. `compressor` is any method of this package that scores words by itself;
`endpoint` asks a language model to leave words out (LLMLingua-2, arXiv 2403.12968, section 3.1); ``module:function`` is
anybody's own: texts → for each of them one score for each of its words (`labels.words_of`), in [0, 1] or, with
``--targets rank``, anywhere. Where rows bring compressions, labels or answers, these are the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

from jobs.generation import Writer
from jobs.training.labels import Labelled, label_compression, words_of
from jobs.training.rows import Passage
from jobs.training.settings import AlignConfig, DistillConfig, TrainingConfig
from lingua.compressor import Compressor
from lingua.errors import ConfigError, ModelError
from lingua.methods import models_digest
from lingua.models.source import resolve
from lingua.prompt import Prompt, Rejected

Teacher = Callable[[Sequence[Passage]], list[Labelled]]
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

    def label(passages: Sequence[Passage]) -> list[Labelled]:
        found = compressor.word_labels([Prompt(context=[passage.text]) for passage in passages])
        return [_taken(passage, labels) for passage, labels in zip(passages, found, strict=True)]

    def _taken(passage: Passage, labels: Any) -> Labelled:
        if isinstance(labels, Rejected):
            raise ModelError(f"{passage.origin}: the teacher cannot label it: {labels.detail}")
        (words,) = labels
        return Labelled(tuple(word.text for word in words), tuple(word.score for word in words), passage.origin)

    return label


def from_writer(writer: Writer, chunk_tokens: int) -> Teacher:
    """A teacher that asks a language model to leave words out; those found again in its reply score 1."""

    def label(passages: Sequence[Passage]) -> list[Labelled]:
        replies = writer.generate([INSTRUCTION.format(text=passage.text) for passage in passages], 2 * chunk_tokens, ())
        return [label_compression(one.text, reply, one.origin) for one, reply in zip(passages, replies, strict=True)]

    return label


def from_function(scores: WordScores) -> Teacher:
    """A teacher made of a function of texts. ModelError when it does not give one score for each word."""

    def label(passages: Sequence[Passage]) -> list[Labelled]:
        found = scores([passage.text for passage in passages])
        try:
            values = [tuple(map(float, one)) for one in found]
        except (TypeError, ValueError) as error:
            raise ModelError(f"the teacher gave no list of numbers for each text: {error}") from None
        if len(values) != len(passages):
            raise ModelError(f"the teacher gave scores for {len(values)} texts, not {len(passages)}")
        return list(map(_scored, passages, values))

    def _scored(passage: Passage, values: tuple[float, ...]) -> Labelled:
        words = words_of(passage.text)
        if len(words) != len(values):
            raise ModelError(f"{passage.origin}: the teacher gave {len(values)} scores for {len(words)} words")
        if not all(map(math.isfinite, values)):
            raise ModelError(f"{passage.origin}: the teacher gave a score that is no finite number")
        return Labelled(words, values, passage.origin)

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

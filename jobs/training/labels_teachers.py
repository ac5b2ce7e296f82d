"""Teachers: what says of every word of a text how much it is worth; all one kind of function, so another is easily had.

`compressor` is any method of this package that scores words, without a question; `endpoint` asks a language model to
leave words out (LLMLingua-2, arXiv 2403.12968, section 3.1) and finds the kept ones in the original;
``module:function`` is anybody's own: texts → for each text one score for each of its words (`labels_records.words_of`),
in [0, 1] or, with ``--targets rank``, anywhere. Where compressions, labels or answers are given, they are
the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_align import align
from jobs.training.labels_answers import label_answers
from jobs.training.labels_read import Piece
from jobs.training.labels_records import Labelled, from_row, words_of
from lingua.compressor import Compressor
from lingua.errors import ConfigError, ModelError
from lingua.labels import Labels
from lingua.models.source import models_digest, resolve
from lingua.prompt import Prompt, Rejected

Teacher = Callable[[Sequence[Piece]], list[Labelled]]
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


class Generates(Protocol):
    """Whatever continues prompts, as the targets of `jobs.evaluation` do."""

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]: ...


def load_teacher(config: DistillConfig, device: str) -> Teacher:
    """The teacher that the settings name. Raises ConfigError or ModelError when it cannot be had."""
    match config.teacher:
        case "labels":
            return lambda pieces: [from_row(piece.row or {}, piece.origin) for piece in pieces]
        case "pairs":
            return lambda pieces: [align(piece.text, piece.compressed, piece.origin) for piece in pieces]
        case "answers":
            column = config.answers_column
            return lambda pieces: [label_answers(one.text, (one.row or {}).get(column), one.origin) for one in pieces]
        case "compressor":
            return from_compressor(Compressor(config.teacher_model, config.compression, device=device))
        case "endpoint":
            return from_endpoint(_endpoint(config), config.chunk_tokens)
    return from_function(find_function(config.teacher))


def teacher_digest(config: DistillConfig) -> str:
    """What the labels depend on besides the settings: the compressor's model files. "" where there is none."""
    return models_digest(resolve(config.teacher_model), config.compression) if config.teacher == "compressor" else ""


def from_compressor(compressor: Compressor) -> Teacher:
    """A teacher whose scores are those of the compressor's method, each text read by itself."""

    def label(pieces: Sequence[Piece]) -> list[Labelled]:
        found = compressor.word_labels([Prompt(context=[piece.text]) for piece in pieces])
        return [_taken(piece, labels) for piece, labels in zip(pieces, found, strict=True)]

    def _taken(piece: Piece, labels: Labels | Rejected) -> Labelled:
        if isinstance(labels, Rejected):
            raise ModelError(f"{piece.origin}: the teacher cannot label it: {labels.detail}")
        (words,) = labels
        return Labelled(tuple(word.text for word in words), tuple(word.score for word in words), piece.origin)

    return label


def from_endpoint(model: Generates, chunk_tokens: int) -> Teacher:
    """A teacher that lets a language model leave words out; those found again in its reply score 1."""

    def label(pieces: Sequence[Piece]) -> list[Labelled]:
        prompts = [INSTRUCTION.format(text=piece.text) for piece in pieces]
        replies = model.generate(prompts, 2 * chunk_tokens, ())
        return [align(piece.text, reply, piece.origin) for piece, reply in zip(pieces, replies, strict=True)]

    return label


def from_function(scores: WordScores) -> Teacher:
    """A teacher made of a function of texts. ModelError when it does not give one score for each word."""

    def label(pieces: Sequence[Piece]) -> list[Labelled]:
        found = scores([piece.text for piece in pieces])
        return [_scored(piece, list(map(float, values))) for piece, values in zip(pieces, found, strict=True)]

    def _scored(piece: Piece, values: list[float]) -> Labelled:
        words = words_of(piece.text)
        if len(words) != len(values):
            raise ModelError(f"{piece.origin}: the teacher gave {len(values)} scores for {len(words)} words")
        return Labelled(words, tuple(values), piece.origin)

    return label


def find_function(name: str) -> WordScores:
    """The function called ``module:function``. ConfigError when there is none."""
    module, _, attribute = name.partition(":")
    try:
        return cast(WordScores, getattr(import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"teacher = {name}: cannot be imported ({error}); write module:function") from None


def _endpoint(config: DistillConfig) -> Generates:
    from jobs.evaluation.endpoint import Endpoint, EndpointSettings

    settings = {"url": config.endpoint, "model": config.teacher_model, "mode": config.endpoint_mode}
    cache = f"{config.output}/answers"
    return Endpoint(EndpointSettings(**settings, cache=cache, storage_options=config.storage_options))

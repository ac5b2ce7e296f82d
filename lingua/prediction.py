"""How well a compressed text predicts the original, by the surprisal of the model that compressed; for a sample.

NLL(original | compressed) lies between two ends: NLL(original) with nothing read before, and NLL(original | original),
what is left when all was. `predicted` is the share of the way, 0 to 1: what of the original a reader of this kind can
still tell. It needs no label and no other model, but about three forwards over the row. It is measured on stretches of
the context strings that fit any window: all of a short prompt, a few stretches spread over a long one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingua.config import CompressionConfig
from lingua.draft import Draft, cut_text
from lingua.fidelity import cuttable
from lingua.methods import METHODS
from lingua.prompt import CompressedPrompt, Prompt, Span
from lingua.score import Context, Program, Score, Surprisal

STRETCH = 256
"""Tokens of the original that are predicted at once."""
STRETCHES = 4


def measurable(config: CompressionConfig) -> bool:
    """Whether the method brings a model that can be asked."""
    return METHODS[config.method].needs == "causal"


def drawn(prompt: Prompt, share: float) -> bool:
    """Whether a prompt is in a sample of this share: by its content, so that every run draws the same ones."""
    if share <= 0:
        return False
    content = "\0".join((prompt.instruction, *prompt.context, prompt.question))
    digest = hashlib.blake2b(content.encode(), digest_size=8, person=b"sample").digest()
    return int.from_bytes(digest, "big") < share * 2**64


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Consecutive tokens of one context string, and those of what was kept of their characters."""

    original: list[int]
    kept: list[int]


def prediction(draft: Draft, result: CompressedPrompt) -> Program[float | None]:
    """The share of the original that `result` predicts, in [0, 1]; None where there is nothing to tell it by."""
    stretches = _stretches(draft, result)
    if not stretches:
        return None
    separator = draft.ids(draft.prompt.separator)

    def score(one: _Stretch, before: list[int]) -> Score:
        return Score(Context(draft.head), one.original, [*before, *separator] if before else ())

    alone = [score(one, []) for one in stretches]
    given = [score(one, one.kept) for one in stretches]
    whole = [score(one, one.original) for one in stretches]
    answers = yield [*alone, *given, *whole]
    count = len(stretches)
    nothing, some, all_of_it = (_total(answers[at : at + count]) for at in (0, count, 2 * count))
    return min(1.0, max(0.0, (nothing - some) / (nothing - all_of_it))) if nothing > all_of_it else None


def _total(answers: Sequence[Surprisal]) -> float:
    """Nats; each stretch's first token aside, which nothing may stand before."""
    return float(sum(answer[1:].sum() for answer in answers))


def _stretches(draft: Draft, result: CompressedPrompt) -> list[_Stretch]:
    size = max(2, min(STRETCH, draft.drafter.window // 2))
    places = [
        (index, begin)
        for index, part in enumerate(draft.context)
        if cuttable(part)
        for begin in range(0, len(part.encoding), size)
        if len(part.encoding) - begin > 1
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(STRETCHES, len(places))).round().astype(int))
    return [_stretch(draft, result, places[at], size) for at in chosen.tolist()]


def _stretch(draft: Draft, result: CompressedPrompt, place: tuple[int, int], size: int) -> _Stretch:
    index, begin = place
    encoding = draft.context[index].encoding
    ids = encoding.ids[begin : begin + size].tolist()
    last = begin + len(ids) == len(encoding)
    edges = int(encoding.token_starts[begin]), len(encoding.text) if last else int(encoding.token_starts[begin + size])
    return _Stretch(ids, draft.ids(cut_text(encoding.text, _within(result.kept_spans[index], edges))))


def _within(spans: Sequence[Span], edges: Span) -> list[Span]:
    """What of the spans lies between the edges."""
    clipped = ((max(start, edges[0]), min(end, edges[1])) for start, end in spans)
    return [(start, end) for start, end in clipped if start < end]

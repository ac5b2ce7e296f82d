"""Which scorer a causal model gets: packed, if its numbers stay the same that way, else row by row with the reason.

A small question is answered both ways. What so short a question cannot show is read from the configuration: positions
whose factors depend on the longest row of a batch, and attention of which the packed form is not told all.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lingua.engine.score import Answer, BatchRow, Context, OutOfMemoryError
from lingua.errors import ModelError
from lingua.models.causal import PackedScorer, PlainScorer, PooledScorer, slides
from lingua.models.packed import PACKED, KeyValues, Options, packed_attention
from lingua.models.pooled import PooledKeyValues, TokenPool
from lingua.models.sizing import USUAL, Allowance

log = logging.getLogger(__name__)

_POOL_TOKENS = 1_024
_KNOWN_LAYERS = {"full_attention", "sliding_attention", "attention"}
_BATCHED_ROPE = re.compile(r".*dynamic.*|longrope|su")
"""Kinds of rotary positions whose factors are those of the batch's last position."""
_NOISE = 4
_MOST_NOISE = 5
"""More is allowed where a model's own answers differ with the length of a row, which should change nothing."""
_LEAK = 0.05
"""Nats by which what stands behind tokens may move their surprisal on average; causal models differ by rounding."""
_WORST = 8
"""Times the average, for any one token."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Nats between packed and plain answers: `mean` and `worst` of all tokens, and the mean that is `allowed`."""

    mean: float
    worst: float
    allowed: float

    @property
    def small(self) -> bool:
        return self.mean < self.allowed and self.worst < _WORST * self.allowed

    def __str__(self) -> str:
        return f"{self.mean:.2g} nats on average, {self.worst:.2g} at most, {self.allowed:.2g} allowed on average"


class RefusedError(Exception):
    """A model cannot run packed; why."""


def causal_scorer(model: Any, allowance: Allowance = USUAL) -> PlainScorer:
    """The fastest scorer that gives this model's own numbers. Leaves the model set up for it.

    Raises ModelError where the device's memory is too small to run the model at all, or it reads what it is to predict.
    """
    cap = _cap(model.config.get_text_config())
    if cap:  # some versions of transformers leave it out, without a word, unless attention is eager
        with contextlib.suppress(ValueError, ImportError):
            model.set_attn_implementation("eager")
    plain = PlainScorer(model, allowance)
    implementation = model.config._attn_implementation
    try:
        refuse_by_configuration(model.config.get_text_config(), implementation)
        scorer, difference = _packed(model, plain, allowance)
    except OutOfMemoryError as error:
        raise ModelError(f"the device's memory is too small to run the model once: {error}") from error
    except (RefusedError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, LookupError) as error:
        model.set_attn_implementation(implementation)
        plain.packing = f"row by row: {error}"
        log.warning("%s runs row by row, which is slow: %s", type(model).__name__, error)
        return plain
    scorer.packing = f"packed; differs from the plain forward by {difference}"
    log.info("%s runs %s", type(model).__name__, scorer.packing)
    return scorer


def _cap(config: Any) -> float:
    return float(getattr(config, "attn_logit_softcapping", None) or 0)


def refuse_by_configuration(config: Any, implementation: str) -> None:
    """Raise the reason for which a model must not run packed, whatever a short question says."""
    ropes = ", ".join(sorted({kind for kind in _rope_types(config) if _BATCHED_ROPE.fullmatch(kind)}))
    if ropes:
        raise RefusedError(f"its rotary positions are of type {ropes}: they depend on the longest row of a batch")
    others = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if others:
        raise RefusedError(f"it has layers of type {', '.join(sorted(others))}, which are not computed packed")
    if _cap(config) and implementation != "eager":
        raise RefusedError("its attention logits are capped, and it has no eager attention to compare with")


def _rope_types(config: Any) -> Iterator[str]:
    """The kinds of rotary positions in a configuration, which may have one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(config, name, None) or {}
        for one in (found, *(value for value in found.values() if isinstance(value, dict))):
            yield from (str(one[key]) for key in ("rope_type", "type") if key in one)


def _packed(model: Any, plain: PlainScorer, allowance: Allowance) -> tuple[PackedScorer, Difference]:
    """A packed scorer that says what the plain one does, and how nearly. Raises RefusedError, ModelError."""
    from transformers import AttentionInterface  # takes seconds, for nothing where only a tokenizer is read

    ids = np.random.default_rng(0).integers(0, plain.vocabulary, 3 * 16).tolist()
    expected = plain.score([BatchRow(Context(ids=ids[:24]), ids[24:40]), BatchRow(Context(), ids[40:])])
    longer, other = plain.score([BatchRow(Context(ids=ids[:24]), [*ids[24:40], *end]) for end in (ids[40:], ids[:8])])
    if (leak := float(np.abs(longer[:16] - other[:16]).mean())) > _LEAK:
        raise ModelError(f"{type(model).__name__} is no causal model: later text moves its answers by {leak:.2g} nats")
    AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(PACKED)
    scorer = _scorer(model, plain, allowance)
    scorer.noted = []
    got = _answers(scorer, ids)
    _refuse_by_what_was_asked(model.config.get_text_config(), scorer.noted)
    scorer.noted = None
    away = np.abs(np.concatenate(got) - np.concatenate(expected))
    noise = float(np.abs(longer[:16] - expected[0]).mean())
    usual = 1e-3 if model.dtype == torch.float32 else 0.1  # nats; in half precision a logit of 20 is rounded to 1/16
    difference = Difference(float(away.mean()), float(away.max()), max(usual, min(_NOISE * noise, _MOST_NOISE * usual)))
    if not difference.small:
        raise RefusedError(f"packed, its answers differ by {difference}")
    if isinstance(scorer, PooledScorer):
        scorer.take_memory(scorer.pool)
    return scorer, difference


def _scorer(model: Any, plain: PlainScorer, allowance: Allowance) -> PackedScorer:
    """On a CPU a row at a time is as fast as a group, and nothing is padded."""
    if plain.device.type == "cuda":
        return PooledScorer(model, allowance, TokenPool(_POOL_TOKENS))
    return PackedScorer(model, allowance)


def _answers(scorer: PackedScorer, ids: list[int]) -> list[Answer]:
    """The same two rows, the first after its context was cached."""
    context = Context(ids=ids[:12])
    scorer.score([BatchRow(context, ids[40:])])
    layers = context.cache.layers if isinstance(context.cache, KeyValues | PooledKeyValues) else 0
    if layers != scorer.layers:
        raise RefusedError(f"attention of {layers} of its {scorer.layers} layers goes through transformers' interface")
    context.ids.extend(ids[12:24])
    return scorer.score([BatchRow(context, ids[24:40]), BatchRow(Context(), ids[40:])])


def _refuse_by_what_was_asked(config: Any, noted: Sequence[Options]) -> None:
    """Raise RefusedError where a cap or a window is in the configuration, but not told to the attention function."""
    layers = int(config.num_hidden_layers)
    if _cap(config) and any(one.softcap != _cap(config) for one in noted):
        raise RefusedError("its attention is not told the cap of its logits")
    kinds = getattr(config, "layer_types", None)
    windows = sum(one.window is not None for one in noted[:layers])
    expected = list(kinds).count("sliding_attention") if kinds else layers * slides(config)
    if windows != expected:
        raise RefusedError(f"{expected} of its layers have a sliding window, and {windows} say so to their attention")

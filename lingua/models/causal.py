"""Surprisal of tokens after a context, by any causal language model of transformers.

`PlainScorer` recomputes everything, row by row, with the model as it comes: slow and obviously right. `PackedScorer`
gives the same numbers without waste: rows packed without padding, keys and values of contexts cached, the head applied
only where a token is probed. `causal_scorer` checks once, on the model at hand, that they agree, and falls back where
they do not (`trial`).

The head never holds more logits than a bound: it takes hidden states in slices (`Head`). Logits stay in the model's own
dtype, only a few rows at a time are float32 as well. Where torch compiles the reduction for a GPU none are: one kernel
reads the logits and writes a number a row.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lingua.engine.score import Answer, Arriving, BatchRow, Cache, Context, OutOfMemoryError, Scorer
from lingua.errors import ModelError
from lingua.models import sizing
from lingua.models.packed import (
    Attends,
    KeyValues,
    Noting,
    Options,
    PackedRow,
    PackedRows,
    batch_at_hand,
    download,
    upload,
)
from lingua.models.pooled import PooledKeyValues, PooledRows, TokenPool
from lingua.models.sizing import USUAL, Allowance, choose_sizes, is_out_of_memory
from lingua.prompt import Floats, Ints

log = logging.getLogger(__name__)

_DEFAULT_WINDOW = 2_048
_CLOSE = 1e-3
"""Nats by which the compiled reduction may differ."""

Reduction = Callable[[Tensor, Tensor, float | None], Tensor]


class PlainScorer(Scorer):
    """Every row computed from scratch by the untouched model.

    packing   what came of the question whether the model can do better, in words
    """

    packing = "not tried"

    def __init__(self, model: Any, allowance: Allowance = USUAL) -> None:
        self._model = model
        self.device = next(model.parameters()).device
        self.ahead = int(self.device.type == "cuda")
        config = model.config.get_text_config()
        self.window = int(getattr(config, "max_position_embeddings", None) or _DEFAULT_WINDOW)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.layers = int(config.num_hidden_layers)
        self._sizes = choose_sizes(config, model.dtype, self.device, allowance)
        self.batch_tokens, self.live_tokens = self._sizes.batch_tokens, self._sizes.live_tokens

    @property
    def probe_tokens(self) -> int:
        """Half a window at most, so that every token is scored after at least half a window of text."""
        return max(1, min(self.batch_tokens, self.window // 2))

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        """Begin to compute surprisals in nats. Raises OutOfMemoryError; ValueError where two rows share one context."""
        if len({id(row.context) for row in rows}) < len(rows):
            raise ValueError("two rows of a batch share one context: each would overwrite it; give one of them a fork")
        try:
            with torch.inference_mode():
                return self._start(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from error

    def _start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        answers = [self._row(row) for row in rows]
        return lambda: answers

    def _row(self, row: BatchRow) -> Answer:
        visible = row.context.visible(0)
        ids = torch.tensor([[*visible, *row.probe]], device=self.device)
        logits = self._model(input_ids=ids, use_cache=False).logits[0].float()
        asked = ids[0, len(visible) :]
        lead = [math.log(self.vocabulary)] if not visible else []
        predicting = logits[max(0, len(visible) - 1) : -1]
        values = torch.logsumexp(predicting, -1) - predicting.gather(1, asked[len(lead) :, None])[:, 0]
        return np.asarray([*lead, *values.tolist()], np.float32)


class PackedScorer(PlainScorer):
    """Packed rows, cached keys and values, head at probe positions only.

    A cached context keeps all its tokens' keys and values; its last token is computed again with the next request, as
    its hidden state predicts the first probe token. A token without any predecessor (a model without a start token)
    gets ln(vocabulary): nothing is known about it.

    decoder   gives the hidden states of packed tokens
    """

    noted: list[Options] | None = None  # where it is a list: what the attention layers ask for

    def __init__(self, model: Any, allowance: Allowance = USUAL) -> None:
        super().__init__(model, allowance)
        self.decoder: Callable[..., Any] = model.get_decoder()
        self._head = Head(model)

    def cached(self, context: Context) -> int:
        return min(context.cache.length, len(context) - 1) if context.cache is not None else 0

    def _catch_up(self, context: Context) -> None:
        """Cache a context's backlog in pieces, so that no batch grows beyond its bound."""
        while len(context) - (start := self.cached(context)) > self.batch_tokens:
            piece = context.visible(start)[: self.batch_tokens]
            places = range(start, start + len(piece))
            self._forward(piece, places, [PackedRow(0, len(piece), start, self._cache(context))])
            self._cache(context).settle(start + len(piece))

    def _start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        for row in rows:
            self._catch_up(row.context)
        ids: list[int] = []
        places: list[int] = []
        packed: list[PackedRow] = []
        for row in rows:
            start = self.cached(row.context)
            new = [*row.context.visible(start), *row.probe]
            again = row.retain or row.context.cache is not None or len(row.context) > len(row.context.head)
            cache = self._cache(row.context) if again else None  # a start token alone is not worth one
            packed.append(PackedRow(len(ids), len(ids) + len(new), start, cache))
            ids.extend(new)
            places.extend(range(start, start + len(new)))
        hidden = self._forward(ids, places, packed)
        for row, place in zip(rows, packed, strict=True):
            if place.cache is not None:
                place.cache.settle(len(row.context) + (len(row.probe) if row.retain else 0))
        return self._surprisal(hidden, ids, rows, packed)

    def _forward(self, ids: Sequence[int], places: Sequence[int], packed: Sequence[PackedRow]) -> Tensor:
        """Hidden states [T, hidden] of the packed ids at their positions."""
        try:
            written = self._written(packed)
            ids_there, places_there, *slots = upload(self.device, [np.asarray(ids), np.asarray(places), *written])
            batch = self._batch(packed, slots)
            token = batch_at_hand.set(batch if self.noted is None else Noting(batch, self.noted))
            try:
                output = self.decoder(input_ids=ids_there[None], position_ids=places_there[None], use_cache=False)
            finally:
                batch_at_hand.reset(token)
        except BaseException:
            self._withdraw(packed)
            raise
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _written(self, packed: Sequence[PackedRow]) -> list[Ints]:
        """The slots, if any, that the packed tokens take: uploaded with them. Raises PoolFullError."""
        return []

    def _withdraw(self, packed: Sequence[PackedRow]) -> None:
        """Give back what was taken for a batch that failed."""

    def _batch(self, packed: Sequence[PackedRow], written: Sequence[Tensor]) -> Attends:
        """What the attention layers find."""
        return PackedRows(packed)

    def _cache(self, context: Context) -> Any:
        if context.cache is None:
            context.cache = self._new_cache()
        return context.cache

    def _new_cache(self) -> Cache:
        return KeyValues()

    def _surprisal(
        self, hidden: Tensor, ids: list[int], rows: Sequence[BatchRow], packed: Sequence[PackedRow]
    ) -> Arriving[list[Answer]]:
        probed = np.concatenate([np.arange(p.end - len(r.probe), p.end) for r, p in zip(rows, packed, strict=True)])
        opening = np.isin(probed, [place.begin for place in packed])
        targets, before = upload(self.device, [np.asarray(ids)[probed], np.maximum(probed - 1, 0)])
        values = download(self._head(hidden, before, targets))
        return partial(self._by_row, values, opening, [len(row.probe) for row in rows])

    def _by_row(self, arriving: Arriving[Floats], opening: npt.NDArray[np.bool_], sizes: Sequence[int]) -> list[Answer]:
        values = arriving()
        values[opening] = math.log(self.vocabulary)
        return np.split(values, np.cumsum(sizes)[:-1])


def slides(config: Any) -> bool:
    """Whether some layer sees the newest tokens only."""
    layers = getattr(config, "layer_types", None) or ()
    return bool(getattr(config, "sliding_window", None)) or "sliding_attention" in layers


class PooledScorer(PackedScorer):
    """The same with all keys and values in one pool, and rows computed in groups: few kernels, for a GPU."""

    def __init__(self, model: Any, allowance: Allowance = USUAL, pool: TokenPool | None = None) -> None:
        super().__init__(model, allowance)
        self.pool = TokenPool(self._sizes.pool_tokens) if pool is None else pool

    def take_memory(self, like: TokenPool) -> None:
        """Take all of the pool's memory now, for the layers of a smaller one: less, where there is not as much.

        Raises ModelError where there is next to none.
        """
        tokens, pool = self._sizes.pool_tokens, None
        while (pool := _pool(tokens, like)) is None:
            tokens = tokens * 3 // 4
            self._sizes = self._sizes.within(tokens)
            if self._sizes.live_tokens < 1:
                raise ModelError("too little GPU memory is left for keys and values: free some or use a smaller model")
        self.pool = pool
        self.batch_tokens, self.live_tokens = self._sizes.batch_tokens, self._sizes.live_tokens

    def _new_cache(self) -> Cache:
        return PooledKeyValues(self.pool)

    def _written(self, packed: Sequence[PackedRow]) -> list[Ints]:
        for row in packed:
            row.cache = row.cache or PooledKeyValues(self.pool)
            row.cache.reserve(row.start, row.end - row.begin)
        return [np.concatenate([row.cache.slots[row.start :] for row in packed])]

    def _withdraw(self, packed: Sequence[PackedRow]) -> None:
        for row in packed:
            if row.cache is not None:
                row.cache.withdraw(row.start)

    def _batch(self, packed: Sequence[PackedRow], written: Sequence[Tensor]) -> Attends:
        return PooledRows(self.pool, [(row.cache, row.start) for row in packed], written[0])


def _pool(tokens: int, like: TokenPool) -> TokenPool | None:
    """A pool whose memory is taken; None where there is not as much."""
    try:
        return TokenPool(tokens, like)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None


class Head:
    """Applies the output matrix of `model`, the factor of its logits and their soft cap, where it has them."""

    def __init__(self, model: Any) -> None:
        self._matrix = model.get_output_embeddings()
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None) or None
        self._scale = _scale(model.config.get_text_config())
        self._vocabulary = int(self._matrix.weight.shape[0])
        device = self._matrix.weight.device
        kind = device.type if device.type in sizing.HEAD_ELEMENTS else "cpu"
        self._rows = max(sizing.LEAST_ROWS, sizing.HEAD_ELEMENTS[kind] // self._vocabulary)
        self._few = max(1, sizing.FLOAT_ELEMENTS[kind] // self._vocabulary)
        alone = type(self._matrix) is nn.Linear and self._matrix.bias is None  # one matrix and nothing else
        self._plain = alone and self._matrix.weight.dtype == torch.float32 and device.type == "cpu"
        self._fused = fused(device, model.dtype) if device.type == "cuda" else None

    def __call__(self, hidden: Tensor, before: Tensor, targets: Tensor) -> Tensor:
        """−ln p of each target [n], float32, predicted by the hidden states [T, d] at `before` [n]."""
        room = self._room(len(targets))
        slices = zip(torch.split(before, self._rows), torch.split(targets, self._rows), strict=True)
        return torch.cat([self._slice(hidden[place], target, room) for place, target in slices])

    def _room(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """Where logits and likelihoods go on a CPU: fresh memory for each slice costs it more than filling it."""
        if self._fused is not None or self._matrix.weight.device.type != "cpu":
            return None
        logits = min(rows, self._rows if self._plain else self._few)
        return torch.empty((logits, self._vocabulary)), torch.empty((min(rows, self._few), self._vocabulary))

    def _slice(self, hidden: Tensor, targets: Tensor, room: tuple[Tensor, Tensor] | None) -> Tensor:
        if self._plain and room is not None:
            logits = torch.mm(hidden, self._matrix.weight.T, out=room[0][: len(hidden)])
        else:
            logits = self._matrix(hidden)
        if self._scale != 1:
            logits.mul_(self._scale)
        if self._fused is not None:
            return self._fused(logits, targets, self._cap)
        parts = zip(torch.split(logits, self._few), torch.split(targets, self._few), strict=True)
        return torch.cat([self._few_rows(part, target, room) for part, target in parts])

    def _few_rows(self, logits: Tensor, targets: Tensor, room: tuple[Tensor, Tensor] | None) -> Tensor:
        exact = logits
        if logits.dtype != torch.float32:
            exact = logits.float() if room is None else room[0][: len(logits)].copy_(logits)
        if self._cap:
            exact = exact.div_(self._cap).tanh_().mul_(self._cap)
        likelihood = torch.log_softmax(exact, -1, out=None if room is None else room[1][: len(logits)])
        return -likelihood.gather(1, targets[:, None])[:, 0]


def _scale(config: Any) -> float:
    """What logits are multiplied by: `logit_scale` in Cohere's models, one over `logits_scaling` in Granite's."""
    return float(getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1))


def surprisal(logits: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    """−ln p of each target [n] by logits [n, vocabulary], float32; compiled, it makes no float32 copy of them."""
    exact = logits.float()
    if cap is not None:
        exact = cap * torch.tanh(exact / cap)
    return torch.logsumexp(exact, -1) - exact.gather(1, targets[:, None])[:, 0]


def fused(device: torch.device, dtype: torch.dtype) -> Reduction | None:
    """`surprisal` compiled by torch, if it can be here and says the same; None: a few rows at a time do as well."""
    try:
        with torch.inference_mode(), torch._inductor.config.patch(compile_threads=1):
            run: Reduction = torch.compile(surprisal, dynamic=True, fullgraph=True)
            logits = torch.linspace(-20, 20, 7 * 1_000, device=device).view(7, -1).to(dtype)
            targets = torch.arange(7, device=device) * 100
            close = torch.allclose(run(logits, targets, None), surprisal(logits, targets, None), atol=_CLOSE)
    except Exception as error:  # whatever torch's compiler meets: no Triton, no C compiler, no headers
        log.info("the head's reduction is not compiled: %s", str(error).strip().splitlines()[:1])
        return None
    return run if close else None

"""Surprisal of tokens after a context, by any causal language model of transformers.

`PlainScorer` recomputes everything, row by row, with the model as it comes: slow and obviously right. `PackedScorer`
gives the same numbers without waste: rows packed without padding, keys and values of contexts cached, the head applied
only where a token is probed. `causal_scorer` checks once, on the model at hand, that they agree, and falls back where
they do not.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lingua.models.attention import PACKED, PackedRow, batch_rows
from lingua.models.batch import Batch
from lingua.models.cache import KeyValues
from lingua.models.download import Arriving, download
from lingua.models.pool import Pool, PooledKeyValues
from lingua.models.sizing import HEAD_ELEMENTS, choose_sizes
from lingua.models.upload import Ints, upload
from lingua.score import Answers, Cache, Context, OutOfMemoryError, Row, Scorer, Surprisal

log = logging.getLogger(__name__)

_DEFAULT_WINDOW = 2_048
_CHECK_TOKENS = 1_024
"""The pool with which it is tried out whether a model runs packed."""


class PlainScorer:
    """Every row computed from scratch by the untouched model."""

    def __init__(self, model: Any, batch_tokens: int | None = None, share: float = 1.0) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self.ahead = int(self._device.type == "cuda")
        config = model.config.get_text_config()
        self.window = int(getattr(config, "max_position_embeddings", None) or _DEFAULT_WINDOW)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.layers = int(config.num_hidden_layers)
        self._sizes = choose_sizes(config, model.dtype, self._device, batch_tokens, share)
        self.batch_tokens, self.live_tokens = self._sizes.batch_tokens, self._sizes.live_tokens

    @property
    def probe_tokens(self) -> int:
        """Half a window at most, so that every token is scored after at least half a window of text."""
        return max(1, min(self.batch_tokens, self.window // 2))

    def cached(self, context: Context) -> int:
        return 0

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        """Surprisal in nats of every probe, float32. Raises OutOfMemoryError."""
        return self.start(rows)()

    def start(self, rows: Sequence[Row]) -> Answers:
        """Begin to compute it. Raises OutOfMemoryError."""
        try:
            with torch.inference_mode():
                return self._start(rows)
        except torch.OutOfMemoryError as error:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from error

    def _start(self, rows: Sequence[Row]) -> Answers:
        answers = [self._row(row) for row in rows]
        return lambda: answers

    def _row(self, row: Row) -> Surprisal:
        visible = row.context.visible(0)
        ids = torch.tensor([[*visible, *row.probe]], device=self._device)
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
    """

    def __init__(self, model: Any, batch_tokens: int | None = None, share: float = 1.0) -> None:
        super().__init__(model, batch_tokens, share)
        self._decoder = model.get_decoder()
        self._head = model.get_output_embeddings()
        self._reuses = not _slides(model.config.get_text_config())
        self._softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self._head_rows = max(16, HEAD_ELEMENTS.get(self._device.type, 1 << 24) // self.vocabulary)

    def cached(self, context: Context) -> int:
        return min(context.cache.length, len(context) - 1) if context.cache is not None else 0

    def _catch_up(self, context: Context) -> None:
        """Cache a context's backlog in pieces, so that no batch grows beyond its bound."""
        while len(context) - (start := self.cached(context)) > self.batch_tokens:
            piece = context.visible(start)[: self.batch_tokens]
            places = context.positions(start)[: len(piece)]
            self._forward(piece, places, [PackedRow(0, len(piece), start, self._cache(context))])
            self._cache(context).settle(start + len(piece))

    def _start(self, rows: Sequence[Row]) -> Answers:
        for row in rows:
            self._catch_up(row.context)
        ids: list[int] = []
        places: list[int] = []
        packed: list[PackedRow] = []
        for row in rows:
            start = self.cached(row.context)
            new = [*row.context.visible(start), *row.probe]
            cache = self._cache(row.context) if _worth(row) else None
            packed.append(PackedRow(len(ids), len(ids) + len(new), start, cache))
            ids.extend(new)
            places.extend(row.context.positions(start))
            places.extend(range(row.context.next, row.context.next + len(row.probe)))
        hidden = self._forward(ids, places, packed)
        for row, place in zip(rows, packed, strict=True):
            self._settle(row, place.cache)
        return self._surprisal(hidden, ids, rows, packed)

    def _settle(self, row: Row, cache: KeyValues | None) -> None:
        if cache is not None and row.retain:
            cache.settle(len(row.context) + len(row.probe))
        elif cache is not None:
            cache.settle(len(row.context), len(row.probe) if row.hold and self._reuses else 0)

    def _forward(self, ids: Sequence[int], places: Sequence[int], packed: Sequence[PackedRow]) -> Tensor:
        """Hidden states [T, hidden] of the packed ids at their positions."""
        written = self._written(packed)
        ids_there, places_there, *slots = upload(self._device, [np.asarray(ids), np.asarray(places), *written])
        token = batch_rows.set(self._batch(packed, slots))
        try:
            output = self._decoder(input_ids=ids_there[None], position_ids=places_there[None], use_cache=False)
        finally:
            batch_rows.reset(token)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _written(self, packed: Sequence[PackedRow]) -> list[Ints]:
        """The slots, if any, that the packed tokens take: uploaded with them."""
        return []

    def _batch(self, packed: Sequence[PackedRow], written: Sequence[Tensor]) -> Sequence[PackedRow] | Batch:
        """What the attention layers find."""
        return packed

    def _cache(self, context: Context) -> Any:
        if context.cache is None:
            context.cache = self._new_cache()
        return context.cache

    def _new_cache(self) -> Cache:
        return KeyValues()

    def _surprisal(self, hidden: Tensor, ids: list[int], rows: Sequence[Row], packed: Sequence[PackedRow]) -> Answers:
        """The surprisal of all probed positions, by row."""
        probed = np.concatenate([np.arange(p.end - len(r.probe), p.end) for r, p in zip(rows, packed, strict=True)])
        opening = np.isin(probed, [place.begin for place in packed])
        targets, before = upload(self._device, [np.asarray(ids)[probed], np.maximum(probed - 1, 0)])
        slices = zip(torch.split(before, self._head_rows), torch.split(targets, self._head_rows), strict=True)
        room = self._room(len(probed))
        values = download(torch.cat([self._surprisal_at(hidden[place], target, room) for place, target in slices]))
        return partial(self._by_row, values, opening, [len(row.probe) for row in rows])

    def _by_row(self, arriving: Arriving, opening: npt.NDArray[np.bool_], sizes: Sequence[int]) -> list[Surprisal]:
        values = arriving()
        values[opening] = math.log(self.vocabulary)
        return np.split(values, np.cumsum(sizes)[:-1])

    def _room(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """Where a slice's logits and their log-softmax go: fresh memory for each slice costs a CPU more than both."""
        if self._device.type != "cpu" or not _is_plain(self._head):
            return None
        logits = torch.empty((min(rows, self._head_rows), self.vocabulary))
        return logits, torch.empty_like(logits)

    def _surprisal_at(self, hidden: Tensor, targets: Tensor, room: tuple[Tensor, Tensor] | None) -> Tensor:
        if room is None or self._softcap:
            logits = self._head(hidden)
            if self._softcap:
                logits = self._softcap * torch.tanh(logits.float() / self._softcap)
            likelihood = torch.log_softmax(logits, -1, dtype=torch.float32)
        else:
            logits, likelihood = (tensor[: len(hidden)] for tensor in room)
            torch.mm(hidden, self._head.weight.T, out=logits)
            torch.log_softmax(logits, -1, out=likelihood)
        return -likelihood.gather(1, targets[:, None])[:, 0]


def _is_plain(head: Any) -> bool:
    """Whether the head is one float32 matrix and nothing else."""
    return type(head) is nn.Linear and head.bias is None and head.weight.dtype == torch.float32


def _worth(row: Row) -> bool:
    """Whether anything of the row can be used again: more than a start token, or a probe that stays."""
    return row.retain or row.hold or row.context.cache is not None or len(row.context) > len(row.context.head)


def _slides(config: Any) -> bool:
    """Whether some layer sees the newest tokens only: which those are, a cache with gaps does not tell."""
    return bool(getattr(config, "sliding_window", None)) or "sliding_attention" in (
        getattr(config, "layer_types", None) or ()
    )


class PooledScorer(PackedScorer):
    """The same with all keys and values in one pool, and rows computed in groups: few kernels, for a GPU."""

    def __init__(
        self, model: Any, batch_tokens: int | None = None, pool_tokens: int | None = None, share: float = 1.0
    ) -> None:
        super().__init__(model, batch_tokens, share)
        self._pool = Pool(pool_tokens or self._sizes.pool_tokens)

    def _new_cache(self) -> Cache:
        return PooledKeyValues(self._pool)

    def _written(self, packed: Sequence[PackedRow]) -> list[Ints]:
        for row in packed:
            row.cache = row.cache or PooledKeyValues(self._pool)
            row.cache.reserve(row.start, row.end - row.begin)
        return [np.concatenate([row.cache.slots[row.start :] for row in packed])]

    def _batch(self, packed: Sequence[PackedRow], written: Sequence[Tensor]) -> Batch:
        return Batch(self._pool, [(row.cache, row.start) for row in packed], written[0])


def causal_scorer(model: Any, batch_tokens: int | None = None, share: float = 1.0) -> Scorer:
    """The fastest scorer that gives this model's own numbers; `share`: how much of a GPU's free memory it may take."""
    plain = PlainScorer(model, batch_tokens, share)
    if not _packs(model, plain):
        log.warning("%s cannot run packed; it runs row by row, which is slow", type(model).__name__)
        return plain
    return _packing(plain._device)(model, batch_tokens, share=share)


def _packing(device: torch.device) -> type[PackedScorer]:
    """On a CPU a row at a time is as fast as a group, and nothing is padded."""
    return PooledScorer if device.type == "cuda" else PackedScorer


def _packs(model: Any, plain: PlainScorer) -> bool:
    """Whether packed, cached rows give the plain numbers; leaves the model set up for the winner."""
    ids = np.random.default_rng(0).integers(0, plain.vocabulary, 3 * 16).tolist()
    implementation = model.config._attn_implementation
    expected = plain.score([Row(Context(ids=ids[:24]), ids[24:40]), Row(Context(), ids[40:])])
    try:
        model.set_attn_implementation(PACKED)
        kind = _packing(plain._device)
        got = _packed_twice(kind(model, pool_tokens=_CHECK_TOKENS) if kind is PooledScorer else kind(model), ids)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, LookupError) as error:
        log.info("no packed attention for %s: %s", type(model).__name__, error)
        got = []
    close = bool(got) and float(np.abs(np.concatenate(got) - np.concatenate(expected)).mean()) < _tolerance(model.dtype)
    if not close:
        model.set_attn_implementation(implementation)
    return close


def _packed_twice(scorer: PackedScorer, ids: list[int]) -> list[Surprisal]:
    """The same two rows, the first after its context was cached; nothing if a layer did not take part."""
    context = Context(ids=ids[:12])
    scorer.score([Row(context, ids[40:])])
    if scorer._cache(context).layers != scorer.layers:
        return []
    context.ids.extend(ids[12:24])
    return scorer.score([Row(context, ids[24:40]), Row(Context(), ids[40:])])


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-3 if dtype == torch.float32 else 0.1

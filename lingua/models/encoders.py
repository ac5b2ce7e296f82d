"""Encoders behind the engine's `Scorer`: keep probabilities of tokens (LLMLingua-2) and states of tokens (evidence).

A row's probe is one window of text; the special tokens that the tokenizer puts around a text are added here. A window
is read by itself, so contexts are ignored and nothing is cached. Windows of like length
share a batch, padded to the longest. Which windows a text is cut into is the method's business (arXiv 2403.12968).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lingua.engine.score import Answers, BatchRow, Context, OutOfMemoryError, Surprisal
from lingua.errors import ModelError
from lingua.models.sizing import ENCODER_BATCH, USUAL, Allowance, encoder_batch, is_out_of_memory
from lingua.models.transfer import download, upload

Windows = Callable[[], Iterable[Surprisal]]
"""Waits for the values of each window and gives them."""
_DEFAULT_WINDOW = 512
_LEAST_FILL = {"cuda": 0.75, "cpu": 0.9}
"""A row shorter than this share of its batch's longest starts a batch of its own: a CPU minds small batches less."""


class PaddedScorer:
    """Answers the engine, batch by batch; a scorer says in `_values` and `_answer` what it makes of one.

    window   tokens read at once; `probe_tokens` of them are left for text
    """

    live_tokens = 1 << 40
    _model: Any

    def __init__(self, tokenizer: Any, window: int, device: torch.device, batch_tokens: int | None = None) -> None:
        self._device, self.window = device, window
        self.ahead = int(device.type == "cuda")
        self._pad = int(tokenizer.pad_token_id or 0)
        self._before, self._after = special_tokens(tokenizer)
        self.batch_tokens = max(window, batch_tokens or ENCODER_BATCH.get(device.type, 4_096))
        self.probe_tokens = window - len(self._before) - len(self._after)
        self._least_fill = _LEAST_FILL.get(device.type, _LEAST_FILL["cuda"])

    def cached(self, context: Context) -> int:
        return len(context)

    def score(self, rows: Sequence[BatchRow]) -> list[Surprisal]:
        """What the scorer says of every probe, float32."""
        return self.start(rows)()

    def start(self, rows: Sequence[BatchRow]) -> Answers:
        """Begin to compute it. Raises OutOfMemoryError."""
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index].probe))
        groups = [(group, self._forward([rows[index].probe for index in group])) for group in self._groups(order, rows)]
        return partial(self._finish, rows, groups)

    def _finish(self, rows: Sequence[BatchRow], groups: Sequence[tuple[list[int], Windows]]) -> list[Surprisal]:
        answers: dict[int, Surprisal] = {}
        for group, values in groups:
            found = zip(group, values(), strict=True)
            answers.update((index, self._answer(value, len(rows[index].probe))) for index, value in found)
        return [answers[index] for index in range(len(rows))]

    def _values(self, output: Any) -> Tensor:
        """What the model's output says of each token [r, t, …], float32."""
        raise NotImplementedError

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        """The answer to a probe of `size` tokens, of its row's values."""
        raise NotImplementedError

    def _groups(self, order: list[int], rows: Sequence[BatchRow]) -> Iterator[list[int]]:
        """Cut the rows, longest first, into batches that are neither too large nor mostly padding."""
        group: list[int] = []
        for index in order:
            longest = len(rows[group[0]].probe) if group else 0
            full = (len(group) + 1) * (longest + len(self._before) + len(self._after)) > self.batch_tokens
            mostly_padding = len(rows[index].probe) < self._least_fill * longest
            if group and (full or mostly_padding):
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def _forward(self, probes: Sequence[Sequence[int]]) -> Windows:
        sequences = [[*self._before, *probe, *self._after] for probe in probes]
        try:
            with torch.inference_mode():
                return download(self._values(self._model(**self._padded(sequences))))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._out_of_memory(len(probes), error)

    def _padded(self, sequences: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        lengths = np.asarray([len(one) for one in sequences])
        padded = np.full((len(sequences), lengths.max()), self._pad)
        for row, one in zip(padded, sequences, strict=True):
            row[: len(one)] = one
        ids, sizes = upload(self._device, [padded, lengths])
        mask = torch.arange(padded.shape[1], device=self._device) < sizes[:, None]
        return {"input_ids": ids, "attention_mask": mask.long()}

    def _out_of_memory(self, rows: int, error: Exception) -> NoReturn:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if rows == 1:
            raise ModelError(f"one window does not fit the device's memory; use a smaller model: {error}") from error
        raise OutOfMemoryError(str(error)) from error


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    begin = next((at for at in range(len(full)) if full[at : at + len(bare)] == bare), None)
    if not bare or begin is None:
        raise ModelError(f"cannot tell which special tokens {type(tokenizer).__name__} puts around a text")
    return full[:begin], full[begin + len(bare) :]


def positions(model: Any) -> int:
    """How many tokens the model reads at once. RoBERTa's family counts positions from behind the padding index."""
    learned = position_embeddings(model)
    if learned is not None:
        return learned.num_embeddings - first_position(model)
    return int(getattr(model.config, "max_position_embeddings", None) or _DEFAULT_WINDOW)


_KEEP_LABELS = ("keep", "kept", "preserve", "preserved", "1")


def first_position(model: Any) -> int:
    """The position of a window's first token: RoBERTa's family counts from behind the padding index."""
    found = position_embeddings(model)
    return 0 if found is None or found.padding_idx is None else found.padding_idx + 1


def position_embeddings(model: Any) -> nn.Embedding | None:
    """The model's learned positions, if it has any."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None


class EncoderScorer(PaddedScorer):
    """Answers the engine with the probability, in [0, 1], that each probe token is kept.

    window   positions of the model; `probe_tokens` of them are left for text
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int | None = None) -> None:
        super().__init__(tokenizer, positions(model), next(model.parameters()).device, batch_tokens)
        self._model = model
        self._pad = int(model.config.pad_token_id or 0)  # positions may be counted by it
        self._keep = keep_label(model.config)

    def _values(self, output: Any) -> Tensor:
        return torch.softmax(output.logits.float(), -1)[..., self._keep]

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        begin = len(self._before)
        return values[begin : begin + size].copy()


def encoder_scorer(model: Any, tokenizer: Any, allowance: Allowance = USUAL) -> EncoderScorer:
    """The scorer of a token classifier that is on its device, with batches as its memory allows."""
    device = next(model.parameters()).device
    return EncoderScorer(model, tokenizer, encoder_batch(model.config, model.dtype, device, allowance))


def keep_label(config: Any) -> int:
    """Index of the label that means *keep*: the one that `label2id` names so, else 1 as in the published models.

    Raises ModelError for a model with fewer than two labels.
    """
    if config.num_labels < 2:
        raise ModelError(f"a token classifier needs the labels drop and keep, this model has {config.num_labels}")
    named = {str(name).lower(): int(index) for name, index in (config.label2id or {}).items()}
    return next((named[name] for name in _KEEP_LABELS if name in named), 1)


WINDOW = 256
"""Tokens that are read at once: what encoders of sentences were trained with, or fewer."""


class StateScorer(PaddedScorer):
    """Answers the engine with the last hidden state of each of a probe's tokens [t, d], of length 1.

    A program holds the states of its whole prompt, so prompts count in full: some hundred megabytes are alive.

    load    gives the model without a head, on `device`; called once, when it is needed
    """

    live_tokens = 1 << 19

    def __init__(self, load: Callable[[], Any], tokenizer: Any, device: torch.device) -> None:
        super().__init__(tokenizer, min(WINDOW, tokenizer.model_max_length), device)
        self.window = self.live_tokens
        self._load = load

    @cached_property
    def _model(self) -> Any:
        return self._load()

    def _values(self, output: Any) -> Tensor:
        return F.normalize(output.last_hidden_state, dim=-1).float()

    def _answer(self, values: Surprisal, size: int) -> Surprisal:
        begin = len(self._before)
        return values[begin : begin + size].copy()

"""Encoders, run in one way: windows of token ids, in padded batches of like lengths (`BatchedEncoder`).

Two answer the engine's `Scorer`: keep probabilities of tokens (LLMLingua-2, arXiv 2403.12968) and states of tokens
(evidence). A row's probe is one window of text, read by itself, so contexts are ignored and nothing is cached. Two say
how relevant documents are to a question, as sentence-transformers' models do in their plain form: sentence embeddings,
compared by cosine, and cross-encoders, which read question and document together. Prefixes that some models want before
questions are left out. Documents beyond the window are read in windows, of which the best counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils.hub import cached_file

from lingua.engine.score import Answer, Arriving, BatchRow, Context, OutOfMemoryError, ScoreCache, Scorer
from lingua.errors import ModelError
from lingua.models.packed import download, upload
from lingua.models.sizing import ENCODER_BATCH, USUAL, Allowance, encoder_batch, is_out_of_memory
from lingua.models.source import JUDGE, PAIRED, ModelSource
from lingua.prompt import Floats, Ints

Windows = Sequence[Sequence[int]]
_LEAST_FILL = {"cuda": 0.75, "cpu": 0.9}
"""A window shorter than this share of its batch's longest starts a batch of its own: a CPU minds small batches less."""
_MOST_WINDOW = 512
WINDOW = 256
"""Tokens that are read at once for their states: what encoders of sentences were trained with, or fewer."""
_KEEP_LABELS = ("keep", "kept", "preserve", "preserved", "1")
_DROP_LABELS = ("drop", "dropped", "discard", "remove", "delete")


class BatchedEncoder:
    """Runs a model over windows of ids; a subclass says in `_values` what it takes of the output.

    load           gives the model on `device`; called once, when the first window is read
    batch_tokens   of a batch, padding included
    """

    def __init__(self, load: Callable[[], Any], tokenizer: Any, device: torch.device) -> None:
        self._load, self.tokenizer, self._device = load, tokenizer, device
        self._pad = int(tokenizer.pad_token_id or 0)
        self.batch_tokens = ENCODER_BATCH.get(device.type, 4_096)
        self._more: dict[str, Any] = {}
        self._least_fill = _LEAST_FILL.get(device.type, _LEAST_FILL["cuda"])

    @cached_property
    def model(self) -> Any:
        return self._load()

    def begin(self, windows: Windows, types: Windows = ()) -> Arriving[list[Floats]]:
        """Begin to read the windows; what is returned waits for the values of each.

        types   of the tokens, for a model that reads two texts at once

        Raises OutOfMemoryError, and ModelError where not even one window fits.
        """
        groups = list(self._groups([len(window) for window in windows]))
        begun = [self._forward([windows[at] for at in group], [types[at] for at in group if types]) for group in groups]

        def wait() -> list[Floats]:
            values = chain.from_iterable(arriving() for arriving in begun)
            found = dict(zip(chain.from_iterable(groups), values, strict=True))
            return [found[at] for at in range(len(windows))]

        return wait

    def _groups(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Cut the windows, longest first, into batches that are neither too large nor mostly padding."""
        group: list[int] = []
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            longest = sizes[group[0]] if group else 0
            full = (len(group) + 1) * longest > self.batch_tokens
            if group and (full or sizes[index] < self._least_fill * longest):
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def _forward(self, windows: Windows, types: Windows) -> Arriving[Floats]:
        arrays = [np.asarray([len(window) for window in windows]), _padded(windows, self._pad)]
        try:
            with torch.inference_mode():
                sizes, ids, *kinds = upload(self._device, [*arrays, _padded(types, 0)] if types else arrays)
                mask = (torch.arange(ids.shape[1], device=self._device) < sizes[:, None]).long()
                more = self._more | ({"token_type_ids": kinds[0]} if kinds else {})
                return download(self._values(self.model(input_ids=ids, attention_mask=mask, **more), mask))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if len(windows) == 1:
                fault = "one window does not fit the device's memory; use a smaller model"
                raise ModelError(f"{fault}: {error}") from error
            raise OutOfMemoryError(str(error)) from error

    def _values(self, output: Any, mask: Tensor) -> Tensor:
        """Of each token or each window [r, …], float32; the mask [r, t] is 0 at padding."""
        raise NotImplementedError


def _padded(windows: Windows, pad: int) -> Ints:
    padded = np.full((len(windows), max(map(len, windows))), pad)
    for row, window in zip(padded, windows, strict=True):
        row[: len(window)] = window
    return padded


class TokenScorer(BatchedEncoder, Scorer):
    """Answers the engine with the values of each probe's tokens; adds the special tokens around a text.

    reads   tokens that the model reads at once; `probe_tokens` of them are left for text
    """

    window: int
    probe_tokens, live_tokens = 0, 1 << 40

    def __init__(self, load: Callable[[], Any], tokenizer: Any, device: torch.device, reads: int) -> None:
        super().__init__(load, tokenizer, device)
        self.ahead = int(device.type == "cuda")
        self._before, self._after = special_tokens(tokenizer)
        self.probe_tokens = reads - len(self._before) - len(self._after)

    def cached(self, context: Context) -> int:
        return len(context)

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        """Begin to compute what it says of every probe, float32. Raises OutOfMemoryError."""
        wait, first = self.begin([[*self._before, *row.probe, *self._after] for row in rows]), len(self._before)
        return lambda: [one[first : first + len(row.probe)].copy() for one, row in zip(wait(), rows, strict=True)]


class EncoderScorer(TokenScorer):
    """The probability, in [0, 1], that each token is kept, by a token classifier that is on its device.

    Raises ModelError for a model with fewer than two labels.
    """

    def __init__(self, model: Any, tokenizer: Any, allowance: Allowance = USUAL) -> None:
        self.window = positions(model)
        super().__init__(lambda: model, tokenizer, next(model.parameters()).device, self.window)
        self.batch_tokens = max(self.window, encoder_batch(model.config, model.dtype, self._device, allowance))
        self._pad = int(model.config.pad_token_id or 0)  # positions may be counted by it
        self._keep = keep_label(model.config)

    def _values(self, output: Any, mask: Tensor) -> Tensor:
        return torch.softmax(output.logits.float(), -1)[..., self._keep]


class Judge(nn.Module):
    """What it says of each token [t, 3 + 2 d], d being `PAIRED`, from two of the encoder's middle layers.

    They say more than its last. Log-odds that its word is asked for; that its sentence holds something that is; and,
    averaged over a question's tokens, that the question needs more than one string. Then what it *asks*, in a question,
    and what it *tells*, in a text: the greater their product, the likelier an answer. `judge.md` beside the weights is
    the card of these 150,000 parameters; `jobs/training/judge.py` trains them.
    """

    LAYERS = (3, 5)

    def __init__(self, size: int = 384, hidden: int = 64) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(len(self.LAYERS) * size, hidden), nn.Linear(hidden, 2)
        self.hops = nn.Linear(len(self.LAYERS) * size, 1)
        self.asks, self.tells = (nn.Linear(len(self.LAYERS) * size, PAIRED) for _ in range(2))

    @classmethod
    def trained(cls, device: torch.device) -> Judge:
        """The judge that the package carries, in float32."""
        judge = cls()
        judge.load_state_dict({name: one.float() for name, one in load_file(JUDGE).items()})
        return judge.to(device).eval().requires_grad_(False)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """From the states of the encoder's layers, [r, t, d] each, the input's first."""
        states = self.read(layers)
        odds = self.last(F.gelu(self.first(states)))
        return torch.cat([odds, self.hops(states), self.asks(states), self.tells(states)], -1)

    @classmethod
    def read(cls, layers: Sequence[Tensor]) -> Tensor:
        """What it reads of them [r, t, 2 d]."""
        return torch.cat([layers[number] for number in cls.LAYERS], -1).float()


Reading = Callable[[Sequence[Tensor]], Tensor]
"""From the states of the encoder's layers, [r, t, d] each, to numbers of each token: `Judge`, or its `read`."""


class StateScorer(TokenScorer):
    """The last hidden state of each token [t, d], of length 1, by a model without a head; behind it what a judge says.

    A program holds the states of its whole prompt, so prompts count in full: a gigabyte at most is alive.
    """

    window = live_tokens = 1 << 19

    def __init__(
        self, load: Callable[[], Any], tokenizer: Any, device: torch.device, judge: Reading | None = None
    ) -> None:
        super().__init__(load, tokenizer, device, min(WINDOW, tokenizer.model_max_length))
        self._judge = judge
        self._more = {"output_hidden_states": judge is not None}

    def _values(self, output: Any, mask: Tensor) -> Tensor:
        states = F.normalize(output.last_hidden_state, dim=-1).float()
        return states if self._judge is None else torch.cat([states, self._judge(output.hidden_states)], -1)


class Embedder(BatchedEncoder):
    """Cosine similarity of question and documents. A document's embedding is computed once for all questions.

    first   whether the first token's hidden state is the text's, instead of the mean of all
    """

    def __init__(self, model: Any, tokenizer: Any, first: bool = False) -> None:
        super().__init__(lambda: model, tokenizer, model.device)
        self._window, self._first, self._cache = _window(model, tokenizer), first, ScoreCache()

    def __call__(self, question: str, documents: Sequence[str]) -> Floats:
        """Similarity of each document's nearest window to the question [documents], in [-1, 1]."""
        vectors = self.embed([question, *documents])
        return np.asarray([(windows @ vectors[0][0]).max() for windows in vectors[1:]], np.float32)

    def embed(self, texts: Sequence[str]) -> list[Floats]:
        """Unit vectors of each text's windows: one array [windows, size] per text."""
        keys = {text: hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts}
        known = {text: found for text, key in keys.items() if (found := self._cache.get(key)) is not None}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            windows = self.tokenizer(new, truncation=True, max_length=self._window, return_overflowing_tokens=True)
            known |= zip(new, _by_text(self.begin(windows["input_ids"])(), windows, len(new)), strict=True)
        for text in new:
            self._cache.put(keys[text], known[text])
        return [known[text] for text in texts]

    def _values(self, output: Any, mask: Tensor) -> Tensor:
        return pooled(output.last_hidden_state, mask, self._first).float()


class CrossEncoder(BatchedEncoder):
    """Relevance by a model that reads question and document together: its single logit, or that of its last label."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(lambda: model, tokenizer, model.device)
        self._window = _window(model, tokenizer)

    def __call__(self, question: str, documents: Sequence[str]) -> Floats:
        """Relevance of each document's best window [documents], as a logit."""
        if not documents:
            return np.zeros(0, np.float32)
        questions = [self._short(question)] * len(documents)
        cut = {"truncation": "only_second", "max_length": self._window, "return_overflowing_tokens": True}
        windows = self.tokenizer(questions, list(documents), **cut)
        logits = self.begin(windows["input_ids"], windows.get("token_type_ids", ()))()
        return np.asarray([one.max() for one in _by_text(logits, windows, len(documents))], np.float32)

    def _short(self, question: str) -> str:
        """The beginning of a question that would leave its documents no room."""
        offsets = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        limit = self._window // 2
        return question[: offsets[limit - 1][1]] if len(offsets) > limit else question

    def _values(self, output: Any, mask: Tensor) -> Tensor:
        return output.logits[:, -1].float()  # type: ignore[no-any-return]


def _window(model: Any, tokenizer: Any) -> int:
    most = getattr(model.config, "max_position_embeddings", _MOST_WINDOW) - 2
    return int(min(tokenizer.model_max_length, most, _MOST_WINDOW))


def _by_text(values: list[Floats], windows: Any, texts: int) -> list[Floats]:
    """The windows' values by the text that each window is from."""
    stacked, owner = np.stack(values), np.asarray(windows["overflow_to_sample_mapping"])
    return [stacked[owner == text] for text in range(texts)]


def pooled(hidden: Tensor, mask: Tensor, first: bool) -> Tensor:
    """The unit vector [r, d] of each text from its hidden states [r, t, d]: the first token's, or the mean of all."""
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return F.normalize(hidden[:, 0] if first else mean, dim=-1)


def pools_first(source: ModelSource) -> bool:
    """What the settings of a sentence-transformers model say about pooling; the mean if there are none."""
    without = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    file = cached_file(source.location, "1_Pooling/config.json", revision=source.revision, **without)
    settings = json.loads(Path(file).read_text()) if file else {}
    return bool(settings.get("pooling_mode_cls_token")) or settings.get("pooling_mode") == "cls"


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
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", None) or _MOST_WINDOW)


def keep_label(config: Any) -> int:
    """Index of the label that means *keep*: the one named so, else the one that is not named *drop*, else 1.

    1 is what the published LLMLingua-2 models mean, which name their labels `LABEL_0` and `LABEL_1`.

    Raises ModelError for a model with fewer than two labels.
    """
    if config.num_labels < 2:
        raise ModelError(f"a token classifier needs the labels drop and keep, this model has {config.num_labels}")
    named = {int(index): str(name).lower() for index, name in config.id2label.items()}
    kept = [index for index, name in named.items() if name in _KEEP_LABELS]
    kept = kept or [index for index, name in named.items() if name not in _DROP_LABELS]
    return kept[0] if len(kept) == 1 else 1

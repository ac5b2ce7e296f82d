"""How relevant documents are to a question, by an encoder: sentence embeddings or a cross-encoder.

Follows sentence-transformers' models in their plain form: mean pooling over the last hidden states, or the first one if
the model's own settings say so, and cosine similarity; or one relevance logit per pair. Prefixes that some models want
before questions are left out. Documents beyond the window are read in windows; the best one counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchEncoding
from transformers.utils.hub import cached_file

from lingua.engine.cache import ScoreCache
from lingua.models.load import Loader
from lingua.models.source import EMBEDDER, ModelSource, resolve

Relevance = npt.NDArray[np.float32]
_WINDOW = 512
_ROWS = 32
_KEYS = ("input_ids", "attention_mask", "token_type_ids")


def embedder(model: str | None = None, device: str = "auto", trust_remote_code: bool = False) -> Embedder:
    """An embedding model by name; the one that a package carries if no name is given. Raises ModelError."""
    source = resolve(model or EMBEDDER)
    loader = Loader(source, device, "float32", trust_remote_code)
    return Embedder(loader.base(), loader.tokenizer(), pools_first(source))


def cross_encoder(model: str | None, device: str = "auto", trust_remote_code: bool = False) -> CrossEncoder:
    """A cross-encoder by name. Raises ModelError, also when the model has no trained head."""
    loader = Loader(resolve(model or ""), device, "float32", trust_remote_code)
    return CrossEncoder(loader.pair_classifier(), loader.tokenizer())


@dataclass(slots=True, eq=False)
class Embedder:
    """Cosine similarity of question and documents. A document's embedding is computed once for all questions.

    first   whether the first token's hidden state is the text's, instead of the mean of all
    """

    model: Any
    tokenizer: Any
    first: bool = False
    memory: ScoreCache = field(default_factory=ScoreCache)

    def __call__(self, question: str, documents: Sequence[str]) -> Relevance:
        """Similarity of each document's nearest window to the question [documents], in [-1, 1]."""
        vectors = self.embed([question, *documents])
        return np.asarray([(windows @ vectors[0][0]).max() for windows in vectors[1:]], np.float32)

    def embed(self, texts: Sequence[str]) -> list[Relevance]:
        """Unit vectors of each text's windows: one array [windows, size] per text."""
        keys = {text: hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts}
        known = {text: found for text, key in keys.items() if (found := self.memory.get(key)) is not None}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            limit = _window(self.model, self.tokenizer)
            windows = self.tokenizer(new, truncation=True, max_length=limit, return_overflowing_tokens=True)
            vectors = _by_text(_run(self.tokenizer, windows, self._vectors), windows, len(new))
            known |= dict(zip(new, vectors, strict=True))
        for text in new:
            self.memory.put(keys[text], known[text])
        return [known[text] for text in texts]

    def _vectors(self, batch: BatchEncoding) -> Tensor:
        batch = batch.to(self.model.device)
        hidden: Tensor = self.model(**batch).last_hidden_state
        return pooled(hidden, batch["attention_mask"], self.first)


@dataclass(frozen=True, slots=True, eq=False)
class CrossEncoder:
    """Relevance by a model that reads question and document together: its single logit, or that of its last label."""

    model: Any
    tokenizer: Any

    def __call__(self, question: str, documents: Sequence[str]) -> Relevance:
        """Relevance of each document's best window [documents], as a logit."""
        if not documents:
            return np.zeros(0, np.float32)
        limit = _window(self.model, self.tokenizer)
        questions = [self._short(question, limit // 2)] * len(documents)
        cut = {"truncation": "only_second", "max_length": limit, "return_overflowing_tokens": True}
        windows = self.tokenizer(questions, list(documents), **cut)
        logits = _run(self.tokenizer, windows, self._logits)
        return np.asarray([one.max() for one in _by_text(logits, windows, len(documents))], np.float32)

    def _logits(self, batch: BatchEncoding) -> Tensor:
        logits: Tensor = self.model(**batch.to(self.model.device)).logits
        return logits[:, -1]

    def _short(self, question: str, limit: int) -> str:
        """The beginning of a question that would leave its documents no room."""
        offsets = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return question[: offsets[limit - 1][1]] if len(offsets) > limit else question


def _window(model: Any, tokenizer: Any) -> int:
    return int(min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _WINDOW) - 2, _WINDOW))


def _run(tokenizer: Any, windows: Any, compute: Callable[[BatchEncoding], Tensor]) -> Relevance:
    """`compute` over all windows, in batches of similar length; the results in the windows' order."""
    order = sorted(range(len(windows["input_ids"])), key=lambda row: len(windows["input_ids"][row]))
    with torch.inference_mode():
        found = [compute(batch).float().cpu() for batch in _batches(tokenizer, windows, order)]
    values: Relevance = torch.cat(found).numpy()
    return values[np.argsort(order)]


def _batches(tokenizer: Any, windows: Any, order: Sequence[int]) -> Iterator[BatchEncoding]:
    for begin in range(0, len(order), _ROWS):
        rows = order[begin : begin + _ROWS]
        batch = {key: [windows[key][row] for row in rows] for key in _KEYS if key in windows}
        yield tokenizer.pad(batch, return_tensors="pt")


def _by_text(values: Relevance, windows: Any, texts: int) -> list[Relevance]:
    """Split the windows' values by the text that each window is from."""
    owner = np.asarray(windows["overflow_to_sample_mapping"])
    return [values[owner == text] for text in range(texts)]


def pooled(hidden: Tensor, mask: Tensor, first: bool) -> Tensor:
    """The unit vector [r, d] of each text from its hidden states [r, t, d]: the first token's, or the mean of all."""
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return F.normalize(hidden[:, 0] if first else mean, dim=-1)


def pools_first(source: ModelSource) -> bool:
    """What the settings of a sentence-transformers model say about pooling; the mean if there are none."""
    file = cached_file(
        source.location,
        "1_Pooling/config.json",
        revision=source.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    settings = json.loads(Path(file).read_text()) if file else {}
    return bool(settings.get("pooling_mode_cls_token")) or settings.get("pooling_mode") == "cls"

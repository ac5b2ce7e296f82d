"""The target model: what writes the responses that a small model is aligned to. In process, or behind an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.responses import Writer
from jobs.training.student import load_causal, load_tokenizer
from lingua.models.load import choose_device, choose_dtype

BATCH = {"cuda": 32, "cpu": 16}


def open_writer(config: AlignConfig, storage: Storage) -> Writer:
    """Load the target, or connect to it."""
    if config.endpoint is None:
        return LocalWriter(config)
    from jobs.evaluation.endpoint import Endpoint, EndpointSettings  # needs the extra `endpoint`

    return Endpoint(
        EndpointSettings(
            url=config.endpoint,
            model=str(config.target),
            mode=config.endpoint_mode,
            cache=f"{config.output}/responses/_answers",
            storage_options=storage.options,
        )
    )


class LocalWriter:
    """Draws responses from a model of transformers, batch by batch, from one seed per call."""

    def __init__(self, config: AlignConfig) -> None:
        name, device = str(config.target), choose_device("auto")
        self._tokenizer = load_tokenizer(name, config.trust_remote_code)
        self._tokenizer.padding_side = "left"
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        model = load_causal(name, choose_dtype("auto", device), config.trust_remote_code)
        self._model = model.to(device).eval().requires_grad_(False)
        self._temperature, self._seed = config.temperature, config.seed

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt, cut before the first of the `stop` strings."""
        torch.manual_seed(self._seed)
        size = BATCH.get(self._model.device.type, BATCH["cpu"])
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # little padding
        texts: dict[int, str] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            texts |= zip(batch, self._batch([prompts[index] for index in batch], max_tokens, stop), strict=True)
        return [texts[index] for index in range(len(prompts))]

    def _batch(self, prompts: list[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        asked = self._tokenizer(prompts, return_tensors="pt", padding=True).to(self._model.device)
        length = asked.input_ids.shape[1]
        stops = [_Stop(self._tokenizer, length, stop)] if stop else []
        how = {"do_sample": True, "temperature": self._temperature, "top_k": 0, "top_p": 1.0}
        written = self._model.generate(
            input_ids=asked.input_ids,
            attention_mask=asked.attention_mask,
            max_new_tokens=max_tokens,
            pad_token_id=self._tokenizer.pad_token_id,
            stopping_criteria=stops,
            **(how if self._temperature > 0 else {"do_sample": False}),
        )
        texts = _decoded(self._tokenizer, written[:, length:])
        return [_cut(text, stop) for text in texts]


class _Stop(StoppingCriteria):
    """Ends each row of a batch at the first of some strings."""

    def __init__(self, tokenizer: Any, start: int, stop: Sequence[str]) -> None:
        self._tokenizer, self._start, self._stop = tokenizer, start, stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
        texts = _decoded(self._tokenizer, input_ids[:, self._start :])
        return torch.tensor([_cut(text, self._stop) != text for text in texts], device=input_ids.device)


def _decoded(tokenizer: Any, ids: Tensor) -> list[str]:
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _cut(text: str, stop: Sequence[str]) -> str:
    return text[: min((at for at in map(text.find, stop) if at >= 0), default=len(text))]

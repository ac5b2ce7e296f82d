"""`LocalTarget`: a transformers model in this process as a target.

An answer's log-likelihood is asked of the same scorer that compresses: rows packed without padding, the prompt's keys
and values shared between its right answers, logits at the answer's positions only, in float32. Text is generated
greedily with a cache of keys and values, in batches of prompts of similar length. A prompt beyond the model's window
loses its oldest tokens; how many prompts did is in `cut`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from jobs.benchmarking.subject import load_subject
from jobs.evaluation.specs import cut
from lingua.engine.engine import Engine
from lingua.engine.score import Context, Program, Score
from lingua.errors import PromptError
from lingua.models.causal import PackedScorer
from lingua.models.sizing import Allowance
from lingua.text.tokens import SourceTokenizer

ROWS_AT_ONCE = 8
PADDING = 1.25
"""How much longer than its shortest prompt a batch's longest may be."""


class LocalTarget:
    """The model called `model` (alias, directory, hub id) on `device`. Raises ModelError."""

    scores = True

    def __init__(
        self, name: str, model: str, place: tuple[str, str] = ("auto", "float32"), batch_tokens: int | None = None
    ) -> None:
        self.name = name
        self.cut = 0
        self._subject = load_subject(model, place, "selective", seed=0)
        self._tokenizer = SourceTokenizer(self._subject.tokenizer)
        self._scorer = self._subject.scorer(Allowance(batch_tokens))

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) of each pair, in nats, summed over the answer's tokens.

        Equal prompts that follow each other are computed once.
        """
        pairs = groupby(zip(prompts, answers, strict=True), key=itemgetter(0))
        asked = [(prompt, [self._ids(answer) for _, answer in group]) for prompt, group in pairs]
        engine: Engine[list[float]] = Engine(self._scorer)
        found = engine.run(self._likelihoods(self._ids(prompt), own) for prompt, own in asked)
        return [value for values in found for value in _values(values)]

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt: greedy, cut before the first of the `stop` strings."""
        ids = [self._fitting(self._ids(prompt), max_tokens) for prompt in prompts]
        replies = [""] * len(prompts)
        packed = isinstance(self._scorer, PackedScorer)
        with self._subject.plain() if packed else nullcontext(self._subject.model) as model, torch.inference_mode():
            for batch in batches([len(one) for one in ids]):
                texts = self._continue(model, [ids[index] for index in batch], max_tokens, stop)
                for index, text in zip(batch, texts, strict=True):
                    replies[index] = cut(text, stop)
        return replies

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode([text])[0].ids.tolist()
        return ids

    @property
    def _head(self) -> tuple[int, ...]:
        return () if self._tokenizer.bos is None else (self._tokenizer.bos,)

    def _likelihoods(self, prompt: list[int], answers: list[list[int]]) -> Program[list[float]]:
        """The program of one prompt and all its answers."""
        longest = max(map(len, answers))
        ids = self._fitting(prompt, longest)
        context = Context(self._head, ids[len(self._head) :])

        def program() -> Program[list[float]]:
            sums = []
            for answer in answers:  # one after the other: the next finds the prompt's keys and values there
                (surprisal,) = yield [Score(context, answer)]
                sums.append(float(surprisal.sum(dtype="float64")))
            return sums

        return program()

    def _fitting(self, ids: list[int], room: int) -> list[int]:
        """The start token and as much of the prompt's end as leaves `room` tokens of the window."""
        fits = max(1, self._scorer.window - room - len(self._head))
        self.cut += len(ids) > fits
        return [*self._head, *ids[-fits:]]

    def _continue(self, model: Any, rows: list[list[int]], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """The greedy continuations of rows padded on the left."""
        width, tokenizer = max(map(len, rows)), self._subject.tokenizer
        ends = tokenizer.eos_token_id or 0
        ids = torch.tensor([[ends] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        strings = [one for one in stop if one]
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=ends,
            **({"stop_strings": strings, "tokenizer": tokenizer} if strings else {}),
        )
        texts: list[str] = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        return texts


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, the longest first, so that what does not fit fails at once."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batch = list[int]()
    for index in order:
        if batch and (len(batch) == ROWS_AT_ONCE or lengths[batch[0]] > PADDING * lengths[index]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _values(found: list[float] | PromptError) -> list[float]:
    if isinstance(found, PromptError):
        raise found
    return found

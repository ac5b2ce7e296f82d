"""A scorer without a model, and what a `Compressor` does with it: fast, exact, and a reader can work it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, OutOfMemoryError, Scorer
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from lingua.text.tokens import TargetTokenizer, load_target
from tests.models import tokenizer


class BigramScorer(Scorer):
    """Surprisal of a token depends on it and the one before it alone: (31·before + 17·token) mod 101, in tenths.

    memory   tokens that a batch may compute before it raises OutOfMemoryError
    batches  tokens computed by each batch that was answered
    """

    def __init__(self, window: int = 4_096, batch_tokens: int = 1 << 20, memory: int = 1 << 40) -> None:
        self.window, self.batch_tokens, self.live_tokens = window, batch_tokens, 1 << 30
        self.memory = memory
        self.batches: list[int] = []
        self.longest = 0

    @property
    def probe_tokens(self) -> int:
        return max(1, min(self.batch_tokens, self.window // 2))

    def cached(self, context: Context) -> int:
        return len(context)

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        tokens = sum(len(row.probe) for row in rows)
        if tokens > self.memory:
            raise OutOfMemoryError(f"{tokens} tokens")
        self.batches.append(tokens)
        self.longest = max(self.longest, *(len(row.context) + len(row.probe) for row in rows))
        return [
            bigram([*row.context.visible(max(0, len(row.context) - 1)), *row.probe])[-len(row.probe) :] for row in rows
        ]


def bigram(ids: Sequence[int]) -> Answer:
    """What `BigramScorer` says about each of `ids`; the first follows nothing."""
    tokens = np.asarray(ids, np.int64)
    before = np.concatenate([[0], tokens[:-1]])
    return ((31 * before + 17 * tokens) % 101 / 10).astype(np.float32)


class CountingTarget:
    """A target tokenizer that counts how often it is asked for a length."""

    def __init__(self, target: TargetTokenizer) -> None:
        self._target = target
        self.counts = 0

    def count(self, text: str) -> int:
        self.counts += 1
        return self._target.count(text)

    def starts(self, text: str) -> Any:
        return self._target.starts(text)


def drafter(**settings: Any) -> Drafter:
    """Made from these settings; if none of them says how to compress, by the method that asks a model most."""
    told = settings.keys() & {"method", "preset"}
    config = CompressionConfig(**(settings if told else {"method": "llmlingua", **settings}))
    return Drafter(tokenizer(), load_target(config.target_tokenizer, tokenizer()), config)


def outcomes(prompts: Iterable[Prompt], own: Drafter, scorer: Scorer | None = None) -> list[Outcome]:
    """What a `Compressor` gives, over any scorer."""
    engine: Engine[CompressedPrompt] = Engine(scorer or BigramScorer())
    results = engine.run(compress_one(prompt, own) for prompt in prompts)
    return [Rejected(one.reason, one.detail) if isinstance(one, PromptError) else one for one in results]


def compressed(prompt: Prompt | str, scorer: Scorer | None = None, **settings: Any) -> CompressedPrompt:
    """The result of one prompt that is not rejected."""
    prompt = Prompt(context=[prompt]) if isinstance(prompt, str) else prompt
    (outcome,) = outcomes([prompt], drafter(**settings), scorer)
    if isinstance(outcome, Rejected):
        raise AssertionError(outcome.detail)
    return outcome

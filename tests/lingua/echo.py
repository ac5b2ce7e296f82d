"""Stand-ins for the methods' tests: a scorer whose surprisal a reader can work out, and a small tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lingua.budget.draft import Draft, Drafter, Ranker
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, BatchRow, Context, ScoreCache, Scorer
from lingua.errors import PromptError
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.text.tokens import SourceTokenizer

NASTY = (
    "",
    " ",
    "\n\n\n",
    "\0",
    "a\0b\0c d",
    "😀👨‍👩‍👧‍👦 flags 🇩🇪🇫🇷 and more 🙂🙃",
    "漢字とひらがなの混ざった文章です。今日は天気がいい。",
    "مرحبا بالعالم، هذا نص عربي طويل قليلا",
    "e\u0301tude na\u0308ive co\u0301mbining",
    "<|endoftext|> <s> </s> [MASK] <llmlingua>",
    "a < b && c > d, <tag attr='x'>",
    "tab\tand\r\nwindows\r\nlines\r\n",
    "x" * 3000,
)
CORPUS = (
    "The capital of France is Paris, and the river is the Seine. A long train left the station at noon. "
    "What is the name of the river? The committee met in Vienna to settle the price of coal and of steel. "
) * 4


@cache
def tokenizer() -> SourceTokenizer:
    """Byte-level BPE over a few sentences: every string has tokens, most words have several."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([CORPUS], trainer)
    return SourceTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>"))


class EchoScorer(Scorer):
    """Expects to read again what it has read: 1 nat for a token that stands before, else 5 and a little by its id.

    `rows` counts what was asked, `tokens` what was scored.
    """

    def __init__(self, window: int = 4096, batch_tokens: int = 512) -> None:
        self.window, self.batch_tokens, self.live_tokens = window, batch_tokens, 1 << 20
        self.rows = self.tokens = 0

    @property
    def probe_tokens(self) -> int:
        return min(self.batch_tokens, self.window // 2)

    def cached(self, context: Context) -> int:
        return 0

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        self.rows += len(rows)
        self.tokens += sum(len(row.probe) for row in rows)
        return [self._row(row) for row in rows]

    def _row(self, row: BatchRow) -> Answer:
        seen, values = set(row.context.visible(0)), []
        for token in row.probe:
            values.append(1.0 if token in seen else 5.0 + token % 97 / 100)
            seen.add(token)
        return np.asarray(values, np.float32)


def drafter(ranker: Ranker | None = None, **settings: Any) -> Drafter:
    return Drafter(tokenizer(), tokenizer(), CompressionConfig(**settings), ranker=ranker)


def draft_of(prompt: Prompt, **settings: Any) -> Draft:
    return drafter(**settings).draft(prompt)


def compress(
    prompts: Iterable[Prompt], scorer: EchoScorer | None = None, cache: ScoreCache | None = None, **settings: Any
) -> list[Outcome]:
    """What a Compressor would do, over an `EchoScorer`."""
    own = drafter(**settings)
    engine: Engine[Any] = Engine(scorer or EchoScorer(), cache=cache)
    results = engine.run(compress_one(prompt, own) for prompt in prompts)
    return [Rejected(one.reason, one.detail) if isinstance(one, PromptError) else one for one in results]

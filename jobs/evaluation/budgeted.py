"""`Budgeted`: a compressor that is told for each prompt how many tokens its context may keep.

So that sets, methods and the peer compare, a size is always a number of tokens of the joined context, in one tokenizer
for all; instruction and question stay whole and do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jobs.evaluation.settings import EvalConfig
from lingua.compressor import Compressor, compress_one
from lingua.config import CompressionConfig
from lingua.engine import Engine
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected, join_parts
from lingua.score import Program
from lingua.tokens import SourceTokenizer, TargetTokenizer


@dataclass(frozen=True, slots=True)
class Sized:
    """A prompt whose joined context may keep `budget` tokens."""

    prompt: Prompt
    budget: int


class Budgeted(Compressor):
    """`counter` is what budgets are counted in, whatever the settings say."""

    counter: TargetTokenizer

    @classmethod
    def lazily(cls, model: str, config: EvalConfig) -> Budgeted:
        """A compressor of this model that has loaded its tokenizer only: weights come with settings that need them."""
        nothing = CompressionConfig(method="truncate")
        return cls(model, nothing, device=config.device, dtype=config.dtype, batch_tokens=config.batch_tokens)

    def counting(self, config: CompressionConfig, counter: TargetTokenizer) -> Budgeted:
        """The same model under these settings, counting so."""
        other = self.using(config)
        if not isinstance(other, Budgeted):
            raise TypeError(f"a {type(other).__name__} counts in its own way")
        other.counter = counter
        return other

    @property
    def own_tokenizer(self) -> SourceTokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    def compress_to(self, prompts: Iterable[Sized]) -> Iterator[Outcome]:
        """Compress each prompt to its own size: one outcome for each, in their order, as they are done."""
        engine: Engine[CompressedPrompt] = Engine(self._scorer, memory=self._memory)
        for result in engine.run((self._sized(one), len(one.prompt.text)) for one in prompts):
            yield Rejected(result.reason, result.detail) if isinstance(result, PromptError) else result

    def _sized(self, one: Sized) -> Program[CompressedPrompt]:
        count, prompt = self.counter.count, one.prompt
        whole = count(join_parts(prompt.context, prompt.separator))
        target = max(1, count(prompt.text) - max(0, whole - one.budget))
        config = self._drafter.config.model_copy(update={"rate": None, "target_token": target})
        return compress_one(prompt, replace(self._drafter, config=config, target=self.counter))


def budget_of(size: float, tokens: int) -> int:
    """Tokens that a context of so many may keep: a share of them, or above 1 a number."""
    return min(tokens, int(size)) if size > 1 else max(min(1, tokens), int(size * tokens + 1e-9))

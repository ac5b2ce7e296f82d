"""`Compressor`: prompts in, outcomes out, same length, same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from lingua.config import CompressionConfig
from lingua.draft import Drafter
from lingua.engine import Engine, NoScorer, Program, Scorer
from lingua.errors import PromptError
from lingua.methods import METHODS
from lingua.models.source import ModelSource, resolve
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from lingua.select import fit
from lingua.tokens import SourceTokenizer, load_target


class Compressor:
    """Compresses prompts with one model and one configuration; both are loaded once.

    model        hub id, model directory, GGUF file, or an alias such as ``smollm2-135m``
    device       ``auto``, ``cpu``, ``cuda``, ``cuda:1``, …
    dtype        ``auto`` (bfloat16 where the hardware multiplies it), ``float32``, ``bfloat16``, ``float16``
    batch_tokens tokens per batch; chosen by device if not given, halved when memory runs out

    Raises ModelError when the model or a tokenizer cannot be loaded.

    >>> compressor = Compressor("smollm2-135m", CompressionConfig(rate=0.5))
    >>> outcomes = compressor.compress([Prompt(context=["…", "…"], question="…")])
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        config: CompressionConfig | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from lingua.models.load import Loader

        self.config = config or CompressionConfig()
        self.source: ModelSource = resolve(model)
        loader = Loader(self.source, device, dtype, trust_remote_code)
        tokenizer = SourceTokenizer(loader.tokenizer())
        self._drafter = Drafter(tokenizer, load_target(self.config.target_tokenizer, tokenizer), self.config)
        needs = METHODS[self.config.method].needs
        self._scorer: Scorer = NoScorer() if needs == "nothing" else loader.scorer(needs, batch_tokens)

    @cached_property
    def digest(self) -> str:
        """What the results depend on: settings and model."""
        return f"{self.config.digest()}-{self.source.digest}"

    def compress(self, prompts: Iterable[Prompt]) -> list[Outcome]:
        """Compress all prompts: one outcome for each, in their order.

        A prompt that cannot be compressed becomes a `Rejected`; the others are not affected.
        """
        return list(self.stream(prompts))

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """The same, lazily: prompts are pulled as the engine has room, outcomes come in order as they are done."""
        engine: Engine[CompressedPrompt] = Engine(self._scorer)
        for result in engine.run(map(self._program, prompts)):
            yield Rejected(result.reason, result.detail) if isinstance(result, PromptError) else result

    def _program(self, prompt: Prompt) -> tuple[Program[CompressedPrompt], int]:
        if not isinstance(prompt, Prompt):
            raise TypeError(f"compress() takes Prompt objects, not {type(prompt).__name__}: Prompt(context=[text])")
        return compress_one(prompt, self._drafter), len(prompt.text)


def compress_one(prompt: Prompt, drafter: Drafter) -> Program[CompressedPrompt]:
    """The program of one prompt: its method, then the exact budget. A prompt within its budget passes through."""
    draft = drafter.draft(prompt)
    if draft.origin_tokens <= draft.target_tokens:
        return draft.finish("passthrough")
    yield from METHODS[drafter.config.method].program(draft)
    return fit(draft)

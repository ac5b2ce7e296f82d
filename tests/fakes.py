"""Stand-ins for what is slow: a compressor without a model that behaves like the real one, word for token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lingua.config import CompressionConfig
from lingua.prompt import CompressedPrompt, Facts, Outcome, Prompt, Rejected, Span, join_parts

REJECT = "please-reject"
CRASH = "please-crash"
SAMPLE = "please-sample"
LOOK_AHEAD = 4


class FakeCompressor:
    """Keeps the first of every two words of each context string; instruction and question stay.

    A prompt that holds `REJECT` is rejected (``asked_for``); one that holds `CRASH` raises RuntimeError. Prompts of at
    most two words pass through. Tokens are words, fidelity is the kept share of them; with `SAMPLE` it predicts a
    quarter of its original.
    """

    def __init__(self, model: str = "fake", config: CompressionConfig | None = None, **options: object) -> None:
        self.model = model
        self.config = config or CompressionConfig()
        self.options = options
        self.computed_seconds, self.packing = 0.0, ()

    def compress(self, prompts: Iterable[Prompt]) -> list[Outcome]:
        """Outcomes, one per prompt, in order."""
        return list(self.stream(prompts))

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """The same, pulling `LOOK_AHEAD` prompts before the first outcome as a batching engine does."""
        waiting: list[Prompt] = []
        for prompt in prompts:
            waiting.append(prompt)
            if len(waiting) > LOOK_AHEAD:
                yield self._outcome(waiting.pop(0))
        for prompt in waiting:
            yield self._outcome(prompt)

    def _outcome(self, prompt: Prompt) -> Outcome:
        if CRASH in prompt.text:
            raise RuntimeError("crashed on cue")
        if REJECT in prompt.text:
            return Rejected("asked_for", f"the prompt holds {REJECT!r}")
        return _halved(prompt)


def _halved(prompt: Prompt) -> CompressedPrompt:
    origin = len(prompt.text.split())
    small = origin <= 2
    context = tuple(text if small else " ".join(text.split()[::2]) for text in prompt.context)
    text = join_parts((prompt.instruction, *context, prompt.question), prompt.separator)
    return CompressedPrompt(
        text=text,
        instruction=prompt.instruction,
        context=context,
        question=prompt.question,
        kept_context=tuple(range(len(context))),
        kept_spans=tuple(tuple(_spans(item, 1 if small else 2)) for item in prompt.context),
        origin_tokens=origin,
        compressed_tokens=len(text.split()),
        target_tokens=max(1, origin),
        status="passthrough" if small else "compressed",
        fidelity=len(text.split()) / origin if origin else 1.0,
        predicted=0.25 if SAMPLE in prompt.text else None,
        facts=Facts(_numbers(prompt.text), _numbers(text)),
    )


def _numbers(text: str) -> int:
    return sum(map(str.isdigit, text.split()))


def _spans(text: str, step: int) -> Iterator[Span]:
    position = 0
    for index, word in enumerate(text.split()):
        start = text.index(word, position)
        position = start + len(word)
        if index % step == 0:
            yield start, position

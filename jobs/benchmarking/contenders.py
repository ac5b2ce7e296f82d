"""Who is measured, and on what model: our engine in its ways to compute, the plain forward, the public library.

All have the same weights: a model by its name, or ``shape:NAME``, a published shape with random weights, as speed does
not depend on their values. Sizes are those published by Hugging Face (SmolLM2-135M), Meta (Llama-2-7B) and for
XLM-RoBERTa-large with two labels, as LLMLingua-2 uses it. Tokenizers are trained on our corpus, no larger than the
shape's vocabulary; the embedding and the head keep the published size. The tiny ones are for trying commands out.

Our engine runs its real scorer and tokenizer under a clock that wraps them from outside, so that it carries no
counters. What is neither model nor tokenizer is the host's: selection, packing, Python.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import ByteLevelBPETokenizer, SentencePieceBPETokenizer, Tokenizer, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from jobs.benchmarking.compiled import compile_decoder
from jobs.benchmarking.hardware import Batch, forget_peak, kernel_seconds, peak_bytes, synchronize, timed
from jobs.benchmarking.prompts import paragraphs
from jobs.generation import plain_attention
from jobs.peer import Peer, peer_copy
from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer, Arriving, BatchRow, ScoreCache, Scorer, TimedScorer
from lingua.errors import ConfigError, PromptError
from lingua.methods import METHODS
from lingua.models.encoders import EncoderScorer
from lingua.models.load import Loader, choose_device, choose_dtype, converted, place
from lingua.models.sizing import Allowance
from lingua.models.source import resolve
from lingua.models.trial import causal_scorer
from lingua.prompt import CompressedPrompt, Prompt, Span
from lingua.text.tokens import SourceTokenizer

T = TypeVar("T")
KeptSpans = tuple[tuple[Span, ...], ...]
PREFIX = "shape:"
_TRAINED = 32_000
"""Entries of a trained vocabulary: what the corpus can fill."""
_LOGITS = 1 << 28
"""Elements of the logits that the plain forward may make at once."""

_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "vocab_size", "max_position_embeddings"),
)


def _shape(kind: Any, *sizes: int, **others: Any) -> Callable[[], PreTrainedConfig]:
    """A configuration with `sizes` in the order of `_SIZES`."""
    return partial(kind, **dict(zip(_SIZES, sizes, strict=True)), **others)


_SMOLLM2: dict[str, Any] = {
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}
SHAPES = {
    "smollm2-135m": _shape(LlamaConfig, 576, 30, 9, 1_536, 49_152, 8_192, **_SMOLLM2),
    "llama-2-7b": _shape(LlamaConfig, 4_096, 32, 32, 11_008, 32_000, 4_096),
    "xlm-roberta-large": _shape(XLMRobertaConfig, 1_024, 24, 16, 4_096, 250_002, 514, type_vocab_size=1),
    "tiny": _shape(LlamaConfig, 16, 2, 2, 32, 600, 512, num_key_value_heads=1),
    "tiny-encoder": _shape(XLMRobertaConfig, 16, 2, 2, 32, 700, 514, type_vocab_size=1),
}
"""Encoders have two labels, the default: drop and keep."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on its device with its tokenizer; `location` is its directory, None for weights that are not on disk."""

    name: str
    model: Any
    tokenizer: Any
    location: Path | None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def is_encoder(self) -> bool:
        return self.model.get_output_embeddings() is None

    def scorer(self, allowance: Allowance, compiled: bool = False) -> Scorer:
        """What answers our engine; `compiled`: by torch, which changes the model. Raises ModelError."""
        if self.is_encoder:
            return EncoderScorer(self.model, self.tokenizer, allowance)
        scorer = causal_scorer(place(self.model, self.device), allowance)
        if compiled:
            compile_decoder(scorer, self.model)
        return scorer

    def for_peer(self, folder: Path) -> Path:
        """A directory below `folder` with these weights for the peer, who knows encoders by their directory's name."""
        if (location := self.location) is None:
            location = folder / "weights"
            with plain_attention(self.model) as model:
                model.save_pretrained(location)
            self.tokenizer.save_pretrained(location)
        return peer_copy(location, folder / ("xlm-roberta-large" if self.is_encoder else "model"))


def load_subject(name: str, place: tuple[str, str], method: str, seed: int) -> Subject:
    """The model called `name` on `place` (device, dtype). Raises ModelError; ConfigError if it cannot do `method`."""
    device = choose_device(place[0])
    dtype = choose_dtype(place[1], device)
    found = _random(name, device, dtype, seed) if name.startswith(PREFIX) else _loaded(name, device, dtype, method)
    if (needed := METHODS[method].needs) != ("encoder" if found.is_encoder else "causal"):
        raise ConfigError(f"--method {method} needs {needed!r}, --model {name} is not that")
    return found


def _random(name: str, device: torch.device, dtype: torch.dtype, seed: int) -> Subject:
    if (shape := name.removeprefix(PREFIX)) not in SHAPES:
        raise ConfigError(f"--model {name}: no such shape; there are {', '.join(PREFIX + known for known in SHAPES)}")
    config = SHAPES[shape]()
    return Subject(name, random_model(config, device, dtype, seed), trained_tokenizer(config), None)


def _loaded(name: str, device: torch.device, dtype: torch.dtype, method: str) -> Subject:
    kind: Any = AutoModelForTokenClassification if METHODS[method].needs == "encoder" else AutoModelForCausalLM
    source = converted(resolve(name))
    loader, location = Loader(source), Path(source.location) if source.local else None
    model = loader.load(kind, dtype=dtype).to(device).eval().requires_grad_(False)
    return Subject(name, model, loader.tokenizer(), location)


# ---- random weights


def is_encoder(config: PreTrainedConfig) -> bool:
    return isinstance(config, XLMRobertaConfig)


def random_model(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """A model of this shape, its weights drawn on the device."""
    kind: Any = AutoModelForTokenClassification if is_encoder(config) else AutoModelForCausalLM
    torch.manual_seed(seed)
    with device:
        model = kind.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)


def trained_tokenizer(config: PreTrainedConfig) -> PreTrainedTokenizerFast:
    """A tokenizer for this shape: byte-level BPE for language models, word pieces marked by ▁ for encoders."""
    special, names = ["<unk>", "<s>", "</s>"], {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    untrained: Any = ByteLevelBPETokenizer
    if is_encoder(config):
        special, untrained = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], SentencePieceBPETokenizer
        names |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    made = untrained()
    size = min(config.vocab_size, _TRAINED)
    made.train_from_iterator(
        paragraphs(), vocab_size=size, min_frequency=1, special_tokens=special, show_progress=False
    )
    if is_encoder(config):
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    wrap: Any = PreTrainedTokenizerFast
    pad = "<pad>" if is_encoder(config) else "</s>"
    return wrap(tokenizer_object=Tokenizer.from_str(made.to_str()), pad_token=pad, **names)  # type: ignore[no-any-return]


# ---- on it


class Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)  # by stage

    def timed(self, stage: str, work: Callable[..., T]) -> Callable[..., T]:
        """The same work, whose time belongs to this stage."""

        def timing(*given: Any) -> T:
            started = time.perf_counter()
            try:
                return work(*given)
            finally:
                self.seconds[stage] += time.perf_counter() - started

        return timing


class MeasuredScorer(TimedScorer):
    """Answers as `scorer` does; `batches`: the work of each. The stage ``model`` is launching batches and waiting."""

    def __init__(self, scorer: Scorer, clock: Clock) -> None:
        super().__init__(scorer)
        self.batches: list[Batch] = []
        self._clock = clock

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        cached = [self.cached(row.context) for row in rows]
        new = [len(row.context) - start + len(row.probe) for row, start in zip(rows, cached, strict=True)]
        pairs = sum(size * start + size * (size + 1) // 2 for size, start in zip(new, cached, strict=True))
        answers = self._clock.timed("model", self._clock.timed("model", self.scorer.start)(rows))

        def taken() -> list[Answer]:
            found = answers()
            self.batches.append(Batch(sum(new), sum(len(row.probe) for row in rows), pairs))
            return found

        return taken


class MeasuredTokenizer(SourceTokenizer):
    """The compressor's tokenizer under the clock."""

    def __init__(self, tokenizer: Any, clock: Clock) -> None:
        super().__init__(tokenizer)
        for name in ("encode", "count", "starts"):
            setattr(self, name, clock.timed("tokenize", getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Pass:
    prompts: int
    seconds: float
    cpu_seconds: float  # of all threads: what a busy machine does not lengthen
    kept_share: float  # compressed tokens per original one
    model_tokens: int  # tokens that went through the model
    stages: dict[str, float]  # seconds by stage; ``host`` is all that is not another
    peak_bytes: int
    batches: tuple[Batch, ...] = ()  # the work of each batch, where it is known
    rejected: int = 0
    # of each prompt that was compressed, the kept character ranges of its context strings
    kept: tuple[KeptSpans, ...] = ()


@dataclass(slots=True)
class Ours:
    """Our engine over `scorer`; `forgetful`: it shares nothing between prompts, so slow that it is given fewer."""

    name: str
    subject: Subject
    scorer: Scorer
    config: CompressionConfig
    forgetful: bool = False

    def run(self, prompts: Sequence[Prompt]) -> Pass:
        clock = Clock()
        scorer, tokenizer = MeasuredScorer(self.scorer, clock), MeasuredTokenizer(self.subject.tokenizer, clock)
        forget_peak(self.subject.device)
        worked = time.process_time()
        outcomes = clock.timed("all", self.compress)(prompts, scorer, tokenizer)
        seconds = clock.seconds.pop("all")
        done = [outcome for outcome in outcomes if isinstance(outcome, CompressedPrompt)]
        kept = sum(outcome.compressed_tokens for outcome in done) / max(1, sum(one.origin_tokens for one in done))
        return Pass(
            prompts=len(prompts),
            seconds=seconds,
            cpu_seconds=time.process_time() - worked,
            kept_share=kept,
            model_tokens=sum(batch.tokens for batch in scorer.batches),
            stages={**clock.seconds, "host": seconds - sum(clock.seconds.values())},
            peak_bytes=peak_bytes(self.subject.device),
            batches=tuple(scorer.batches),
            rejected=len(outcomes) - len(done),
            kept=tuple(outcome.kept_spans if isinstance(outcome, CompressedPrompt) else () for outcome in outcomes),
        )

    def compress(
        self, prompts: Sequence[Prompt], scorer: Scorer, tokenizer: SourceTokenizer
    ) -> list[CompressedPrompt | PromptError]:
        """The outcomes, once the device has done all that it was given."""
        drafter = Drafter(tokenizer, tokenizer, self.config, scorer.probe_tokens)
        cache = ScoreCache(0) if self.forgetful else ScoreCache()
        engine: Engine[CompressedPrompt] = Engine(scorer, cache=cache)
        outcomes = list(engine.run(compress_one(prompt, drafter) for prompt in prompts))
        synchronize(self.subject.device)
        return outcomes

    def busy_share(self, prompts: Sequence[Prompt], seconds: float) -> float | None:
        """Share of `seconds`, an earlier pass's over these prompts, in which the GPU ran kernels; None on a CPU."""
        if self.subject.device.type != "cuda":
            return None
        tokenizer = SourceTokenizer(self.subject.tokenizer)
        return kernel_seconds(lambda: self.compress(prompts, self.scorer, tokenizer)) / seconds


@dataclass(slots=True)
class Theirs:
    """The public library in its own process, which `begin` starts; `options` are those of its `compress_prompt`."""

    begin: Callable[[], Peer]
    options: dict[str, Any]
    name: str = "llmlingua"
    forgetful: bool = field(default=True, init=False)
    peer: Peer | None = field(default=None, init=False)  # its process, once it was asked for anything

    def run(self, prompts: Sequence[Prompt]) -> Pass:
        if self.peer is None:
            self.peer = self.begin()
        answers = [self.peer.compress(prompt, self.options) for prompt in prompts]
        seconds, model = sum(one.seconds for one in answers), sum(one.model_seconds for one in answers)
        kept, origin = sum(one.compressed_tokens for one in answers), sum(one.origin_tokens for one in answers)
        return Pass(
            prompts=len(prompts),
            seconds=seconds,
            cpu_seconds=sum(one.cpu_seconds for one in answers),
            kept_share=kept / max(1, origin),
            model_tokens=sum(one.model_tokens for one in answers),
            stages={"model": model, "host": seconds - model},
            peak_bytes=max(one.peak_bytes for one in answers),
        )


def plain_forward(subject: Subject, tokens: int, length: int, batch_tokens: int) -> float:
    """Tokens per second of the untouched model: about `tokens` in rows of `length`, `batch_tokens` at a time."""
    length = max(1, min(length, subject.model.config.max_position_embeddings - 2, tokens))
    rows = max(1, min(batch_tokens // length, _LOGITS // (length * subject.model.config.vocab_size), tokens // length))
    ids = torch.randint(5, len(subject.tokenizer), (rows, length), device=subject.device)
    passes = max(1, round(tokens / ids.numel()))
    uncached = {} if subject.is_encoder else {"use_cache": False}

    def read() -> None:
        for _ in range(passes):
            model(input_ids=ids, **uncached)

    with plain_attention(subject.model) as model, torch.inference_mode():
        model(input_ids=ids[:, : min(length, 64)])
        return passes * ids.numel() / timed(read, subject.device)

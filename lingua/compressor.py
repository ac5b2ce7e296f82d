"""`Compressor`: prompts in, outcomes out, in their order, equal prompts computed once; labels of words."""

from __future__ import annotations

import copy
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lingua.assemble import Order
from lingua.budget.draft import Draft, Drafter, PromptPart
from lingua.budget.fidelity import Fidelity, Original, drawn, prediction, relaxed
from lingua.budget.selection import settle
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import BoundedStore, Needs, NoScorer, Program, ScoreCache, Scorer, TimedScorer
from lingua.errors import PromptError
from lingua.methods import METHODS, models_digest, scoring_model
from lingua.methods.ranking import load_ranker
from lingua.models.source import ModelSource, resolve
from lingua.prompt import Bools, CompressedPrompt, Outcome, Prompt, Rejected, Span, checked_text
from lingua.structured.streams import StructuredFace
from lingua.text.tokens import SourceTokenizer, load_target

if TYPE_CHECKING:
    from lingua.models.load import Loader

SECONDS_WITHOUT_BAR = 2.0
KNOWN_BYTES = 1 << 26
"""Of outcomes that are remembered."""
_OUTCOME, _CHARACTER, _SPAN = 500, 4, 128
"""Bytes of an outcome, of each character of its texts and of each kept span, at most."""


class Compressor(StructuredFace):
    """Compresses prompts with one model and one configuration; both are loaded once.

    model        hub id, model directory, GGUF file, or an alias such as ``smollm2-135m``
    device       ``auto``, ``cpu``, ``cuda``, ``cuda:1``, …
    dtype        ``auto`` (bfloat16 where the hardware multiplies it), ``float32``, ``bfloat16``, ``float16``
    batch_tokens tokens per batch; chosen by device if not given, halved while memory is short
    gpu_memory   share of a GPU's free memory that batches, keys and values take once the model is loaded
    gpu_share    how much of the GPU is this process's, below 1 where others work on it as well
    fidelity_sample  share of the prompts whose outcome is told how well it predicts the original (`predicted`)

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
        gpu_memory: float = 0.75,
        gpu_share: float = 1.0,
        trust_remote_code: bool = False,
        fidelity_sample: float = 0.0,
    ) -> None:
        from lingua.models.load import Loader
        from lingua.models.sizing import Allowance

        if not (isinstance(model, str) and isinstance(config, (CompressionConfig, type(None)))):
            raise TypeError("the first argument is the name of a model, the second a CompressionConfig")
        self.source: ModelSource = resolve(model)
        self._loader = Loader(self.source, device, dtype, trust_remote_code)
        self._tokenizer = SourceTokenizer(self._loader.tokenizer())
        self._allowance = Allowance(batch_tokens, gpu_memory, gpu_share)
        self._fidelity_sample = fidelity_sample
        self._scorers: dict[tuple[Needs, Loader], tuple[TimedScorer, ScoreCache]] = {}
        self._one_at_a_time = threading.RLock()  # shared by `using`, as the models are
        self._configure(config or CompressionConfig())

    def _configure(self, config: CompressionConfig) -> None:
        self.config = config
        target = load_target(config.target_tokenizer, self._tokenizer)
        model, loader = scoring_model(self.source, config), self._loader
        apart = model is not self.source
        if apart:
            loader = replace(loader, source=model, dtype="float32")
        self._scorer, self._cache = self._scoring(config.own.needs, loader)
        ranks = getattr(config.own, "rank_method", None)
        self._drafter = Drafter(
            self._tokenizer,
            target,
            config,
            window=self._scorer.probe_tokens,
            ranker=load_ranker(ranks, loader.device, loader.trust_remote_code) if ranks else None,
            reader=SourceTokenizer(loader.tokenizer()) if apart else None,
            model=self.source.name,
            judged=model.judged if apart else 0,
        )
        self._known: BoundedStore[Outcome] = BoundedStore(KNOWN_BYTES)

    def _scoring(self, needs: Needs, loader: Loader) -> tuple[Scorer, ScoreCache]:
        """What answers the scores, loaded once for all settings that need the same, and the cache of its answers."""
        key = needs, loader
        if key not in self._scorers:
            scorer = NoScorer() if needs == "nothing" else loader.scorer(needs, self._allowance)
            self._scorers[key] = TimedScorer(scorer), ScoreCache()
        return self._scorers[key]

    def using(self, config: CompressionConfig) -> Compressor:
        """A compressor with the same model, loaded once, and other settings."""
        other = copy.copy(self)
        other.__dict__.pop("digest", None)
        other._configure(config)
        return other

    def __reduce__(self) -> tuple[Callable[[], Compressor], tuple[()]]:
        """Unpickled or copied deeply, it loads its model again, as it was loaded here."""
        names = {"device": self._loader.device, "dtype": self._loader.dtype}
        memory = {"gpu_memory": self._allowance.share, "gpu_share": self._allowance.card}
        given: dict[str, Any] = {**names, **memory, "batch_tokens": self._allowance.batch_tokens}
        given |= {"trust_remote_code": self._loader.trust_remote_code, "fidelity_sample": self._fidelity_sample}
        return partial(type(self), self.source.name, self.config, **given), ()

    @property
    def computed_seconds(self) -> float:
        """How long the model has computed since it was loaded, whatever the settings."""
        return sum(scorer.seconds for scorer, _ in self._scorers.values())

    @property
    def packing(self) -> tuple[str, ...]:
        """How each causal model runs: packed, and how near to its plain forward; or row by row, and why."""
        return tuple(timed.scorer.packing for timed, _ in self._scorers.values() if hasattr(timed.scorer, "packing"))

    @cached_property
    def digest(self) -> str:
        """What the results depend on: settings and models."""
        return f"{self.config.digest()}-{models_digest(self.source, self.config)}"

    def compress(self, prompts: Iterable[Prompt], progress: bool | None = None) -> list[Outcome]:
        """Compress all prompts: one outcome for each, in their order.

        A prompt that cannot be compressed becomes a `Rejected`; the others are not affected. Several threads may call:
        the calls of compressors that share a model wait for each other.

        progress   whether a bar on standard error counts them; None: on a terminal, when they take some seconds
        """
        shown = sys.stderr.isatty() if progress is None else progress
        with self._one_at_a_time:
            return list(self._shown(prompts, progress)) if shown else list(self.stream(prompts))

    def _shown(self, prompts: Iterable[Prompt], progress: bool | None) -> Iterable[Outcome]:
        """The stream with a bar that counts it."""
        from tqdm import tqdm

        total = len(prompts) if isinstance(prompts, Sized) else None
        patience = SECONDS_WITHOUT_BAR if progress is None else 0
        outcomes: Iterable[Outcome] = tqdm(self.stream(prompts), total=total, unit="prompt", delay=patience)
        return outcomes

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """The same, lazily: prompts are pulled as the engine has room, outcomes come in order as they are done."""
        engine: Engine[PendingOutcome] = Engine(self._scorer, cache=self._cache)
        compress = partial(compress_one, drafter=self._drafter, sample=self._fidelity_sample)
        repeats = Deduplication(self._known, compress)
        for result in engine.run(map(repeats.program, _checked(prompts))):
            if isinstance(result, PromptError):
                raise result
            yield result.outcome

    def count(self, text: str) -> int:
        """Tokens of a text, as budgets count them."""
        return self._drafter.target.count(checked_text("text", text))

    def fidelity(self, original: str, compressed: str) -> Fidelity:
        """How much of a text another one keeps, whoever shortened it; no model is asked."""
        known = Original.of(self._tokenizer.encode([checked_text("original", original)]))
        return known.kept_in(checked_text("compressed", compressed))

    def word_labels(self, prompts: Iterable[Prompt]) -> list[Labels | Rejected]:
        """For each prompt and each of its context strings: every word, its score, and whether it is kept."""
        engine: Engine[Labels] = Engine(self._scorer, cache=self._cache)
        results = engine.run(label_words(prompt, self._drafter) for prompt in _checked(prompts))
        return [Rejected(one.reason, one.detail) if isinstance(one, PromptError) else one for one in results]


# ---- equal prompts, compressed once


@dataclass(slots=True, eq=False)
class PendingOutcome:
    """Where the outcome of equal prompts will be once the first of them is done."""

    outcome: Outcome = field(init=False)


class Deduplication:
    """Makes programs of prompts for one run; `known` holds the outcomes of earlier runs under the same settings."""

    def __init__(self, known: BoundedStore[Outcome], compress: Callable[[Prompt], Program[CompressedPrompt]]) -> None:
        self._known = known
        self._compress = compress
        self._open: dict[bytes, PendingOutcome] = {}

    def program(self, prompt: Prompt) -> Program[PendingOutcome]:
        """The prompt's program for the engine; of a repeated one, a program that asks for nothing."""
        key = hashlib.blake2b(repr(prompt).encode(), digest_size=16).digest()
        if key in self._open:
            return _at_once(self._open[key])
        place = PendingOutcome()
        if (known := self._known.get(key)) is not None:
            place.outcome = known
            return _at_once(place)
        self._open[key] = place
        return self._first(key, prompt)

    def _first(self, key: bytes, prompt: Prompt) -> Program[PendingOutcome]:
        place = self._open[key]
        try:
            place.outcome = yield from self._compress(prompt)
        except PromptError as error:
            place.outcome = Rejected(error.reason, error.detail)
        self._known.put(key, place.outcome, size_of(place.outcome))
        del self._open[key]
        return place


def size_of(outcome: Outcome) -> int:
    """Bytes that an outcome takes, from above."""
    if isinstance(outcome, Rejected):
        return _OUTCOME + _CHARACTER * len(outcome.detail)
    texts = (outcome.text, outcome.instruction, outcome.question, *outcome.context, outcome.order or "")
    spans = len(outcome.kept_spans) + sum(map(len, outcome.kept_spans))
    return _OUTCOME + _CHARACTER * sum(map(len, texts)) + _SPAN * spans


def _at_once(place: PendingOutcome) -> Program[PendingOutcome]:
    yield from ()
    return place


# ---- one prompt


def _checked(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    if isinstance(prompts, Prompt):
        raise TypeError("one prompt is given as a list of one: compress([prompt])")
    for prompt in prompts:
        if not isinstance(prompt, Prompt):
            raise TypeError(f"compress() takes Prompt objects, not {type(prompt).__name__}: Prompt(context=[text])")
        yield prompt


def compress_one(prompt: Prompt, drafter: Drafter, sample: float = 0.0) -> Program[CompressedPrompt]:
    """The program of one prompt: its method, the exact budget, and what became of its content.

    A prompt within its budget passes through, with `keep_order` after it was scored; one of which nothing may be cut is
    kept. `sample`: the share of prompts of which `predicted` is asked.
    """
    draft, least = drafter.draft(prompt), drafter.config.min_fidelity
    ordered = drafter.config.keep_order
    if ordered and (prompt.question or prompt.context_rates):
        kind = "a structured value" if prompt.context_rates else "a prompt with a question"
        raise PromptError("no_order", f"keep_order serves questions that are not known yet, and this is {kind}")
    if draft.fits:
        whole = draft.finish("kept" if draft.untouchable else "passthrough")
        if not ordered:
            return whole
        yield from METHODS[drafter.config.method].program(draft, drafter.config.own)
        return replace(whole, order=Order.of(draft).text)
    original = Original.of_draft(draft)

    def at_budget(draft: Draft) -> Program[CompressedPrompt]:
        yield from METHODS[drafter.config.method].program(draft, drafter.config.own)
        result = settle(draft)
        if prompt.keep_some and draft.hold_emptied(result):
            result = settle(draft)
        left = original.kept_in(result.text)
        return replace(result, fidelity=left.overall, facts=left.facts)

    result = yield from at_budget(draft)
    if least is not None and result.fidelity < least:
        result = yield from relaxed(prompt, drafter, least, at_budget, result)
    if drafter.config.own.needs == "causal" and drawn(prompt, sample):
        result = replace(result, predicted=(yield from prediction(draft, result)))
    return replace(result, order=Order.of(draft).text) if ordered else result


@dataclass(frozen=True, slots=True)
class WordLabel:
    """One unit of a context string.

    text     with the white space before it: the texts of a string's labels add up to the string
    kept     whether anything of it is in the result
    score    its keep probability (llmlingua2), or its surprisal in nats; 0 where the method asked for none
    """

    text: str
    kept: bool
    score: float


Labels = tuple[tuple[WordLabel, ...], ...]
"""The labels of each context string."""


def label_words(prompt: Prompt, drafter: Drafter) -> Program[Labels]:
    """The program that labels one prompt: scored even where it is within its budget, then compressed."""
    draft = drafter.draft(prompt, each=True)
    whole = draft.finish("passthrough") if draft.fits else None
    yield from METHODS[drafter.config.method].program(draft, drafter.config.own)
    result = whole or settle(draft)
    scores = [part.scores(drafter.config).tolist() for part in draft.context]
    return tuple(map(_labels, draft.context, scores, result.kept_spans))


def _labels(part: PromptPart, scores: Sequence[float], spans: Sequence[Span]) -> tuple[WordLabel, ...]:
    bounds = part.bounds.tolist()
    texts = [part.text[start:end] for start, end in pairwise(bounds)]
    return tuple(map(WordLabel, texts, _touched(part, spans).tolist(), scores))


def _touched(part: PromptPart, spans: Sequence[Span]) -> Bools:
    """Which units [u] overlap one of the spans; a line break alone is none of a unit."""
    said = [span for span in spans if not part.text[slice(*span)].isspace()]
    starts, ends = np.asarray(said, np.int64).reshape(-1, 2).T
    begun = np.searchsorted(starts, part.bounds[1:], side="left")
    return begun > np.searchsorted(ends, part.bounds[:-1], side="right")

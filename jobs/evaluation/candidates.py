"""`Budgeted`: a compressor that is told for each prompt how many tokens its context may keep.

So that sets, methods and the peer compare, a size is always a number of tokens of the joined context, in one tokenizer
for all; instruction and question stay whole and do not count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np

from jobs.evaluation.rows import EvalRow, template_of
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import QUESTION, Candidate
from jobs.peer import Peer, PeerPromptError, PeerSettings, peer_copy
from lingua.budget.fidelity import Original
from lingua.compressor import Compressor, compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Program
from lingua.errors import ModelError, PromptError
from lingua.methods.ranking import Computed, load_ranker
from lingua.models.source import resolve
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected, join_parts
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import SourceTokenizer, TargetTokenizer, load_target
from lingua.text.words import slices


class Budgeted(Compressor):
    """Also its tokenizer is of interest: weights come only with settings that need them."""

    @property
    def own_tokenizer(self) -> SourceTokenizer:
        return self._tokenizer

    def compress_to(self, prompts: Iterable[tuple[Prompt, int]], counter: TargetTokenizer) -> Iterator[Outcome]:
        """Compress each prompt until its joined context has so many tokens of `counter`, whatever the settings say.

        One outcome for each, in their order.
        """

        def program(prompt: Prompt, budget: int) -> Program[CompressedPrompt]:
            whole = counter.count(join_parts(prompt.context, prompt.separator))
            target = max(1, counter.count(prompt.text) - max(0, whole - budget))
            config = self._drafter.config.model_copy(update={"rate": None, "target_token": target})
            return compress_one(prompt, replace(self._drafter, config=config, target=counter))

        engine: Engine[CompressedPrompt] = Engine(self._scorer, cache=self._cache)
        for result in engine.run(program(*one) for one in prompts):
            yield Rejected(result.reason, result.detail) if isinstance(result, PromptError) else result


def budget_of(size: float, tokens: int) -> int:
    """Tokens that a context of so many may keep: a share of them, or above 1 a number."""
    return min(tokens, int(size)) if size > 1 else max(min(1, tokens), int(size * tokens + 1e-9))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row whose context of `tokens` tokens may keep `budget` of them; `size` is what was asked for, None: all."""

    row: EvalRow
    tokens: int
    budget: int
    size: float | None

    @property
    def rate(self) -> float:
        """The share, for who is asked by one: as it was asked for, or what comes to the budget."""
        if self.size is not None and self.size <= 1:
            return self.size
        return min(1.0, self.budget / max(1, self.tokens))


class Workbench:
    """All candidates of an evaluation in one process. Close it."""

    def __init__(self, config: EvalConfig) -> None:
        self._config = config
        self._models: dict[str, Budgeted] = {}
        self._ready: dict[str, Budgeted] = {}
        self._rankers: dict[str, Computed] = {}
        self._open = ExitStack()

    def close(self) -> None:
        self._open.close()

    @cached_property
    def counter(self) -> TargetTokenizer:
        return load_target(self._config.tokenizer, self._model(self._config.model).own_tokenizer)

    def original(self, row: EvalRow) -> Original:
        return Original.of(self._model(self._config.model).own_tokenizer.encode(list(row.context)))

    def compress(self, candidate: Candidate, wanted: Sequence[Wanted]) -> Iterator[str | Rejected]:
        """What is left of each context, in their order, as they are done. Raises ModelError, PeerError."""
        match candidate.kind:
            case "full":
                return (whole(one.row) for one in wanted)
            case "nothing":
                return ("" for _ in wanted)
            case "peer":
                return (self._by_peer(candidate, one) for one in wanted)
            case "sentences":
                return (self._by_sentences(candidate.settings[QUESTION], one) for one in wanted)
        return self._by_us(candidate, wanted)

    def _by_us(self, candidate: Candidate, wanted: Sequence[Wanted]) -> Iterator[str | Rejected]:
        if candidate.name not in self._ready:
            model = self._model(candidate.model or self._config.model)
            self._ready[candidate.name] = cast(Budgeted, model.using(candidate.config()))
        prompts = [(template_of(one.row).original(one.row), one.budget) for one in wanted]
        outcomes = self._ready[candidate.name].compress_to(prompts, self.counter)
        for (prompt, _), outcome in zip(prompts, outcomes, strict=True):
            yield outcome if isinstance(outcome, Rejected) else join_parts(outcome.context, prompt.separator)

    def _model(self, name: str) -> Budgeted:
        """The compressor of this model, with its tokenizer alone."""
        if name not in self._models:
            settings = {one: getattr(self._config, one) for one in ("device", "dtype", "gpu_memory", "gpu_share")}
            self._models[name] = Budgeted(name, CompressionConfig(method="truncate"), **settings)
        return self._models[name]

    def _by_peer(self, candidate: Candidate, wanted: Wanted) -> str | Rejected:
        """The library is shown the context alone, so that its rate is of the context; the question where it asks."""
        options: dict[str, Any] = {"rate": wanted.rate, **candidate.settings}
        prompt = Prompt(context=wanted.row.context)
        if QUESTION in options:
            prompt, options["concate_question"] = replace(prompt, question=wanted.row.question), False
        try:
            return self._peer.compress(prompt, options).text
        except PeerPromptError as error:
            return Rejected("peer_failed", str(error))

    def _by_sentences(self, method: str, wanted: Wanted) -> str:
        """Whole sentences, those nearest to the question first, as many as fit, each where it stood."""
        if method not in self._rankers:
            if not isinstance(ranker := load_ranker(method, self._config.device), Computed):
                raise TypeError(f"{method} ranks whole prompts, not texts")
            self._rankers[method] = ranker
        strings = (slices(text, sentence_edges(text)) for text in wanted.row.context)
        sentences = [(string, one) for string, found in enumerate(strings) for one in found if one.strip()]
        relevance = self._rankers[method].relevance(wanted.row.question, [one for _, one in sentences])
        separator, kept = template_of(wanted.row).separator, list[int]()
        for index in np.argsort(-relevance, kind="stable").tolist():
            more = sorted([*kept, index])
            if self.counter.count(_rejoined([sentences[one] for one in more], separator)) <= wanted.budget:
                kept = more
        return _rejoined([sentences[one] for one in kept], separator)

    @cached_property
    def _peer(self) -> Peer:
        """The library with the model as its older transformers can read it."""
        from lingua.models.load import choose_device, choose_dtype, converted  # torch is loaded where models run

        config, source = self._config, converted(resolve(self._config.model))
        if not source.local:
            raise ModelError(f"the peer needs a model directory, not the hub id {source.name!r}; download it first")
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="lingua-peer-"))
        copy = peer_copy(Path(source.location), Path(folder, "model"))
        device = choose_device(config.device)
        dtype = str(choose_dtype(config.dtype, device)).removeprefix("torch.")
        settings = PeerSettings(str(copy), str(device), dtype)
        return self._open.enter_context(closing(Peer(settings, config.peer_python, config.peer_path)))


def _rejoined(sentences: Sequence[tuple[int, str]], separator: str) -> str:
    """Sentences in their order, those of one string (the number beside each) together."""
    strings = groupby(sentences, key=itemgetter(0))
    return join_parts(["".join(one for _, one in group).strip() for _, group in strings], separator)


def whole(row: EvalRow) -> str:
    """A row's whole context as it stands in the prompt."""
    return join_parts(row.context, template_of(row).separator)

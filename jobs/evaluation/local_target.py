"""`LocalTarget`: a transformers model in this process as a target.

An answer's log-likelihood is asked of the same scorer that compresses: rows packed without padding, the prompt's keys
and values shared between its right answers, logits at the answer's positions only, in float32. Text is generated
greedily. A prompt beyond the model's window loses its oldest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from operator import itemgetter

from jobs.generation import plain_attention, written
from lingua.engine.engine import Engine
from lingua.engine.score import Context, Program, Score
from lingua.errors import PromptError
from lingua.models.causal import PackedScorer
from lingua.models.load import Loader
from lingua.models.sizing import USUAL, Allowance
from lingua.models.trial import causal_scorer
from lingua.text.tokens import SourceTokenizer

AT_ONCE = 8


class LocalTarget:
    """What `loader` loads, called `name`. Raises ModelError."""

    scores = True

    def __init__(self, name: str, loader: Loader, allowance: Allowance = USUAL) -> None:
        self.name = name
        self._spelling = loader.tokenizer()
        self._tokenizer = SourceTokenizer(self._spelling)
        self._head = () if self._tokenizer.bos is None else (self._tokenizer.bos,)
        self._model = loader.causal()
        self._scorer = causal_scorer(self._model, allowance)

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) of each pair, in nats, summed over the answer's tokens.

        Equal prompts that follow each other are computed once.
        """
        pairs = groupby(zip(prompts, answers, strict=True), key=itemgetter(0))
        asked = [(prompt, [self._ids(answer) for _, answer in group]) for prompt, group in pairs]
        engine: Engine[list[float]] = Engine(self._scorer)
        found = list[float]()
        for values in engine.run(self._likelihoods(self._ids(prompt), own) for prompt, own in asked):
            if isinstance(values, PromptError):
                raise values
            found += values
        return found

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt: greedy, cut before the first of the `stop` strings."""
        rows = [self._fitting(self._ids(prompt), max_tokens) for prompt in prompts]
        plain = plain_attention(self._model) if isinstance(self._scorer, PackedScorer) else nullcontext(self._model)
        with plain as model:
            return written(model, self._spelling, rows, stop, AT_ONCE, max_new_tokens=max_tokens)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode([text])[0].ids.tolist()
        return ids

    def _likelihoods(self, prompt: list[int], answers: list[list[int]]) -> Program[list[float]]:
        """The program of one prompt and all its answers."""
        ids, sums = self._fitting(prompt, max(map(len, answers))), list[float]()
        context = Context(self._head, ids[len(self._head) :])
        for answer in answers:  # one after the other: the next finds the prompt's keys and values there
            (surprisal,) = yield [Score(context, answer)]
            sums.append(float(surprisal.sum(dtype="float64")))
        return sums

    def _fitting(self, ids: list[int], room: int) -> list[int]:
        """The start token and as much of the prompt's end as leaves `room` tokens of the window."""
        fits = max(1, self._scorer.window - room - len(self._head))
        return [*self._head, *ids[-fits:]]

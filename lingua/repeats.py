"""Equal prompts are compressed once: those that follow the first of them get its outcome.

A corpus repeats itself, above all one of conversations or of joined tables. What is on its way is shared too, as
outcomes come in the order of the prompts: when a later one's turn comes, the first is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from lingua.errors import PromptError
from lingua.memory import Store
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from lingua.score import Program

KNOWN_BYTES = 1 << 26
"""Of outcomes that are remembered."""
_OUTCOME, _CHARACTER, _SPAN = 500, 4, 128
"""Bytes of an outcome, of each character of its texts and of each kept span, at most."""


@dataclass(slots=True, eq=False)
class Place:
    """Where the outcome of equal prompts will be once the first of them is done."""

    outcome: Outcome | None = None

    @property
    def filled(self) -> Outcome:
        if self.outcome is None:
            raise RuntimeError("an outcome was asked for before its prompt was done")
        return self.outcome


class Repeats:
    """Makes programs of prompts for one run; `known` holds the outcomes of earlier runs under the same settings."""

    def __init__(self, known: Store[Outcome], compress: Callable[[Prompt], Program[CompressedPrompt]]) -> None:
        self._known = known
        self._compress = compress
        self._open: dict[bytes, Place] = {}

    def program(self, prompt: Prompt) -> Program[Place]:
        """The prompt's program for the engine; of a repeated one, a program that asks for nothing."""
        key = _digest(prompt)
        known = self._known.get(key)
        if known is not None:
            return _at_once(Place(known))
        if key in self._open:
            return _at_once(self._open[key])
        self._open[key] = Place()
        return self._first(key, prompt)

    def _first(self, key: bytes, prompt: Prompt) -> Program[Place]:
        place = self._open[key]
        try:
            place.outcome = yield from self._compress(prompt)
        except PromptError as error:
            place.outcome = Rejected(error.reason, error.detail)
        self._known.put(key, place.filled, size_of(place.filled))
        del self._open[key]
        return place


def size_of(outcome: Outcome) -> int:
    """Bytes that an outcome takes, from above."""
    if isinstance(outcome, Rejected):
        return _OUTCOME + _CHARACTER * len(outcome.detail)
    texts = (outcome.text, outcome.instruction, outcome.question, *outcome.context)
    spans = len(outcome.kept_spans) + sum(map(len, outcome.kept_spans))
    return _OUTCOME + _CHARACTER * sum(map(len, texts)) + _SPAN * spans


def _at_once(place: Place) -> Program[Place]:
    yield from ()
    return place


def _digest(prompt: Prompt) -> bytes:
    return hashlib.blake2b(repr(prompt).encode(), digest_size=16).digest()
